"""A user's own BoTorch model and acquisition function through the Tuner; what they are given is in tests/search."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botorch.acquisition import LogExpectedImprovement
from botorch.models import SingleTaskGP
from ray import tune
from tune_trainables import STEPS, Class, half

from jobs_ray import JoBSScheduler, JoBSSearcher, recommend

SPACE = {"x": tune.uniform(0.0, 1.0)}
Fit = Callable[..., tune.ResultGrid]
CALLS = {"surrogate": 0, "acquisition": 0}


def surrogate(train_X: Any, train_Y: Any, train_Yvar: Any) -> Any:
    CALLS["surrogate"] += 1
    return SingleTaskGP(train_X, train_Y, train_Yvar)


def acquisition(model: Any, best_f: float, X_pending: Any) -> Any:
    CALLS["acquisition"] += 1
    return LogExpectedImprovement(model, best_f=best_f)


def out_of_ideas(*args: Any) -> Any:
    raise RuntimeError("out of ideas")


def run(fit: Fit, **hooks: Any) -> tuple[JoBSSearcher, list[dict[str, Any]]]:
    searcher = JoBSSearcher(max_t=STEPS, short_t=2, budget=4, seed=0, **hooks)
    results = fit(
        half(Class), SPACE, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=1, reuse_actors=True
    )
    assert not results.errors
    found = searcher.recommendation()
    assert found is not None
    assert found.confirmed
    rows = searcher.report()["trials"]
    assert {row["phase"] for row in rows} == {"learn", "search", "confirm"}
    return searcher, rows


def test_the_hooks_decide_in_a_fit_and_restoring_without_them_says_so(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CALLS.update(surrogate=0, acquisition=0)
    with caplog.at_level(logging.WARNING, "jobs_ray"):
        searcher, _ = run(fit, surrogate=surrogate, acquisition=acquisition)
        assert min(CALLS.values()) > 0
        assert recommend(tmp_path / "run") == searcher.recommendation()
        JoBSSearcher(surrogate=surrogate, acquisition=acquisition).restore_from_dir(str(tmp_path / "run"))
        assert not caplog.messages
        without = JoBSSearcher(acquisition=acquisition)
        without.restore_from_dir(str(tmp_path / "run"))
    assert without.recommendation() == searcher.recommendation()
    [said] = caplog.messages
    assert f"the saved search had the surrogate '{__name__}.surrogate'" in said
    assert "it goes on with 'the one of jobs-ray'; pass the same surrogate=..." in said


@pytest.mark.parametrize("name", ["surrogate", "acquisition"])
def test_a_hook_that_raises_is_said_once_and_the_fit_ends_in_order(
    fit: Fit, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with caplog.at_level(logging.WARNING, "jobs_ray"):
        run(fit, **{name: out_of_ideas})
    [said] = [message for message in caplog.messages if "out of ideas" in message]
    assert f"{__name__}.out_of_ideas" in said
    assert "space-filling" in said
