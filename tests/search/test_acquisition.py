"""Log expected improvement against quadrature and its asymptote; candidates are valid, distinct and useful."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from core_runs import SPACE
from core_spaces import spaces
from gpytorch.distributions import MultivariateNormal
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.stats import norm

from jobs_ray.models.fitting import FittedModels
from jobs_ray.models.hooks import Hooks
from jobs_ray.models.regression import Regression
from jobs_ray.models.scale import Scale
from jobs_ray.models.surrogate import Surrogate, fit_surrogate
from jobs_ray.search.acquisition import Score, _moves, acquisition, maximise
from jobs_ray.space import Categorical, Integer, Mixture, Real, SearchSpace


class Normal(Model):  # type: ignore[misc]
    """Each point's mean and standard deviation are its two coordinates."""

    num_outputs = 1

    def posterior(self, X: Any, **kwargs: Any) -> Any:
        mean, variance = X[..., 0, 0], X[..., 0, 1].square().clamp_min(1e-10)
        return GPyTorchPosterior(MultivariateNormal(mean.unsqueeze(-1), variance[:, None, None]))


def log_expected_improvement(mean: Any, stddev: Any, best: float) -> Any:
    """The acquisition function as the search uses it, at points of which the posterior is known."""
    model = Normal()
    surrogate = Surrogate(Regression(model, 0.0, 1.0), model)
    models = FittedModels(Scale(False), {}, lambda X: X, surrogate, best)
    return acquisition(models, Hooks())(np.column_stack([mean.ravel(), stddev.ravel()])).reshape(mean.shape)


def log_ei(u: Any) -> Any:
    """At mean u, stddev 1, best 0."""
    u = np.atleast_1d(np.asarray(u, dtype=float))
    return log_expected_improvement(u, np.ones_like(u), 0.0)


def tail(u: float, terms: int = 400) -> float:
    """log(phi(u) + u Phi(u)) for u < -3 by Laplace's continued fraction of Mills' ratio, in exact fractions.

    Phi(u) / phi(u) = 1 / (x + 1 / (x + 2 / (x + 3 / ...))) at x = -u; EI = phi (1 - x m), free of cancellation here.
    """
    x = Fraction(-u)
    m = x
    for n in range(terms, 0, -1):
        m = Fraction((x + n / m).limit_denominator(10**40))
    return -0.5 * u * u - 0.5 * math.log(2 * math.pi) + math.log(float(1 - x / m))


# -- log EI -----------------------------------------------------------------------------------------------------------


def test_it_is_the_logarithm_of_the_expected_improvement_where_that_is_safe() -> None:
    u = np.linspace(-4.0, 8.0, 400)
    np.testing.assert_allclose(log_ei(u), np.log(norm.pdf(u) + u * norm.cdf(u)), rtol=1e-9, atol=1e-9)


def test_it_is_the_mean_of_the_improvements_of_draws() -> None:
    draws = 1.0 + 2.0 * np.random.default_rng(0).standard_normal(400_000)
    expected = np.log(np.maximum(draws - 1.5, 0.0).mean())
    assert log_expected_improvement(np.array([1.0]), np.array([2.0]), 1.5)[0] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("u", [-4.0, -7.5, -20.0, -100.0, -999.0, -1001.0])
def test_it_is_exact_in_the_tail(u: float) -> None:
    assert log_ei(u)[0] == pytest.approx(tail(u), rel=1e-9, abs=1e-5)


def test_it_is_finite_and_monotone_in_far_tails() -> None:
    u = np.concatenate([-np.geomspace(1e8, 1e-3, 3000), np.geomspace(1e-3, 1e8, 500)])
    values = log_ei(u)
    assert np.all(np.isfinite(values))
    assert np.all(np.diff(values) > 0)


@pytest.mark.parametrize("u", [-1e7, -1e8, -1e9])
def test_it_has_the_right_limit_where_doubles_cancel(u: float) -> None:
    """log phi(u) - 2 log |u|, up to the rounding of u^2 / 2."""
    expected = -0.5 * u * u - 0.5 * math.log(2 * math.pi) - 2 * math.log(-u)
    assert log_ei(u)[0] == pytest.approx(expected, rel=4e-16, abs=0.1)


