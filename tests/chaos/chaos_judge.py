"""Judges what a schedule has left in its folder: faults as sentences, none if all is well."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

from chaos_play import Course, steps
from chaos_schedule import Schedule
from chaos_trainable import MAX_T, loss, trouble_of
from ray import tune

from jobs_ray.tune.results import load_session


def heard(folder: Path) -> Counter[str]:
    """How many results of each trial the driver has got, by the files of Ray's JSON logger."""
    found: Counter[str] = Counter()
    for file in folder.glob("**/result.json"):
        for line in file.read_text("utf-8").splitlines():
            with suppress(ValueError):  # half a line
                found[json.loads(line)["trial_id"]] += 1
    return found


def _again(lines: list[tuple[str, int, int]], concurrent: int) -> int:
    """Steps that were trained again after the last trial was handed out: what is paid for them was not foreseen.

    When the last one was handed out, at least one of the `concurrent` before it had trained its first step. A promotion
    that went on from a checkpoint, and goes back to before it, trains again what its short run had trained.
    """
    firsts: dict[str, int] = {}
    starts: dict[str, int] = {}
    for number, (trial, t, _) in enumerate(lines):
        firsts.setdefault(trial, number)
        starts.setdefault(trial, t)
    since = sorted(firsts.values())[-concurrent - 1 :][0] if len(firsts) > concurrent else 0
    known = {(trial, t) for trial, t, _ in lines[:since]}
    later = [(trial, t) for trial, t, _ in lines[since:]]
    return len(later) - sum(t >= starts[trial] for trial, t in set(later) - known)


def judge(schedule: Schedule, course: Course, folder: Path) -> list[str]:
    """What is wrong with the finished experiment."""
    faults = list(course.faults)
    if faults:
        return faults
    session = load_session(course.path)
    rows = {row["trial_id"]: row for row in session.report()["trials"]}
    trained = Counter(trial for trial, _, _ in steps(folder))
    theirs = [trial.trial_id for trial in tune.ExperimentAnalysis(str(course.path)).trials]

    unknown = set(trained) - set(rows)
    if unknown & set(theirs) or (unknown and not course.unheard):
        faults.append(f"trials {sorted(unknown)} trained {[trained[i] for i in sorted(unknown)]} steps and are lost")
    if set(theirs) - set(rows):
        faults.append(f"Ray has trials {sorted(set(theirs) - set(rows))}, the search has not")
    if len(theirs) != len(set(theirs)):
        faults.append(f"Ray has a trial twice: {theirs}")

    budget = session.core.budget
    spent = budget.spent * MAX_T
    known = sum(number for trial, number in trained.items() if trial in rows)
    # a process that reports the same t again is not charged: it may well report many times an epoch
    each = Counter(line for line in steps(folder) if line[0] in rows)
    iterations = schedule.time_attr == "training_iteration"  # which go on when a trainable goes back
    same = 0 if iterations else sum(number - 1 for number in each.values())
    results = heard(folder)
    delivered = sum(results[trial] for trial in rows)
    charged = {i: (row["charged"] * MAX_T, trained[i], results[i], row["status"]) for i, row in rows.items()}
    wrong = {i: found for i, found in charged.items() if abs(found[0] - found[1]) > 1e-6}
    if not -1e-6 <= known - spent <= course.lost + same + 1e-6:
        faults.append(f"{known} steps trained, {spent:g} charged, {course.lost} may be unheard: {wrong}")
    # every result that Ray has given to the driver is paid: what is unheard is none of them
    if delivered - spent > course.abandoned + same + 1e-6:
        faults.append(f"{delivered} results in Ray's files, {spent:g} charged, {same} at the same t: {wrong}")
    again = _again(steps(folder), schedule.concurrent)
    # a trial that Ray runs anyway after a restore may report once
    anyway = course.anyway if any(leg.restore for leg in schedule.legs) else 0
    if spent > schedule.budget * MAX_T + again + anyway + 1e-6:
        faults.append(f"{spent:g} steps charged of a budget of {schedule.budget * MAX_T:g}, {again} again at the end")
    running = [i for i, row in rows.items() if row["status"] == "running"]
    if running:
        faults.append(f"trials {running} still run in the books")
    if budget.total is not None and not running and spent < (schedule.budget - 1.5) * MAX_T and not course.unspent:
        failures = [row for row in rows.values() if row["status"] == "failed"]
        if len(failures) < len(rows):
            faults.append(f"the search ended with {spent:g} of {schedule.budget * MAX_T:g} steps spent")

    for i, row in rows.items():
        if row["final"] is None or (iterations and trouble_of(row["config"]) == "back once"):
            continue
        if (i, MAX_T) not in {(trial, t) for trial, t, _ in steps(folder)}:
            faults.append(f"trial {i} has a final value, but was never trained to the end")
        expected = loss(row["config"]["x"], MAX_T)
        if abs(row["final"] - expected) > 1e-9:
            faults.append(f"trial {i} has the final value {row['final']}, and reported {expected}")
    sources = Counter(row["promotes"] for row in rows.values() if row["promotes"] and row["status"] != "failed")
    if twice := [source for source, number in sources.items() if number > 1]:
        faults.append(f"short runs {twice} were promoted twice")

    finals = {i: row["final"] for i, row in rows.items() if row["final"] is not None and row["status"] != "failed"}
    found = session.recommendation()
    if finals:
        best = min(finals, key=lambda i: finals[i])
        if found is None or not found.confirmed or rows[found.trial_id]["final"] > finals[best] + 1e-6:
            faults.append(f"recommended {found}, the best confirmed is {best} with {finals[best]}")
    elif found is not None and found.confirmed:
        faults.append(f"recommended {found} as confirmed, but no full run is")
    return faults
