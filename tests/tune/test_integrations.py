"""`jobs/*` in TensorBoard, MLflow and W&B, all offline: with no more than their usual callback."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from tune_trainables import STEPS, Class, half

from jobs_ray import JoBSScheduler, JoBSSearcher

KEYS = ("jobs/phase_number", "jobs/budget_spent")


def search(tmp_path: Path, *callbacks: Any, num_samples: int = -1) -> tune.ResultGrid:
    """Enough full runs for a predictor before the last one ends."""
    return tune.Tuner(
        half(Class),
        param_space={"x": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=num_samples, max_concurrent_trials=2, reuse_actors=True,
            search_alg=JoBSSearcher(max_t=STEPS, short_t=2, budget=16, seed=0), scheduler=JoBSScheduler(),
        ),
        run_config=tune.RunConfig(name="run", storage_path=str(tmp_path), verbose=0, callbacks=list(callbacks) or None),
    ).fit()  # fmt: skip


@pytest.mark.slow
def test_tensorboard(cluster: str, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    predicted = 0
    for result in search(tmp_path):
        events = accumulator.EventAccumulator(result.path).Reload()
        tags = set(events.Tags()["scalars"])
        assert {f"ray/tune/{key}" for key in KEYS} <= tags
        predicted += "ray/tune/jobs/predicted" in tags
        spent = [event.value for event in events.Scalars("ray/tune/jobs/budget_spent")]
        assert spent == sorted(spent)
    assert predicted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # sqlalchemy's, at what mlflow does
def test_mlflow(cluster: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    results = search(tmp_path, MLflowLoggerCallback(tracking_uri=uri, experiment_name="jobs"))
    runs = mlflow.MlflowClient(uri).search_runs([mlflow.MlflowClient(uri).get_experiment_by_name("jobs").experiment_id])
    assert len(runs) == len(results)
    assert all(set(KEYS) <= set(run.data.metrics) for run in runs)
    assert any(math.isfinite(run.data.metrics.get("jobs/predicted", math.nan)) for run in runs)


@pytest.mark.slow
def test_wandb_offline(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from ray.air.integrations.wandb import WandbLoggerCallback

    monkeypatch.setenv("WANDB_MODE", "offline")
    search(
        tmp_path, WandbLoggerCallback(project="jobs", mode="offline", dir=str(tmp_path)), num_samples=2
    )  # a process each
    # Ray ends the last trial's logger before it has written anything: that file holds its head only
    logs = [log for path in tmp_path.rglob("*.wandb") if len(log := path.read_bytes()) > 100]
    assert logs
    assert all(key.encode() in log for log in logs for key in KEYS)
