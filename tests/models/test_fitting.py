"""Models as last fitted: what Ray's loop asks of them is answered without a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_runs import MAX_T, SPACE, loss, make, search

from jobs_ray import Decision, JoBSOptimizer, ScalingLawPredictor, SearchSpace
from jobs_ray.models.fitting import ModelCache, predict
from jobs_ray.trials import LearningCurve, Phase, Trial


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("something is fitted")


def forbid_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs_ray.models.heads.fit_heads", refuse)
    monkeypatch.setattr("jobs_ray.models.surrogate.fit_surrogate", refuse)


def trial(name: str, x: Any, times: list[float]) -> Trial:
    space = SearchSpace(SPACE)
    config = space.decode(x)
    curve = LearningCurve(tuple(times), tuple(-loss(config, t) for t in times))
    return Trial(name, config, tuple(x.tolist()), Phase.SEARCH, MAX_T, curve=curve)


def test_as_fitted_the_longest_prefix_that_is_ready_is_predicted_from_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space, times = SearchSpace(SPACE), [float(t) for t in range(1, int(MAX_T) + 1)]
    X = space.sample(9, np.random.default_rng(0))
    full = [trial(f"full-{i}", x, times) for i, x in enumerate(X[:6])]
    fitted = ScalingLawPredictor().fit(space.features(X[:6]), [t.curve for t in full], MAX_T)
    same, longer, late = (
        trial("same", X[6], [1, 2, 3]),
        trial("longer", X[7], [1, 2, 3, 4, 5]),
        trial("late", X[8], [4]),
    )
    cache = ModelCache(predictor=fitted)
    expected = predict(space, [same], fitted, cache)["same"]  # fits the heads at t = 3
    forbid_fits(monkeypatch)
    found = predict(space, [same, longer, late], fitted, cache.frozen())
    assert set(found) == {"same", "longer"}  # of the late one, nothing is known up to t = 3
    assert found["same"] == expected
    prefix = fitted.predict(space.features(X[7:8]), [longer.curve.up_to(3.0)])
    assert found["longer"] == (float(prefix.mean[0]), float(prefix.stddev[0]))
    assert set(cache.predictions) == {"same"}


def test_what_needs_no_fit_is_predicted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Ray's loop a short run at its end is predicted for people, and for the question whether to go on with it."""
    space, times = SearchSpace(SPACE), [float(t) for t in range(1, int(MAX_T) + 1)]
    X = space.sample(8, np.random.default_rng(0))
    full = [trial(f"full-{i}", x, times) for i, x in enumerate(X[:6])]
    fitted = ScalingLawPredictor().fit(space.features(X[:6]), [t.curve for t in full], MAX_T)
    cache = ModelCache(predictor=fitted)
    predict(space, [trial("other", X[6], [1, 2, 3])], fitted, cache)  # fits the heads at t = 3
    short = trial("short", X[7], [1, 2, 3])
    found = predict(space, [short], fitted, cache.frozen())
    monkeypatch.setattr("jobs_ray.models.predictor.FittedScalingLaw.predict", refuse)
    assert predict(space, [short], fitted, cache.frozen()) == predict(space, [short], fitted, cache) == found


def test_a_report_in_rays_loop_never_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer: JoBSOptimizer = make(budget=10.0)
    search(optimizer, most=20)
    asked = optimizer.ask("next")
    forbid_fits(monkeypatch)
    for t in range(1, 4):
        if optimizer.report("next", float(t), loss(asked.config, t), fit=False) is Decision.STOP:  # type: ignore[union-attr]
            break
    optimizer.prediction("next", fit=False)
    optimizer.predictor_quality(fit=False)
    assert optimizer.plan(fit=False) is not None