@pytest.mark.parametrize("seam", [-1.0, -1e3])
def test_its_branches_meet(seam: float) -> None:
    left, right = log_ei([np.nextafter(seam, -np.inf), np.nextafter(seam, 0.0)])
    assert left == pytest.approx(right, abs=1e-5)


def test_more_mean_and_more_stddev_are_better() -> None:
    mean, stddev = np.meshgrid(np.linspace(-5, 5, 21), np.geomspace(1e-2, 10, 21))
    values = log_expected_improvement(mean, stddev, 0.5)
    assert np.all(np.diff(values, axis=1) > 0)
    assert np.all(np.diff(values, axis=0)[mean[1:] < 0.5] > 0)


def test_certainty_is_allowed() -> None:
    below, above = log_expected_improvement(np.array([0.0, 2.0]), np.zeros(2), 1.0)
    assert math.isfinite(below)
    assert above == pytest.approx(0.0, abs=1e-6)
    assert below < -100


@examples(50)
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.floats(1e-2, 1e2))
def test_it_scales_with_the_unit(mean: float, stddev: float, best: float, unit: float) -> None:
    one = log_expected_improvement(np.array([mean]), np.array([stddev]), best)[0]
    other = log_expected_improvement(np.array([mean * unit]), np.array([stddev * unit]), best * unit)[0]
    assert other == pytest.approx(one + math.log(unit), rel=1e-6, abs=1e-6)


# -- the maximiser ----------------------------------------------------------------------------------------------------


def fitted(space: SearchSpace, n: int = 20, seed: int = 0) -> tuple[Surrogate, Any, Any]:
    rng = np.random.default_rng(seed)
    X = space.sample(n, rng)
    F = space.features(X)
    z = -((F - 0.3) ** 2).sum(axis=1) + 0.1 * rng.standard_normal(n)
    return fit_surrogate(F, z, np.zeros(n)), X, z


def log_ei_of(space: SearchSpace, surrogate: Surrogate, best: float) -> Score:
    return acquisition(FittedModels(Scale(False), {}, space.features, surrogate, best), Hooks())


def assert_valid(space: SearchSpace, x: Any) -> None:
    np.testing.assert_allclose(space.snap(x[None])[0], x, atol=1e-12)
    for block in space.blocks:
        parameter = block.parameter
        if isinstance(parameter, Mixture):
            weights = x[block.columns]
            assert abs(math.fsum(weights) - 1.0) <= 1e-9
            assert np.all(weights >= parameter.lower - 1e-12)
            assert np.all(weights <= parameter.upper + 1e-12)
    config = space.decode(x)
    np.testing.assert_allclose(space.encode(config), x, atol=1e-9)


@examples(10)
@given(space=spaces(), seed=st.integers(0, 100))
def test_a_candidate_is_always_valid(space: dict[str, Any], seed: int) -> None:
    searched = SearchSpace(space)
    surrogate, X, z = fitted(searched, seed=seed)
    good = X[np.argsort(-z)[:4]]
    for avoid in (X, X[:0]):
        assert_valid(
            searched,
            maximise(searched, log_ei_of(searched, surrogate, z.max()), good, avoid, np.random.default_rng(seed)),
        )
    assert_valid(
        searched,
        maximise(searched, log_ei_of(searched, surrogate, z.max()), X[:0], X, np.random.default_rng(seed)),
    )


def test_256_pending_trials_get_distinct_candidates() -> None:
    """The last 40 of 256 trials in flight; the pending ones enter the surrogate as between reports."""
    space = SearchSpace(SPACE)
    surrogate, X, z = fitted(space)
    asked = np.vstack([X, space.sample(216, np.random.default_rng(5))])
    for i in range(40):
        if i % 20 == 0:
            believed = surrogate.with_pending(space.features(asked[len(X) :]))
        x = maximise(space, log_ei_of(space, believed, z.max()), X[:4], asked, np.random.default_rng([1, i]))
        assert_valid(space, x)
        asked = np.vstack([asked, x])
    assert len({repr(space.decode(x)) for x in asked}) == len(asked) == len(X) + 256
    apart = np.linalg.norm(asked[:, None] - asked[None], axis=2) + 10.0 * np.eye(len(asked))
    assert apart.min() > 1e-6


