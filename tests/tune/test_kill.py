"""`kill -9` of the driver in each phase, then Tuner.restore: nothing lost, nothing counted twice, the same search."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kill_driver import TRIALS, tuner
from ray import tune
from tune_trainables import STEPS, Paced, half

from jobs_ray import recommend
from jobs_ray.trials import StateError
from jobs_ray.tune.results import load_session

# A driver that is killed never closes its files; what Ray restores of it warns of that
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(scope="module")
def unbroken(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The trials of the same search, run without interruption."""
    storage = tmp_path_factory.mktemp("unbroken")
    tuner(str(storage)).fit()
    rows = load_session(storage / "run").report()["trials"]
    assert len(rows) == TRIALS
    assert {row["phase"] for row in rows} == {"learn", "search", "confirm"}
    return rows


def essence(rows: list[dict[str, Any]]) -> list[Any]:
    """Configurations (without what the two drivers set differently), phases and curves, in order."""
    return [
        ({k: v for k, v in row["config"].items() if k != "slow_while"}, row["phase"], row["steps"], row["curve"])
        for row in rows
    ]


def kill_in_phase(address: str, storage: Path, phase: str) -> list[dict[str, Any]]:
    """Runs the driver until a trial of the phase trains, kills it, and returns the trials as last saved."""
    driver = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("kill_driver.py")), address, str(storage)],
        env=os.environ | {"TUNE_GLOBAL_CHECKPOINT_S": "0.2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            assert driver.poll() is None, "the driver ended before it was killed"
            rows = saved(storage)
            if any(row["phase"] == phase and row["status"] == "running" and row["curve"] for row in rows):
                os.kill(driver.pid, signal.SIGKILL)
                return rows
            time.sleep(0.05)
        raise AssertionError(f"no trial of phase {phase!r} was seen")
    finally:
        driver.kill()
        driver.wait()


def saved(storage: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = load_session(storage / "run").report()["trials"]
    except (FileNotFoundError, StateError):  # not there yet, or Ray is just copying it
        return []
    return rows


SLOW = pytest.mark.slow


@pytest.mark.parametrize("phase", [pytest.param("learn", marks=SLOW), "search", pytest.param("confirm", marks=SLOW)])
def test_restored_after_kill_9(cluster: str, tmp_path: Path, unbroken: list[dict[str, Any]], phase: str) -> None:
    before = kill_in_phase(cluster, tmp_path, phase)
    assert recommend(tmp_path / "run") is not None  # the process that ran it is gone
    (tmp_path / "slow").unlink()
    tune.Tuner.restore(str(tmp_path / "run"), trainable=half(Paced)).fit()
    session = load_session(tmp_path / "run")
    rows = session.report()["trials"]
    assert essence(rows) == essence(unbroken)
    assert len({row["trial_id"] for row in rows}) == TRIALS
    ended = {row["trial_id"] for row in before if row["status"] != "running"}
    assert ended <= {row["trial_id"] for row in rows}
    # the ledger continues: what the killed trial had trained was trained once more, and is charged
    once = sum(row["charged"] for row in unbroken)
    spent = session.core.budget_spent
    assert once <= spent <= once + 1.0 + 1.0 / STEPS


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_restored_without_a_usable_state_of_the_search(
    cluster: str, tmp_path: Path, unbroken: list[dict[str, Any]], damage: str
) -> None:
    """Every trial is intact in Ray's files: the search is built anew from them, and goes on as it would have."""
    kill_in_phase(cluster, tmp_path, "search")
    [state] = (tmp_path / "run").glob("searcher-state-*.pkl")
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-30])
    else:
        state.unlink()
        for copy in Path("/tmp/ray").glob(f"session_*/artifacts/*/run/driver_artifacts/{state.name}"):
            copy.unlink()
    (tmp_path / "slow").unlink()
    tune.Tuner.restore(str(tmp_path / "run"), trainable=half(Paced)).fit()
    assert essence(load_session(tmp_path / "run").report()["trials"]) == essence(unbroken)
