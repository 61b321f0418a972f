"""`resume_key`: a promoted trial goes on from the checkpoint that its short run left, and the ledger says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem
from ray import tune
from tune_trainables import (
    STEPS,
    Class,
    checkpointing,
    checkpointing_in_a_bucket,
    function,
    half,
    in_a_bucket,
    like_ray_train,
)

from jobs_ray import JoBSScheduler, JoBSSearcher

SPACE = {"x": tune.uniform(0.0, 1.0)}
Fit = Callable[..., tune.ResultGrid]


def promotions(searcher: JoBSSearcher) -> list[dict[str, Any]]:
    found = [row for row in searcher.report()["trials"] if row["promotes"]]
    assert found
    return found


def run(fit: Fit, trainable: Any, space: dict[str, Any], time_attr: str, **config: Any) -> Any:
    searcher = JoBSSearcher(max_t=STEPS, short_t=5, budget=2, seed=0, resume_key="resume_from", time_attr=time_attr)
    results = fit(half(trainable), space, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=2, **config)
    assert searcher.report()["budget"]["spent"] <= 2 + 1e-9
    return searcher, {result.metrics["trial_id"]: result for result in results}


@pytest.mark.parametrize("time_attr", ["training_iteration", pytest.param("step", marks=pytest.mark.slow)])
def test_function_resumes_from_its_last_checkpoint(fit: Fit, time_attr: str) -> None:
    searcher, results = run(fit, checkpointing, SPACE, time_attr)
    for row in promotions(searcher):
        result = results[row["trial_id"]]
        assert result.metrics["start"] == 4  # checkpoints at 2 and 4, stopped at 5
        assert Path(result.config["resume_from"]).is_dir()
        assert row["curve"][-1][0] == STEPS  # absolute, though Ray counted from 1 again
        assert row["resumed_from"] == row["promotes"]
        assert row["charged"] == pytest.approx((STEPS - 4) / STEPS)


def test_class_resumes_from_the_checkpoint_at_its_end(fit: Fit) -> None:
    searcher, results = run(fit, Class, SPACE, "training_iteration", reuse_actors=True)
    for row in promotions(searcher):
        result = results[row["trial_id"]]
        assert result.metrics["step"] == STEPS
        assert result.metrics["training_iteration"] == STEPS - 5
        assert row["charged"] == pytest.approx((STEPS - 5) / STEPS)
        assert [t for t, _ in row["curve"]] == [float(t) for t in range(1, STEPS + 1)]


@pytest.mark.slow
def test_the_checkpoint_path_of_a_ray_train_run_is_taken_from_its_metrics(fit: Fit, tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    searcher, results = run(fit, like_ray_train, SPACE | {"folder": str(folder)}, "step")
    for row in promotions(searcher):
        assert results[row["trial_id"]].metrics["start"] == 4
        assert row["charged"] == pytest.approx((STEPS - 4) / STEPS)


@pytest.mark.parametrize("trainable", [checkpointing_in_a_bucket, pytest.param(in_a_bucket, marks=pytest.mark.slow)])
def test_a_storage_without_local_paths_hands_out_checkpoints(fit: Fit, tmp_path: Path, trainable: Any) -> None:
    """The bare path of a bucket names nothing on a worker: what is handed out carries its file system."""
    (tmp_path / "bucket").mkdir()
    bucket = SubTreeFileSystem(str(tmp_path / "bucket"), LocalFileSystem())
    searcher, results = run(fit, trainable, SPACE, "step", run_config={"storage_filesystem": bucket})
    for row in promotions(searcher):
        result = results[row["trial_id"]]
        assert result.error is None
        assert result.metrics["start"] == 4
        assert row["charged"] == pytest.approx((STEPS - 4) / STEPS)
        assert not Path(result.config["resume_from"].path).exists()  # it is nowhere on this machine


def test_without_a_checkpoint_the_promotion_is_a_whole_run(fit: Fit) -> None:
    searcher, results = run(fit, function, SPACE, "training_iteration")
    for row in promotions(searcher):
        assert results[row["trial_id"]].config["resume_from"] is None
        assert row["resumed_from"] is None
        assert row["charged"] == pytest.approx(1.0)


def test_a_deleted_checkpoint_is_not_handed_out(fit: Fit) -> None:
    """`num_to_keep`, a full disk, a tidy user: Tune's books still name the folder."""
    deleted = set()

    class Deleting(JoBSSearcher):
        def suggest(self, trial_id: str) -> Any:
            for trial in self._trials:
                if latest := trial.latest_checkpoint_result:  # in the books: nobody writes to it any more
                    shutil.rmtree(latest.checkpoint.path, ignore_errors=True)
                    deleted.add(latest.checkpoint.path)
            return super().suggest(trial_id)

    searcher = Deleting(max_t=STEPS, short_t=5, budget=3, seed=0, resume_key="resume_from")
    fit(
        half(Class),
        SPACE,
        searcher,
        JoBSScheduler(),
        num_samples=-1,
        max_concurrent_trials=1,
        reuse_actors=True,
    )
    assert deleted
    assert [row["resumed_from"] for row in promotions(searcher)] == [None] * len(promotions(searcher))
