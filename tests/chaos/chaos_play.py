"""Plays a schedule, and judges what is left in the folder: faults as sentences, none if all is well."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos_driver import drive
from chaos_schedule import Leg, Schedule
from chaos_trainable import MAX_T
from ray import tune

from jobs_ray.tune.results import load_session

LIMIT_S = 240.0
"""A leg that takes longer hangs: on a machine with ten times as many processes as cores they take 20 to 60 s."""


@dataclass
class Course:
    """What happened. `lost`: the most steps that may have been trained and never heard of."""

    path: Path
    lost: int = 0
    unheard: bool = False  # trials that started after the last save and were killed: neither Ray nor we know them
    unsaved: bool = False  # the last save found the disk full: what is in the folder is older than the run
    restarted: bool = False
    skipped: bool = False
    begun: set[Path] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def steps(folder: Path) -> list[tuple[str, int, int]]:
    """(trial, t, process) of every step that was trained."""
    try:
        lines = (folder / "steps").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(trial, int(t), int(pid)) for trial, t, pid in (line.split() for line in lines)]


def play(schedule: Schedule, address: str, folder: Path) -> Course:
    """All legs of the schedule."""
    course = Course(folder / "run")
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["chaos_driver"])
    for number, leg in enumerate(schedule.legs):
        if number:
            _between(leg, course, folder)
        course.restarted |= leg.restore.get("restart_errored", False)
        course.skipped |= not leg.restore.get("resume_unfinished", True)
        began = len(steps(folder))
        path = str(course.path) if (course.path / "tuner.pkl").exists() and number else None
        driver = forkserver.Process(target=drive, args=(address, str(folder), path, schedule, leg))
        driver.start()
        try:
            _watch(driver, schedule, leg, course, folder, began)
        finally:
            driver.kill()
            driver.join()
        anew = sorted(folder.glob("anew*/run"))
        if anew and course.path != anew[-1] and anew[-1] not in course.begun:
            _starts_anew(course, folder, anew[-1])
        if course.faults:
            break
    return course


def _starts_anew(course: Course, folder: Path, path: Path) -> None:
    """Ray's own files were torn. Another experiment goes on, by the last saved state: what was trained since is lost,
    and so are the checkpoints."""
    rows = load_session(course.path).report()["trials"] if list(course.path.glob("searcher-state-*")) else []
    trained = Counter(trial for trial, _, _ in steps(folder))
    course.begun.add(path)  # it may be moved
    course.path = path
    course.unheard = True
    course.lost += sum(trained[row["trial_id"]] for row in rows if row["status"] == "running")


def _watch(driver: Any, schedule: Schedule, leg: Leg, course: Course, folder: Path, began: int) -> None:
    deadline, interrupted, annoyed = time.monotonic() + LIMIT_S, False, False
    full = folder / "disk full"
    while driver.is_alive():
        time.sleep(0.05)
        if time.monotonic() > deadline:
            os.kill(driver.pid, signal.SIGUSR1)
            time.sleep(2.0)
            course.faults.append(f"the leg {leg} did not end within {LIMIT_S:g} s")
            return
        now = steps(folder)
        trained = len(now) - began
        if trained >= 1 and leg.nuisance != "none" and not annoyed:
            annoyed = True
            if leg.nuisance == "disk full":
                full.touch()
            elif _kill(now[-1][2]):
                course.lost += 1
        if full.exists() and trained >= max(leg.after - 1, 6):
            full.unlink()
        if leg.interruption is not None and trained >= leg.after and not interrupted:
            interrupted = True
            course.lost += schedule.concurrent
            _interrupt(driver.pid, leg, folder)
    course.unsaved = (folder / "unsaved").exists()
    full.unlink(missing_ok=True)
    for name in ("raise", "kill in save", "unsaved"):
        (folder / name).unlink(missing_ok=True)
    expected = {"kill driver": -9, "kill in save": -9}.get(leg.interruption or "")
    if leg.interruption is None and driver.exitcode != 0:
        course.faults.append(f"the last leg ended with {driver.exitcode}")
    if interrupted and expected is not None and driver.exitcode not in (expected, 0):
        course.faults.append(f"{leg} ended with {driver.exitcode}")
    # a callback that raises ends Ray without a last save
    course.unheard |= interrupted and leg.interruption in ("kill driver", "kill in save", "SIGTERM", "callback raises")


def _interrupt(pid: int, leg: Leg, folder: Path) -> None:
    if leg.interruption == "kill driver":
        os.kill(pid, signal.SIGKILL)
    elif leg.interruption in ("SIGINT", "SIGTERM"):
        os.kill(pid, getattr(signal, leg.interruption))
    elif leg.interruption == "callback raises":
        (folder / "raise").touch()
    elif leg.interruption == "kill in save":
        (folder / "kill in save").touch()


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _between(leg: Leg, course: Course, folder: Path) -> None:
    if leg.before == "move" and course.path.exists():
        moved = folder / f"moved{len(list(folder.glob('moved*')))}"
        moved.mkdir()
        course.path = course.path.rename(moved / "run")
    for state in sorted(course.path.glob("search_gen_state-*" if leg.after % 2 else "experiment_state-*")):
        if leg.before == "torn":
            state.write_bytes(b"")
    for state in sorted(course.path.glob("searcher-state-*.pkl")):
        if leg.before == "cut state":
            state.write_bytes(state.read_bytes()[:-30])
        if leg.before == "no state":
            state.unlink()
            for copy in Path("/tmp/ray").glob(f"session_*/artifacts/*/run/driver_artifacts/{state.name}"):
                copy.unlink()


def judge(schedule: Schedule, course: Course, folder: Path) -> list[str]:
    """What is wrong with the finished experiment."""
    faults = list(course.faults)
    if faults or course.unsaved:  # books that could not be written are no worse than their last save
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
    heard = sum(number for trial, number in trained.items() if trial in rows)
    # a process that reports the same t again is not charged: it may well report many times an epoch
    each = Counter(line for line in steps(folder) if line[0] in rows)
    same = sum(number - 1 for number in each.values())
    if not -1e-6 <= heard - spent <= course.lost + same + 1e-6:
        charged = {i: (row["charged"] * MAX_T, trained[i], row["status"]) for i, row in rows.items()}
        wrong = {i: c for i, c in charged.items() if abs(c[0] - c[1]) > 1e-6}
        faults.append(f"{heard} steps trained, {spent:g} charged, {course.lost} may be unheard: {wrong}")
    again = sum(trained.values()) - len({(trial, t) for trial, t, _ in steps(folder)})
    # a trial that Ray runs anyway after a restore may report once
    anyway = len(rows) if course.restarted or any(leg.restore for leg in schedule.legs) else 0
    if spent > schedule.budget * MAX_T + again + anyway + 1e-6:
        faults.append(f"{spent:g} steps charged of a budget of {schedule.budget * MAX_T:g}, {again} of them again")
    running = [i for i, row in rows.items() if row["status"] == "running"]
    if running:
        faults.append(f"trials {running} still run in the books")
    if budget.total is not None and not running and spent < (schedule.budget - 1.5) * MAX_T and not course.skipped:
        failures = [row for row in rows.values() if row["status"] == "failed"]
        if len(failures) < len(rows):
            faults.append(f"the search ended with {spent:g} of {schedule.budget * MAX_T:g} steps spent")

    finals = {i: row["final"] for i, row in rows.items() if row["final"] is not None and row["status"] != "failed"}
    found = session.recommendation()
    if finals:
        best = min(finals, key=lambda i: finals[i])
        if found is None or not found.confirmed or rows[found.trial_id]["final"] > finals[best] + 1e-6:
            faults.append(f"recommended {found}, the best confirmed is {best} with {finals[best]}")
    elif found is not None and found.confirmed:
        faults.append(f"recommended {found} as confirmed, but no full run is")
    return faults
