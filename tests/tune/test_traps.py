"""What Ray 2.60 forces on a searcher and a scheduler (DESIGN section 5), each on a real Ray.

Each test fails on the naive version named in its docstring.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import ConcurrencyLimiter, Repeater
from ray.tune.search.optuna import OptunaSearch
from tune_trainables import STEPS, Class, Fragile, SlowStart, Troubled, function, half

from jobs_ray import JoBSScheduler, JoBSSearcher

SPACE = {"x": tune.uniform(0.0, 1.0)}
Fit = Callable[..., tune.ResultGrid]


class StopAllAfter(tune.Stopper):
    """Ends the whole experiment after so many results, in the middle of its trials."""

    def __init__(self, results: int) -> None:
        self.left = results

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.left -= 1
        return False

    def stop_all(self) -> bool:
        return self.left <= 0


def test_1_the_report_that_stops_a_trial_is_recorded_once(fit: Fit) -> None:
    """Naive: a searcher that records in on_trial_result only misses it; one that records twice charges twice."""
    searcher = JoBSSearcher(max_t=STEPS, short_t=3, seed=0)
    results = fit(half(Class), SPACE, searcher, JoBSScheduler(), reuse_actors=True, max_concurrent_trials=2)
    report = searcher.report()
    trained = sum(result.metrics["training_iteration"] for result in results)
    assert sum(len(row["curve"]) for row in report["trials"]) == trained
    assert report["budget"]["spent"] == pytest.approx(trained / STEPS)
    assert {result.metrics["training_iteration"] for result in results} == {3, STEPS}


def test_2_the_scheduler_finds_the_searcher_behind_a_limiter(fit: Fit) -> None:
    """Naive: `controller.search_alg.searcher` is the ConcurrencyLimiter."""
    searcher = JoBSSearcher(max_t=STEPS, short_t=2, seed=0)
    results = fit(
        half(Class), SPACE, ConcurrencyLimiter(searcher, max_concurrent=2), JoBSScheduler(), reuse_actors=True
    )
    assert min(result.metrics["training_iteration"] for result in results) == 2


def test_2_the_very_first_trial_is_a_short_run_already(fit: Fit) -> None:
    """Naive: a scheduler that attaches when it first sees the controller comes after the first suggestion."""
    searcher = JoBSSearcher(space=SPACE, max_t=STEPS, short_t=2, seed=0)
    [result] = fit(half(Class), {}, searcher, JoBSScheduler(), num_samples=1)
    assert searcher.report()["trials"][0]["steps"] == 2
    assert result.metrics["training_iteration"] == 2


def test_2_without_the_scheduler_after_a_run_with_it(fit: Fit) -> None:
    """Naive: a flag that the first run's scheduler left set makes the second run's trials short ones."""
    fit(half(Class), SPACE, JoBSSearcher(max_t=STEPS, seed=0), JoBSScheduler(), num_samples=1)
    searcher = JoBSSearcher(SPACE, "loss", "min", max_t=STEPS, seed=0)
    [result] = fit(half(Class), {}, searcher, num_samples=1)
    assert searcher.report()["trials"][0]["steps"] in (None, STEPS)
    assert result.metrics["training_iteration"] == STEPS


@pytest.mark.parametrize("search_alg", [None, OptunaSearch(seed=0)], ids=["none", "optuna"])
def test_2_another_searcher_is_refused_with_the_fix(fit: Fit, search_alg: Any) -> None:
    with pytest.raises(Exception, match=r"search_alg=JoBSSearcher\(\), scheduler=JoBSScheduler\(\)"):
        fit(half(Class), SPACE, search_alg, JoBSScheduler(), num_samples=1)


def test_3_whatever_a_trial_reports_the_experiment_goes_on(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naive: `float(result[metric])` in on_trial_result ends the whole fit() with one trial's NaN or missing key."""
    monkeypatch.setenv("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    kinds = ["nan", "inf", "-inf", "missing", "text", "fine"]
    points = [{"x": 0.5, "trouble": kind} for kind in kinds]
    searcher = JoBSSearcher(max_t=STEPS, short_t=3, seed=0, points_to_evaluate=points)
    space = SPACE | {"trouble": tune.choice(kinds)}
    results = fit(
        half(Troubled), space, searcher, JoBSScheduler(), num_samples=6, max_concurrent_trials=1, reuse_actors=True
    )
    assert len(results) == 6
    assert not results.errors
    rows = {row["config"]["trouble"]: row for row in searcher.report()["trials"]}
    assert rows["fine"]["status"] in ("stopped", "completed")
    assert {rows[kind]["status"] for kind in kinds if kind != "fine"} == {"failed"}


def test_4_a_crashed_trial_leaves_its_partial_curve(fit: Fit) -> None:
    """Naive: on_trial_complete(result=None, error=True) drops what was reported before."""
    searcher = JoBSSearcher(max_t=STEPS, seed=0)
    results = fit(half(Fragile), SPACE | {"fail_at": 4}, searcher, num_samples=2)
    assert len(results.errors) == 2
    for row in searcher.report()["trials"]:
        assert row["status"] == "failed"
        assert [t for t, _ in row["curve"]] == [1.0, 2.0, 3.0]
        assert row["charged"] == pytest.approx(3 / STEPS)


def test_4_with_max_failures_the_curve_is_not_counted_twice(fit: Fit, tmp_path: Any) -> None:
    """Naive: the restarted trial reports from 1 again, which appends a second curve."""
    searcher = JoBSSearcher(max_t=STEPS, seed=0)
    space = SPACE | {"fail_at": 4, "fail_once": str(tmp_path / "failed")}
    results = fit(
        half(Fragile),
        space,
        searcher,
        num_samples=1,
        run_config={
            "failure_config": tune.FailureConfig(max_failures=1),
            "checkpoint_config": tune.CheckpointConfig(checkpoint_at_end=False),
        },
    )
    assert not results.errors
    [row] = searcher.report()["trials"]
    assert [t for t, _ in row["curve"]] == [float(t) for t in range(1, STEPS + 1)]
    assert row["charged"] == pytest.approx((STEPS + 3) / STEPS)  # three steps were trained twice


# Ray never ends the trials it stops at a time budget, so its own loggers leave their files open
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "ended_by",
    # Tune makes a stopper of all trials of a time budget; ours needs no clock, so it need not wait for slow actors
    [pytest.param("time_budget_s", marks=pytest.mark.slow), "stop_all"],
)
def test_4_time_budget_ends_the_run_and_the_state_is_whole(fit: Fit, ended_by: str) -> None:
    """Naive: trials that were running at `stop_all` never get on_trial_complete."""
    searcher = JoBSSearcher(max_t=10_000, seed=0)
    started = time.monotonic()
    fit(
        half(Class),
        SPACE | {"sleep": 0.05, "steps": 10_000},
        searcher,
        JoBSScheduler(),
        num_samples=-1,
        max_concurrent_trials=2,
        time_budget_s=25 if ended_by == "time_budget_s" else None,
        run_config={"stop": StopAllAfter(results=40)} if ended_by == "stop_all" else {},
    )
    assert time.monotonic() - started < 120  # it ends by the time budget, not by its 10,000 steps
    assert searcher.recommendation() is not None
    assert searcher.report()["budget"]["spent"] > 0
    gc.collect()  # here, not in a later test


