"""The same training function under Ray: in a reused Tune actor, and in a group of workers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import train, tune
from ray.cluster_utils import Cluster
from ray.train import ScalingConfig

from jobs_ray import JoBSScheduler, JoBSSearcher
from jobs_ray.lm import LmEval, PruneCheckpoints, Task, load, run, trainable
from jobs_ray.lm.group import worker
from jobs_ray.lm.resume import RUN_FILE

pytestmark = pytest.mark.filterwarnings(
    "default::ResourceWarning",
    "default::FutureWarning",
    "default::DeprecationWarning",
    "ignore:.*torch.jit.script.*:DeprecationWarning",  # linear_operator, when the search imports it; as in pyproject
)


def fit(what: Any, space: dict[str, Any], folder: Path, *, callbacks: list[Any] | None = None, **settings: Any) -> Any:
    settings = {"metric": "eval_loss", "mode": "min", "max_concurrent_trials": 1, **settings}
    return tune.Tuner(
        what,
        param_space=space,
        tune_config=tune.TuneConfig(**settings),
        run_config=tune.RunConfig(storage_path=str(folder), name="x", verbose=0, callbacks=callbacks or []),
    ).fit()


def curve(result: Any) -> dict[int, float]:
    frame = result.metrics_dataframe
    return dict(zip(frame["step"].tolist(), frame["eval_loss"].tolist(), strict=True))


def free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


@pytest.fixture
def another_ray() -> Iterator[None]:
    """Somebody else's Ray on this machine."""
    other = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield
    other.shutdown()


def test_actor_reuse_prefix_resume_and_pruning(cluster: None, make_task: Callable[..., Task], tmp_path: Path) -> None:
    task = make_task()
    what = trainable(task)
    expected = {r["step"]: r["eval_loss"] for r in run(task, {"lr": 1e-3})}
    space = {"lr": 1e-3, "max_steps": tune.grid_search([6, 12, 3])}
    results = fit(what, space, tmp_path / "a", reuse_actors=True)
    assert not results.errors
    assert len({r.metrics["pid"] for r in results}) == 1
    for result in results:
        steps = result.config["max_steps"]
        assert curve(result) == pytest.approx({s: v for s, v in expected.items() if s <= steps}, abs=1e-5)
        assert result.checkpoint is not None
    short, full = results[0], results[1]
    assert short.metrics["startup_s"]["imports"] > 0.0
    assert full.metrics["startup_s"]["imports"] == 0.0
    model, _ = load(full.checkpoint.path)
    assert model.config.hidden_size == 32

    space = {"lr": 1e-3, "max_steps": 12, "resume_from": short.checkpoint.path}
    results = fit(what, space, tmp_path / "b", reuse_actors=True, callbacks=[PruneCheckpoints(task.max_steps)])
    assert curve(results[0]) == pytest.approx({s: v for s, v in expected.items() if s > 6}, abs=1e-5)
    assert not Path(short.checkpoint.path).exists()
    assert Path(results[0].checkpoint.path).exists()
    assert Path(full.checkpoint.path).exists()


