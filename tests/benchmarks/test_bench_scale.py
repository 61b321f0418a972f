"""The simulated controller of benchmarks/scale.py calls in the order of the real one."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray import tune

from benchmarks.controller import Controller
from benchmarks.scale import Times, growth, run, train
from jobs_ray import JoBSScheduler, JoBSSearcher
from jobs_ray.tune import JoBSCallback

SPACE = {"mixture": {"code": tune.uniform(0.0, 1.0)}, "lr": tune.loguniform(1e-5, 1e-2)}
REPORTS, TRIALS = 6, 7


def loss(config: dict[str, Any], t: int) -> float:
    return float(config["mixture"]["code"] + 1e2 * config["lr"] + 1.0 / t)


class Trainable(tune.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.t = 0

    def step(self) -> dict[str, Any]:
        self.t += 1
        return {"loss": loss(self.config, self.t), "done": self.t >= REPORTS}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config, self.t = new_config, 0
        return True


class Notes:
    """The calls in their order, with the number of the trial."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self._numbers: dict[str, int] = {}

    def add(self, name: str, trial_id: str) -> None:
        self.calls.append((name, self._numbers.setdefault(trial_id, len(self._numbers))))


def noted(kind: type, name: str, notes: Notes) -> type:
    """A subclass that notes its calls as the simulated controller names them."""

    def note(method: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            answer = getattr(kind, method)(self, *args, **kwargs)
            trial = kwargs.get("trial") or next((arg for arg in args if hasattr(arg, "trial_id")), None)
            trial_id = kwargs.get("trial_id") or (args[0] if trial is None else trial.trial_id)
            if method != "suggest" or isinstance(answer, dict):
                notes.add(f"{name}.{method}", trial_id)
            return answer

        return call

    methods = ("suggest", "on_trial_add", "on_trial_result", "on_trial_complete", "on_trial_error")
    return type(kind.__name__, (kind,), {method: note(method) for method in methods if hasattr(kind, method)})


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.shutdown()
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    here = sys.modules[__name__]  # the workers cannot import it
    ray.cloudpickle.register_pickle_by_value(here)
    yield
    ray.cloudpickle.unregister_pickle_by_value(here)
    ray.shutdown()


@pytest.mark.slow
def test_in_the_order_of_ray(cluster: None, tmp_path: Path) -> None:
    real = Notes()
    searcher = noted(JoBSSearcher, "searcher", real)(max_t=REPORTS, seed=0)
    tune.Tuner(
        Trainable,
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=TRIALS,
            max_concurrent_trials=1,
            reuse_actors=True,
            search_alg=searcher,
            scheduler=noted(JoBSScheduler, "scheduler", real)(),
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(tmp_path),
            verbose=0,
            callbacks=[noted(JoBSCallback, "callback", real)(quiet=True)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()

    simulated = Notes()

    def watch(name: str, trial_id: str, seconds: float) -> None:
        if name == "searcher.suggest":
            return
        if name == "scheduler.on_trial_add":
            simulated.add("searcher.suggest", trial_id)
        if trial_id:
            simulated.add(name, trial_id)

    controller = Controller(
        again := JoBSSearcher(max_t=REPORTS, seed=0),
        SPACE,
        loss,
        watch,
        num_samples=TRIALS,
        in_flight=1,
        reports=REPORTS,
        lost_per_hour=0.0,
    )
    while controller.step():
        pass
    assert {name for name, _ in real.calls} == {name for name, _ in simulated.calls}
    assert simulated.calls == real.calls
    ours, theirs = again.report()["trials"], searcher.report()["trials"]
    assert [row["curve"] for row in ours] == [row["curve"] for row in theirs]
    assert any(row["phase"] == "confirm" for row in ours)


def test_a_row_of_the_table() -> None:
    row = run(trials=12, in_flight=4, reports=8, seed=0, limit_s=60.0)
    assert row["trials"] == 12
    assert row["suggest"][4] == 12
    assert row["complete"][4] == 12
    assert row["result"][4] == row["results"] > 12
    assert 2 < row["save"][4] <= 1 + row["hours"] * 3600 / 150  # ten results at four in flight, and at the end
    assert 0.0 < row["busy"] < 1.0
    assert row["growth"][0] > 0.0
    assert train({"mixture": {"a": 1.0, "b": 0, "c": 0, "d": 0}, "lr": 1e-3, "r": 8, "mlp": True}, 4) > 1.0


def test_growth_is_of_the_last_tenth_over_the_second() -> None:
    assert growth(np.repeat(np.arange(1.0, 11.0), 3)) == 5.0
    assert np.isnan(growth(np.ones(9)))


def test_what_a_collection_of_garbage_takes_is_told_apart() -> None:
    with Times() as times:
        for own in (False, True):
            gc.collect()  # before the call: none of its
            began = time.thread_time()
            while time.thread_time() < began + 0.01:
                pass
            if own:
                gc.collect()
            times.watch("callback.on_trial_result", "a", time.thread_time() - began)
    (without, nothing), (seconds, collected) = times.of["result"]
    assert nothing == 0.0
    assert 0.01 <= without <= times.total - seconds + 1e-9
    assert 0.0 < collected <= seconds - 0.01
    assert times._collects not in gc.callbacks