def test_6_every_key_arrives_in_the_trainable_as_python_values(fit: Fit) -> None:
    """Naive: a key that `suggest` leaves out stays a Domain object in the config."""
    space = {
        "x": tune.uniform(0.0, 1.0),
        "n": tune.randint(0, 2),
        "c": {"k": "v"},
        "o": tune.choice([{"a": tune.randn()}]),
    }
    searcher = JoBSSearcher(seed=0, steps_key="steps", max_t=2)
    for result in fit(half(Class), space, searcher, num_samples=2, reuse_actors=True):
        config = result.config
        assert set(config) == {"x", "n", "c", "o", "steps"}
        assert [type(config[key]) for key in ("x", "n", "steps")] == [float, int, int]
        assert type(config["o"]["a"]) is float


def test_6_objects_among_the_choices_arrive(fit: Fit) -> None:
    """Naive: Ray replaces them by placeholders; a searcher that rebuilds options breaks the link."""
    arrays = [np.zeros(2), np.ones(3)]
    searcher = JoBSSearcher(seed=0, metric="loss", mode="min")
    results = fit(
        half(Class),
        SPACE | {"steps": 1, "a": tune.choice(arrays)},
        searcher,
        num_samples=3,
        max_concurrent_trials=1,
        reuse_actors=True,
    )
    assert {result.config["a"].shape for result in results} <= {(2,), (3,)}
    assert all(isinstance(result.config["a"], np.ndarray) for result in results)