@pytest.mark.slow
def test_a_failed_trial_says_why_and_the_next_one_runs(
    cluster: None, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    task = make_task(trainer_args={"max_grad_norm": 0.0, "optim": "sgd"}, eval_every=2)
    results = fit(trainable(task), {"lr": tune.grid_search([1e30, 1e-3])}, tmp_path, reuse_actors=True)
    assert "the run diverged" in str(results[0].error)
    assert results[1].error is None
    assert results[1].metrics["step"] == 12


@pytest.mark.slow
def test_the_same_curve_in_a_group_of_two(
    cluster: None, make_task: Callable[..., Task], harness_tasks: Path, tmp_path: Path
) -> None:
    task = make_task(eval_every=6, lm_eval=LmEval(["animals_or_numbers"], limit=None, include_path=str(harness_tasks)))
    reports = run(task, {})
    expected = {r["step"]: r["eval_loss"] for r in reports}
    before = free_cpus()
    what = trainable(task, ScalingConfig(num_workers=2))
    [result] = fit(what, {}, tmp_path)
    assert result.error is None
    assert curve(result) == pytest.approx(expected, abs=1e-4)
    harness = "lm_eval_animals_or_numbers_acc"
    assert result.metrics[harness] == pytest.approx(reports[-1][harness], abs=0.051)  # one of 20 may tip over
    model, _ = load(result.checkpoint.path)
    assert sum(p.numel() for p in model.parameters()) > 1000
    assert free_cpus() == before


@pytest.mark.slow
def test_a_group_says_why_it_failed_and_the_next_one_resumes(
    cluster: None, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    task = make_task(trainer_args={"max_grad_norm": 0.0, "optim": "sgd"})
    expected = {r["step"]: r["eval_loss"] for r in run(task, {"lr": 1e-3})}
    run(task, {"lr": 1e-3, "max_steps": 6}, keep=tmp_path / "short")
    before = free_cpus()
    what = trainable(task, ScalingConfig(num_workers=2))
    space = {"max_steps": 12, "lr": tune.grid_search([1e30, 1e-3])}
    space["resume_from"] = tune.sample_from(lambda spec: str(tmp_path / "short") if spec.config.lr < 1 else None)
    failed, resumed = fit(what, space, tmp_path / "x")
    assert "the run diverged" in str(failed.error)
    assert resumed.error is None
    assert curve(resumed) == pytest.approx({s: v for s, v in expected.items() if s > 6}, abs=1e-4)
    model, _ = load(resumed.checkpoint.path)
    assert sum(p.numel() for p in model.parameters()) > 1000
    assert free_cpus() == before


@pytest.mark.slow
def test_a_group_ends_at_its_last_step_though_its_best_came_before(
    cluster: None, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    task = make_task(lr=1e-2, schedule="constant")
    config = {"mixture": {"numbers": 1.0}}  # learns one language and is judged on the other
    expected = {r["step"]: r["eval_loss"] for r in run(task, config)}
    assert min(expected, key=expected.__getitem__) < 12
    [result] = fit(trainable(task, ScalingConfig(num_workers=1), group=True), config, tmp_path)
    assert result.error is None
    assert result.metrics["step"] == 12
    assert curve(result) == pytest.approx(expected, abs=1e-4)
    assert json.loads((Path(result.checkpoint.path) / RUN_FILE).read_text())["step"] < 12


def test_a_group_that_is_lost_after_its_last_step_has_ended(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its last report and the copy of its checkpoint into the trial's folder: minutes for a large model. The
    worker of the group that starts again is called here as Ray Train would."""
    task = make_task()
    [*_, last] = run(task, {"max_steps": 6}, keep=tmp_path / "kept")
    monkeypatch.setattr(train, "get_checkpoint", lambda: train.Checkpoint.from_directory(str(tmp_path / "kept")))
    found = worker({"task": task, "config": {"max_steps": 6}, "name": "x"})
    assert {name: found[name] for name in ("step", "eval_loss")} == {"step": 6, "eval_loss": last["eval_loss"]}
    assert "done" not in found  # Tune would end the trial before its group
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(train, "report", lambda metrics, checkpoint: reports.append(metrics))
    assert worker({"task": task, "config": {"max_steps": 9}, "name": "x"})["step"] == 9
    assert [report["step"] for report in reports] == [9]


@pytest.mark.slow
def test_a_killed_actor_goes_on_from_its_checkpoint(
    cluster: None, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    task = make_task(max_steps=150, eval_every=25, eval_rows=4, lr=1e-3, keep_optimizer=True)
    killed: list[int] = []

    class Kill(tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            if not killed and result["step"] >= 75 and trial.checkpoint is not None:
                killed.append(result["pid"])
                os.kill(result["pid"], signal.SIGKILL)

    [result] = tune.Tuner(
        trainable(task),
        param_space={},
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            name="x",
            verbose=0,
            callbacks=[Kill()],
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    ).fit()
    assert killed
    assert result.error is None
    assert result.metrics["step"] == 150
    assert result.metrics["pid"] != killed[0]
    assert curve(result)[150] == pytest.approx(run(task, {})[-1]["eval_loss"], abs=1e-4)


@pytest.mark.slow
def test_a_group_that_the_scheduler_stops_gives_its_workers_back(
    cluster: None, another_ray: None, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    """DESIGN 5.10: without the State API the stopped group keeps both CPUs, and the second trial waits for ever. So it
    does where Ray's cleaner finds several Rays on the machine and does not know which is its own."""
    task = make_task(max_steps=800, eval_every=20, eval_rows=4)
    before = free_cpus()
    # no steps_key: runs do not end themselves
    searcher = JoBSSearcher(max_t=800, short_t=100, time_attr="step", seed=0)
    short, full = fit(
        trainable(task, ScalingConfig(num_workers=2)),
        {"lr": tune.loguniform(1e-4, 1e-2)},
        tmp_path,
        num_samples=2,
        search_alg=searcher,
        scheduler=JoBSScheduler(),
        time_budget_s=500,
    )
    assert (short.error, full.error) == (None, None)
    assert 100 <= short.metrics["step"] < 800
    assert full.metrics["step"] == 800  # its promotion, in the same two CPUs
    assert [row["status"] for row in searcher.report()["trials"]] == ["stopped", "completed"]
    deadline = time.monotonic() + 60
    while free_cpus() < before and time.monotonic() < deadline:
        time.sleep(0.5)  # Ray frees them a moment after the controller has gone
    assert free_cpus() == before
