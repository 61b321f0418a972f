"""The examples of Ray's docs for OptunaSearch (ray/tune/examples/optuna*.py), with the searcher replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ray import tune
from ray.tune.search import ConcurrencyLimiter
from ray_examples import easy_objective, half_cpu

from jobs_ray import JoBSSearcher
from jobs_ray.space import SpaceError

Fit = Callable[..., tune.ResultGrid]
SPACE = {"steps": 3, "width": tune.uniform(0, 20), "height": tune.uniform(-100, 100)}


def test_minimal_example_with_a_concurrency_limiter(fit: Fit) -> None:
    algo = ConcurrencyLimiter(JoBSSearcher(), max_concurrent=2)
    results = fit(half_cpu(easy_objective), SPACE, algo, metric="mean_loss", num_samples=2)
    assert len(results) == 2
    assert results.get_best_result().config["steps"] == 3


def test_example_with_initial_points_and_an_activation(fit: Fit) -> None:
    points = [{"width": 1, "height": 2, "activation": "relu"}, {"width": 4, "height": 2, "activation": "tanh"}]
    searcher = JoBSSearcher(points_to_evaluate=points)
    space = SPACE | {"activation": tune.choice(["relu", "tanh"])}
    results = fit(half_cpu(easy_objective), space, searcher, metric="mean_loss", num_samples=2)
    seen = [{key: result.config[key] for key in points[0]} for result in results]
    assert all(point in seen for point in points)


def test_conditional_example_as_nested_choices(fit: Fit) -> None:
    """The define-by-run example: `mult` exists for one activation only."""
    space = SPACE | {"head": tune.choice([{"activation": "relu", "mult": tune.uniform(1, 2)}, {"activation": "tanh"}])}
    points = [{"head": {"activation": "tanh"}}, {"head": {"activation": "relu"}}]
    searcher = JoBSSearcher(seed=1, points_to_evaluate=points)
    results = fit(half_cpu(easy_objective), space, searcher, metric="mean_loss", num_samples=2)
    assert {r.config["head"]["activation"] for r in results} == {"relu", "tanh"}
    assert all(("mult" in r.config["head"]) == (r.config["head"]["activation"] == "relu") for r in results)


def test_space_and_metric_in_the_constructor(fit: Fit) -> None:
    searcher = JoBSSearcher(SPACE, metric="mean_loss", mode="min")
    results = fit(half_cpu(easy_objective), {}, searcher, metric=None, mode=None, num_samples=1)
    assert len(results) == 1
    assert searcher.recommendation() is not None


def test_what_only_optuna_can_do_is_refused_with_a_way_out() -> None:
    def define_by_run(trial: Any) -> None:
        trial.suggest_float("width", 0, 20)

    with pytest.raises(SpaceError, match="define-by-run functions are not supported"):
        JoBSSearcher(define_by_run)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="report a weighted sum"):
        JoBSSearcher(SPACE, metric=["loss", "gain"], mode=["min", "max"])  # type: ignore[arg-type]