def test_7_nothing_is_ever_paused(fit: Fit) -> None:
    """Naive: promotion by PAUSE deadlocks with a limiter; here a promoted configuration is a new trial."""
    searcher = JoBSSearcher(max_t=STEPS, short_t=2, budget=3, seed=0)
    results = fit(
        half(Class), SPACE, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=1, reuse_actors=True
    )
    rows = searcher.report()["trials"]
    promoted = [row for row in rows if row["promotes"]]
    assert promoted
    assert {row["trial_id"] for row in rows} == {result.metrics["trial_id"] for result in results}
    assert searcher.recommendation().confirmed
    assert searcher.report()["budget"]["spent"] <= 3 + 1e-6


@pytest.mark.slow
def test_8_no_configuration_is_chosen_while_the_cluster_is_full(fit: Fit) -> None:
    """Naive: without max_concurrent_trials Ray asks for one trial more than run, before the running ones report."""
    seen: list[tuple[int, int]] = []

    class Watching(JoBSSearcher):
        def suggest(self, trial_id: str) -> Any:
            ended = 0 if self._session is None else self.session.ended
            answer = super().suggest(trial_id)
            if isinstance(answer, dict):
                seen.append((len(self.session.core.trials), ended))
            return answer

    whole_cluster = tune.with_resources(Class, {"cpu": 4})
    fit(whole_cluster, SPACE | {"steps": 3}, Watching(seed=0), num_samples=3)
    assert seen == [(1, 0), (2, 1), (3, 2)]


def test_8_waiting_for_a_suggestion_does_not_cost_a_second(fit: Fit) -> None:
    """Naive: None with nothing running makes Ray sleep for a second each time."""
    waits: list[float] = []

    class Timed(JoBSSearcher):
        def suggest(self, trial_id: str) -> Any:
            answer = super().suggest(trial_id)
            waits.append(answer is None and not self.session.live)
            return answer

    fit(half(Class), SPACE | {"steps": 2}, Timed(seed=0), num_samples=8, max_concurrent_trials=1, reuse_actors=True)
    assert not any(waits)


def test_9_saving_and_pickling_with_a_computation_under_way(fit: Fit, tmp_path: Any) -> None:
    """Naive: a thread or a lock as an attribute makes the Tuner unpicklable."""
    searcher = JoBSSearcher(seed=0)
    fit(half(Class), SPACE | {"steps": 1}, searcher, num_samples=2, max_concurrent_trials=1, reuse_actors=True)
    tuner = tune.Tuner(
        Class,
        param_space=SPACE,
        tune_config=tune.TuneConfig(metric="loss", mode="min", search_alg=searcher, num_samples=1),
        run_config=tune.RunConfig(name="again", storage_path=str(tmp_path), verbose=0),
    )
    assert (tmp_path / "again" / "tuner.pkl").exists()
    assert tuner.get_results is not None


def test_10_reused_actors_of_a_function_are_refused(fit: Fit) -> None:
    """Naive: the function that was stopped still waits in its actor, and the next trial dies."""
    with pytest.raises(Exception, match="reuse_actors=True does not work with a function trainable"):
        fit(function, SPACE, JoBSSearcher(max_t=STEPS), JoBSScheduler(), reuse_actors=True)