def test_candidates_asked_at_once_are_good_and_pending_points_keep_them_apart() -> None:
    space = SearchSpace(SPACE)

    def eight(n: int, pending: bool) -> Any:
        surrogate, X, z = fitted(space, n=n)
        asked = X
        for i in range(8):
            believed = surrogate.with_pending(space.features(asked[len(X) :])) if pending else surrogate
            x = maximise(
                space,
                log_ei_of(space, believed, z.max()),
                X[np.argsort(-z)[:4]],
                asked,
                np.random.default_rng([2, i]),
            )
            asked = np.vstack([asked, x])
        return space.features(asked[len(X) :])

    def spread(F: Any) -> float:
        return float(np.median(np.linalg.norm(F[:, None] - F[None], axis=2)[np.triu_indices(8, 1)]))

    F = eight(20, pending=True)
    random = space.features(space.sample(256, np.random.default_rng(9)))
    assert np.mean(-((F - 0.3) ** 2).sum(axis=1)) > np.mean(-((random - 0.3) ** 2).sum(axis=1))
    # with little known one far corner promises most, and without the pending points all eight go there
    assert spread(eight(12, pending=True)) > 2.0 * spread(eight(12, pending=False))


def test_it_finds_more_than_sampling_does() -> None:
    space = SearchSpace(SPACE)
    surrogate, X, z = fitted(space, n=40)
    best = z.max()
    found = maximise(space, log_ei_of(space, surrogate, best), X[np.argsort(-z)[:4]], X, np.random.default_rng(0))
    random = space.sample(1024, np.random.default_rng(1))
    score = log_ei_of(space, surrogate, best)
    assert score(found[None])[0] > score(random).max()


def test_the_score_is_the_logarithm_of_the_expected_improvement_of_the_posterior() -> None:
    space = SearchSpace(SPACE)
    surrogate, _, z = fitted(space)
    rows, best = space.sample(50, np.random.default_rng(4)), z.max()
    mean, stddev = surrogate.posterior(space.features(rows))
    u = (mean - best) / stddev
    likely = u > -4.0  # below, the direct formula cancels
    # in units of the standardised values
    expected = np.log(stddev / surrogate.regression.scale) + np.log(norm.pdf(u) + u * norm.cdf(u))
    np.testing.assert_allclose(log_ei_of(space, surrogate, best)(rows)[likely], expected[likely], rtol=1e-6, atol=1e-6)
    assert likely.sum() > 10


def test_a_point_asked_before_is_avoided_however_good_it_looks() -> None:
    """A tiny spread around one huge value: log EI is -1e9 everywhere else, and still the old point is not repeated."""
    space = SearchSpace({"r": Real(0, 1)})
    X = np.linspace(0.0, 1.0, 12)[:, None]
    z = np.zeros(12)
    z[6] = 1.0
    surrogate = fit_surrogate(space.features(X), z, np.zeros(12))
    for best in (1.0, 1e3, 1e9):
        x = maximise(space, log_ei_of(space, surrogate, best), X[6:7], X, np.random.default_rng(0))
        assert np.abs(X - x).min() > 1e-6


def test_a_small_space_is_used_up_before_anything_is_repeated() -> None:
    space = SearchSpace({"c": Categorical("abc"), "n": Integer(1, 4)})
    surrogate, X, z = fitted(space, n=4)
    asked = X
    while len({tuple(x) for x in asked}) < 12:
        before = {tuple(x) for x in asked}
        x = maximise(space, log_ei_of(space, surrogate, z.max()), X[:2], asked, np.random.default_rng(len(asked)))
        assert tuple(x) not in before
        asked = np.vstack([asked, x])
    assert_valid(space, maximise(space, log_ei_of(space, surrogate, z.max()), X[:2], asked, np.random.default_rng(0)))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("value", [1, 2, 5, 100, 127])
def test_a_move_of_a_whole_number_is_mostly_one(log: bool, value: int) -> None:
    """The smallest step is to the neighbour; at the ends half of them are turned back."""
    space = SearchSpace({"r": Integer(1, 128, log=log)})
    x = space.encode({"r": value})
    moved = _moves(space, np.repeat(x[None], 400, axis=0), np.random.default_rng(0), 1e-4)
    assert np.mean(moved[:, 0] != x[0]) > (0.4 if value == 1 else 0.95)
    assert {abs(space.decode(row)["r"] - value) for row in moved} <= {0, 1}
