"""`jobs/*` in TensorBoard, MLflow and W&B, all offline: with no more than their usual callback, as the page has it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from tune_trainables import STEPS, Class, half

from jobs_ray import JoBSScheduler, JoBSSearcher

KEYS = ("jobs/phase_number", "jobs/budget_spent")
DOCS = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"


def callbacks_of(logger: str) -> list[Any]:
    """Those of the page's block that names the logger, run as it stands there."""
    [block] = [b for b in re.findall(r"^```python\n(.*?)^```$", DOCS.read_text("utf-8"), re.M | re.S) if logger in b]
    names: dict[str, Any] = {}
    exec(block, names)
    found: list[Any] = names["run_config"].callbacks
    return found


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
def test_mlflow(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)  # its data base
    results = search(tmp_path, *callbacks_of("MLflowLoggerCallback"))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    runs = mlflow.MlflowClient(uri).search_runs([mlflow.MlflowClient(uri).get_experiment_by_name("jobs").experiment_id])
    assert len(runs) == len(results)
    assert all(set(KEYS) <= set(run.data.metrics) for run in runs)
    assert any(math.isfinite(run.data.metrics.get("jobs/predicted", math.nan)) for run in runs)


@pytest.mark.slow
def test_wandb_offline(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):  # not logged in; set first, so that what the block sets is taken back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    search(tmp_path, *callbacks_of("WandbLoggerCallback"), num_samples=2)  # a process each
    # Ray ends the last trial's logger before it has written anything: that file holds its head only
    logs = [log for path in tmp_path.rglob("*.wandb") if len(log := path.read_bytes()) > 100]
    assert logs
    assert all(key.encode() in log for log in logs for key in KEYS)