@pytest.mark.slow
def test_repeater_averages_whole_trials(fit: Fit) -> None:
    """Naive: the scheduler stops one of the repeats, whose mean then mixes short and full runs."""
    searcher = JoBSSearcher(max_t=STEPS, short_t=2, seed=0)
    results = fit(
        half(Class),
        SPACE,
        Repeater(searcher, repeat=2),
        JoBSScheduler(),
        num_samples=4,
        max_concurrent_trials=2,
        reuse_actors=True,
    )
    assert {result.metrics["training_iteration"] for result in results} == {STEPS}
    rows = searcher.report()["trials"]
    assert len(rows) == 2
    assert all(row["final"] is not None for row in rows)


def test_a_trial_stopped_by_a_stopper_counts(fit: Fit) -> None:
    searcher = JoBSSearcher(max_t=STEPS, seed=0)
    results = fit(
        half(Class),
        SPACE,
        searcher,
        JoBSScheduler(),
        num_samples=2,
        run_config={"stop": {"training_iteration": 1}},
        reuse_actors=True,
    )
    assert {result.metrics["training_iteration"] for result in results} == {1}
    assert [row["status"] for row in searcher.report()["trials"]] == ["stopped", "stopped"]


def test_fifo_in_ray_is_not_changed_by_us(fit: Fit) -> None:
    results = fit(half(Class), SPACE | {"steps": 1}, None, FIFOScheduler(), num_samples=1, reuse_actors=True)
    assert not any(key.startswith("jobs/") for key in results[0].metrics)


@pytest.mark.parametrize("trainable", [pytest.param(function, marks=pytest.mark.slow), Class])
def test_trials_cut_by_another_scheduler_are_not_final(
    fit: Fit, trainable: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """ASHA without max_t: runs of several lengths, of which only the longest are confirmed."""
    searcher = JoBSSearcher(seed=0)
    fit(
        half(trainable),
        SPACE,
        searcher,
        ASHAScheduler(max_t=STEPS, grace_period=2, reduction_factor=2),
        num_samples=12,
        max_concurrent_trials=1,
        reuse_actors=trainable is Class,
    )
    rows = searcher.report()["trials"]
    lengths = {row["curve"][-1][0] for row in rows}
    assert len(lengths) > 1
    assert all((row["final"] is not None) == (row["curve"][-1][0] == STEPS) for row in rows)
    found = searcher.recommendation()
    assert found is not None
    assert found.confirmed
    assert capsys.readouterr().out.count("are not final, their final values are predicted") == 1


def test_a_function_that_stops_early_by_itself_is_final(fit: Fit) -> None:
    searcher = JoBSSearcher(seed=0, points_to_evaluate=[{"steps": 3}, {"steps": STEPS}])
    fit(half(function), SPACE | {"steps": tune.choice([3, STEPS])}, searcher, num_samples=2, max_concurrent_trials=2)
    rows = searcher.report()["trials"]
    assert {row["curve"][-1][0] for row in rows} == {3.0, float(STEPS)}
    assert all(row["final"] is not None for row in rows)


class UntilTwoTrain(tune.Stopper):
    """Ends the experiment when two processes have reported, or after a minute and a half."""

    def __init__(self) -> None:
        self.pids: set[int] = set()
        self.end = time.monotonic() + 90.0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.pids.add(result["pid"])
        return False

    def stop_all(self) -> bool:
        return len(self.pids) == 2 or time.monotonic() > self.end


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Ray's, where a stopper ends the experiment
@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_a_slow_start_is_let_finish_where_actors_are_reused(fit: Fit, tmp_path: Path) -> None:
    """Naive: the oldest pending trial is next. Ray gives it the actor that became free, and ends its own, which starts;
    with trials shorter than a start the second slot never trains one."""
    space = SPACE | {"marker": str(tmp_path / "first"), "sleep": 0.02}
    stopper = UntilTwoTrain()
    fit(
        SlowStart, space, JoBSSearcher(max_t=STEPS, seed=0), JoBSScheduler(), num_samples=1000,
        max_concurrent_trials=2, reuse_actors=True, run_config={"stop": stopper},
    )  # fmt: skip
    gc.collect()  # of the trials that were stopped, here where their loggers' open files may be warned of
    assert len(stopper.pids) == 2
