"""Plays a schedule, and notes what has happened."""

from __future__ import annotations

import itertools
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

from jobs_ray import JoBSSearcher
from jobs_ray.trials import StateError
from jobs_ray.tune import recovery, statefile
from jobs_ray.tune.results import load_session

SIGTERM_EXIT = int(signal.SIGTERM)  # Ray ends a driver by `sys.exit` with it
# a process that has not ended 3 s after a SIGTERM, on a busy machine, is aborted by the handler that Ray installs
_ENDS = {"kill driver": {-9}, "kill in save": {-9}, "SIGTERM": {SIGTERM_EXIT, -signal.SIGABRT}, "callback raises": {1}}
LIMIT_S = 240.0
"""A leg that takes longer hangs: on a machine with ten times as many processes as cores they take 20 to 60 s."""


@dataclass
class Course:
    """What happened. `lost`: the most steps that may have been trained and never heard of."""

    path: Path
    lost: int = 0
    abandoned: int = 0  # of them, those of trials that ran when Ray's own files were torn
    unheard: bool = False  # trials that started after the last save and were killed: neither Ray nor we know them
    unsaved: bool = False  # the last save found the disk full: what is in the folder is older than the run
    anyway: int = 0  # trials that Ray went on with at a restore, whatever was left of the budget
    unspent: bool = False  # part of the budget may be left
    begun: set[Path] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)  # what was not only drawn, but took effect


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
    legs = list(schedule.legs)
    for number, leg in enumerate(legs):
        if number:
            _note(leg, course, folder)
            _between(leg, course, folder)
        course.unspent |= not leg.restore.get("resume_unfinished", True)
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
        if course.unsaved and leg is legs[-1]:  # the disk was full to the end: somebody makes room, and goes on
            legs.append(Leg(None, 0, "none", {}))
    course.happened.update(path.name.removeprefix("happened ") for path in folder.glob("happened *"))
    return course


def _note(leg: Leg, course: Course, folder: Path) -> None:
    """Which of the options of this leg's restore has something to do."""
    try:
        found = Counter(row["status"] for row in load_session(course.path).report()["trials"])
    except (StateError, OSError):  # not saved yet, or spoilt before an earlier leg
        found = Counter({"running": len({trial for trial, _, _ in steps(folder)})})
    course.anyway += found["running"] + found["failed"]
    course.happened["a restore amid trials"] += bool(found["running"])
    if not leg.restore.get("resume_unfinished", True):
        course.happened["resume_unfinished=False"] += bool(found["running"])
    for option in ("resume_errored", "restart_errored"):
        course.happened[option] += bool(leg.restore.get(option) and found["failed"])


def _starts_anew(course: Course, folder: Path, path: Path) -> None:
    """Ray's own files were torn. Another experiment goes on, by the last saved state: what was trained since is lost,
    and so are the checkpoints."""
    searcher, rows, again = JoBSSearcher(), [], set()
    for state in itertools.islice(recovery.states(str(course.path)), 1):  # none, if the schedule has cut them all
        searcher.restore(state)
        rows = searcher.report()["trials"]
        again = set(searcher.session.anyway)
    trained = Counter(trial for trial, _, _ in steps(folder))
    course.begun.add(path)  # it may be moved
    course.path = path
    course.unheard = True
    abandoned = sum(trained[row["trial_id"]] for row in rows if row["status"] == "running")
    # those that had ended, and that Ray trained once more
    abandoned += sum(
        trained[row["trial_id"]] - round(row["charged"] * MAX_T) for row in rows if row["trial_id"] in again
    )
    course.lost += abandoned
    course.abandoned += abandoned
    course.happened["another experiment went on"] += 1


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
                course.happened["kill worker"] += 1
        if full.exists() and trained >= max(leg.after - 1, 6):
            full.unlink()
        if leg.interruption is not None and trained >= leg.after and not interrupted:
            interrupted = True
            course.lost += schedule.concurrent
            _interrupt(driver.pid, leg, folder)
    course.unsaved = (folder / "unsaved").exists()
    full.unlink(missing_ok=True)
    _judge_save(course, folder)
    for name in ("raise", "kill in save", "unsaved", "saving"):
        (folder / name).unlink(missing_ok=True)
    # 0: it had ended before the interruption came (Tune ends in order at a SIGINT)
    ends = {0} | (_ENDS.get(leg.interruption or "", set()) if interrupted else set())
    if driver.exitcode not in ends:
        course.faults.append(f"the leg {leg} ended with {driver.exitcode}, expected {sorted(ends)}")
    if interrupted and leg.interruption is not None:
        course.happened[leg.interruption] += driver.exitcode != 0 or leg.interruption == "SIGINT"
    # a callback that raises ends Ray without a last save
    course.unheard |= interrupted and leg.interruption in ("kill driver", "kill in save", "SIGTERM", "callback raises")


def _judge_save(course: Course, folder: Path) -> None:
    """Whatever ended the driver, the file that it saved last is a whole one, the older or the newer."""
    saving = folder / "saving"
    path = Path(saving.read_text()) if saving.exists() else None
    if path is not None and path.is_file():  # the note may be half a path, or empty
        try:
            statefile.load(path)
        except StateError as error:
            course.faults.append(f"a save left half a file: {error}")


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
        course.happened["move"] += 1
    for state in sorted(course.path.glob("search_gen_state-*" if leg.after % 2 else "experiment_state-*")):
        if leg.before == "torn":
            state.write_bytes(b"")
            course.happened["torn"] += 1
    states, before = sorted(course.path.glob("searcher-state-*.pkl")), course.happened["cut state"]
    # only they knew what the experiments before have trained; one that had ended because of that stays ended
    all_go = leg.before == "no state" or (leg.before == "cut state" and (before > 0 or len(states) == 1))
    course.unspent |= all_go and bool(course.begun and states)
    for number, state in enumerate(states, 1):
        if leg.before == "cut state" and (number == len(states) or before):  # the first time an older one can be used
            state.write_bytes(state.read_bytes()[:-30])
            course.happened["cut state"] += 1
        if leg.before == "no state":
            course.happened["no state"] += 1
            state.unlink()
            for copy in Path("/tmp/ray").glob(f"session_*/artifacts/*/run/driver_artifacts/{state.name}"):
                copy.unlink()
