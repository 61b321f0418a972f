"""JoBSSearcher as a drop-in on a real Ray: both kinds of trainable, with and without the scheduler."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from ray import tune
from tune_trainables import STEPS, Class, function, half

from jobs_ray import JoBSScheduler, JoBSSearcher

SPACE = {"x": tune.uniform(0.0, 1.0), "deep": {"n": tune.randint(1, 4)}, "fixed": [1, "a"]}


# every combination; a function needs a new actor for each trial, so most of its combinations run by `make slow`
QUICK = {(True, 1, "min"), (False, 8, "max")}
MATRIX = [
    pytest.param(
        trainable,
        *case,
        marks=[pytest.mark.slow] if trainable is function and case not in QUICK else [],
        id=f"{name}-{case}",
    )
    for name, trainable in (("function", function), ("class", Class))
    for case in itertools.product([False, True], [1, 8, None], ["min", "max"])
]


@pytest.mark.parametrize(("trainable", "scheduled", "concurrent", "mode"), MATRIX)
def test_runs_to_the_end(
    fit: Callable[..., tune.ResultGrid],
    trainable: Any,
    scheduled: bool,
    concurrent: int | None,
    mode: str,
) -> None:
    searcher = JoBSSearcher(max_t=STEPS, seed=0) if scheduled else JoBSSearcher()
    results = fit(
        half(trainable),  # eight fit on the four CPUs of the tests
        SPACE,
        searcher,
        JoBSScheduler() if scheduled else None,
        metric="loss" if mode == "min" else "score",
        mode=mode,
        num_samples=20,
        max_concurrent_trials=concurrent,
        reuse_actors=trainable is Class,
    )
    assert len(results) == 20
    assert not results.errors
    lengths = sorted(result.metrics["training_iteration"] for result in results)
    assert lengths[-1] == STEPS
    assert (lengths[0] < STEPS) == scheduled
    assert all(result.config["fixed"] == [1, "a"] for result in results)
    assert all(type(result.config["deep"]["n"]) is int for result in results)
    report = searcher.report()
    assert [row["status"] for row in report["trials"]].count("running") == 0
    assert sum(len(row["curve"]) for row in report["trials"]) == sum(lengths)
