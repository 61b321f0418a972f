"""A trial that runs and never reports: said once, waited for by nobody, ended by `trial_timeout_s`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from tune_trainables import STEPS, Class

from jobs_ray import JoBSScheduler, JoBSSearcher
from jobs_ray.tune.pulse import Pulse


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def report(search: JoBSSearcher, clock: Clock, name: str, to: int) -> None:
    """Reports 1 ... `to`, one in ten seconds, and ends."""
    for t in range(1, to + 1):
        clock.now += 10.0
        result = {"loss": 1.0 / t, "training_iteration": t, "node_ip": "n", "pid": name, "iterations_since_restore": t}
        search.record(name, result)
    search.on_trial_complete(name, result)


def test_the_search_goes_on_without_a_silent_trial(caplog: pytest.LogCaptureFixture) -> None:
    """In LEARN the best short run is promoted when none runs any more: one that never reports held it up for ever."""
    clock = Clock()
    space = {"x": tune.uniform(0.0, 1.0)}
    search = JoBSSearcher(space, "loss", "min", max_t=12, short_t=3, budget=10, seed=0, steps_key="steps")
    search.session.pulse = Pulse(clock)
    search.suggest("silent")

    def left() -> float:
        money = search.report()["budget"]
        return float(money["total"] - money["committed"])

    for number in range(100):
        answer = search.suggest(f"t{number}")
        while answer is None and clock.now < 5000 and left() > 0.75:  # the background thread, or a phase that waits
            clock.now += 1.0
            search.see([])
            time.sleep(0.01)
            answer = search.suggest(f"t{number}")
        if not isinstance(answer, dict):
            break
        report(search, clock, f"t{number}", int(search.session.core.trials[f"t{number}"].grant or 0))
    money = search.report()["budget"]
    assert money["committed"] - money["spent"] == pytest.approx(3 / 12)  # what it may still train
    assert left() < 0.75  # pays for no promotion
    assert caplog.text.count("trial silent has been silent for") == 1
    assert "several times as long as is usual" in caplog.text
    search.record("silent", {"loss": 1.0, "training_iteration": 1})
    assert not search.session.core.trials["silent"].silent


def test_what_is_usual() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    pulse.start("slow")
    for number in range(6):
        pulse.start(f"t{number}")
        for t in range(3):
            clock.now += 20.0
            for _ in range(3):
                pulse.report(f"t{number}", t, t + 1.0)
    assert pulse.slow(["slow"]) == ["slow"]  # 360 s, and 20 are usual
    assert pulse.slow(["t5"]) == []
    assert pulse.report("slow", 0, 1.0) == 0
    clock.now += 99.0
    assert pulse.slow(["slow"]) == []
    clock.now += 2.0
    assert pulse.slow(["slow"]) == ["slow"]
    pulse.drop("slow")
    assert pulse.slow(["slow"]) == []


class Hangs(Class):
    """The first trial to get there hangs at its second step."""

    def step(self) -> dict[str, Any]:
        marker = Path(self.config["folder"]) / "hung"
        if self.t == 1 and not marker.exists():
            marker.touch()
            time.sleep(300)
        return super().step()


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "force_s"), [(1, None), (2, None), (1, "1")])
def test_a_trial_that_hangs_is_ended_in_time(
    fit: Callable[..., tune.ResultGrid],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slots: int,
    force_s: str | None,
) -> None:
    """Ray would give its process to the next trial, and to the next: with one slot nothing more was trained. Or it
    would let it have its place, here all there is, or half of it, for 600 s, unless the user has set another time."""
    if force_s is not None:
        monkeypatch.setenv("TUNE_FORCE_TRIAL_CLEANUP_S", force_s)
    # ten seconds for the process that hangs, and then an actor may take ten to start
    searcher = JoBSSearcher(max_t=STEPS, short_t=3, budget=3, seed=0, trial_timeout_s=40)
    start = time.monotonic()
    fit(
        tune.with_resources(Hangs, {"cpu": 4 / slots}),
        {"x": tune.uniform(0.0, 1.0), "folder": str(tmp_path)},
        searcher,
        JoBSScheduler(),
        num_samples=-1,
        max_concurrent_trials=slots,
        reuse_actors=True,
    )
    assert time.monotonic() - start < 250
    rows = searcher.report()["trials"]
    assert {row["status"] for row in rows} <= {"stopped", "completed"}
    assert sorted(len(row["curve"]) for row in rows)[:2] == [1, 3]
    assert searcher.report()["budget"]["spent"] > 2.0
