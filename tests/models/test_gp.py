"""The Gaussian process on BoTorch against oracles: the textbook's formulas in plain numpy, and refitting."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from gpytorch.mlls import ExactMarginalLogLikelihood
from scipy.stats import multivariate_normal

from jobs_ray.models.gp import FinalValueGP, FinalValueKernel, Hyperparameters, additive_basis
from jobs_ray.models.priors import LogNormal, Priors
from jobs_ray.models.regression import FinalValueRegression, fit_regression, standardisation, tensor

THETA = np.log([0.6, 1.3, 1.7, 0.2, 0.8])  # log of a, b, l, the noise's sd, and c
UNITS = np.array([2.0, 2.0, 1.0, 2.0, 2.0])  # the model's own are logarithms of variances, and of l
HYPER = Hyperparameters(*(UNITS * THETA))
PRIORS = Priors(
    LogNormal(0.5, 0.5), LogNormal(1.0, 0.5), LogNormal(1.5, 0.5), LogNormal(0.1, 1.0), additive=LogNormal(0.9, 0.5)
)
MEDIANS = np.log([0.5**2, 1.0**2, 1.5, 0.1**2, 0.9**2])
KNOTS = np.linspace(-2.5, 6.25, 15)
SHARED = 0.9
COLUMNS = {"linear": slice(0, 2), "matern": slice(2, 5)}


def data(n: int = 14, p: int = 3, seed: int = 0) -> tuple[Any, Any, Any]:
    """Features (n x (2 + p)): two linear ones first; values (n,), variances of known errors (n,)."""
    rng = np.random.default_rng(seed)
    L, M = rng.standard_normal((n, 2)), rng.standard_normal((n, p))
    y = 3.0 + L @ [0.5, -1.0] + np.sin(M).sum(axis=1) + 0.1 * rng.standard_normal(n)
    return np.hstack([L, M]), y, rng.uniform(0.01, 0.3, n)


def matern(r: float) -> float:
    s = math.sqrt(5.0) * r
    return (1 + s + s * s / 3) * math.exp(-s)


def additive(a: Any, b: Any) -> float:
    """Mean over the columns of a Matern-5/2 process that is known through its values at the knots."""
    between = np.array([[matern(abs(s - t)) for t in KNOTS] for s in KNOTS])
    at_a, at_b = (np.array([[matern(abs(v - t)) for t in KNOTS] for v in row]) for row in (a, b))
    return float(np.mean([u @ np.linalg.solve(between, v) for u, v in zip(at_a, at_b, strict=True)]))


def kernel(X1: Any, X2: Any, theta: Any = THETA) -> Any:
    """The kernel, one pair at a time, as its formula stands; without known errors."""
    linear, scale, lengthscale, _, sum_scale = np.exp(theta)
    return np.array(
        [
            [
                1.0
                + linear**2 * float(a[:2] @ b[:2]) / 2
                + scale**2 * matern(float(np.linalg.norm(a[2:] - b[2:])) / lengthscale)
                + sum_scale**2 * additive(a[2:], b[2:])
                for b in X2
            ]
            for a in X1
        ]
    )


def errors(X: Any, noise: Any) -> Any:
    """Covariance of the known errors: alike for alike configurations, a tenth of each on its own."""
    shared = [
        [
            SHARED * math.sqrt(v * w) * matern(float(np.linalg.norm(a[2:] - b[2:])) / math.sqrt(len(a) - 2))
            for b, w in zip(X, noise, strict=True)
        ]
        for a, v in zip(X, noise, strict=True)
    ]
    return np.array(shared) + np.diag(np.maximum((1.0 - SHARED) * noise, 1e-6))


def covariance(X: Any, noise: Any, theta: Any = THETA) -> Any:
    return kernel(X, X, theta) + errors(X, noise) + np.eye(len(X)) * math.exp(2 * theta[3])


def at(X: Any, y: Any, noise: Any, centre: float = 0.5, scale: float = 2.0) -> FinalValueRegression:
    """The model at THETA."""
    return fit_regression(X, y, noise, PRIORS, **COLUMNS, hyperparameters=HYPER, centre=centre, scale=scale)


def test_the_posterior_is_that_of_the_textbook() -> None:
    X, y, noise = data()
    new = data(5, seed=1)[0]
    mean, variance = at(X, y, noise).predict(new)
    K, cross = covariance(X, noise / 4.0), kernel(new, X)
    np.testing.assert_allclose(mean, 0.5 + 2.0 * cross @ np.linalg.solve(K, (y - 0.5) / 2.0), rtol=1e-8)
    expected = kernel(new, new) - cross @ np.linalg.solve(K, cross.T)
    np.testing.assert_allclose(variance, 4.0 * np.diag(expected), rtol=1e-6)


def test_the_additive_term_is_a_matern_of_one_dimension_between_its_knots() -> None:
    values = tensor(np.linspace(-2.5, 6.25, 101)[:, None])
    found = additive_basis(values) @ additive_basis(values).mT
    exact = np.array([[matern(abs(float(a) - float(b))) for b in values] for a in values])
    np.testing.assert_allclose(found, exact, atol=0.03)


def test_without_a_prior_there_is_no_additive_term() -> None:
    X, y, noise = data()
    plain = Priors(*(getattr(PRIORS, name) for name in ("linear", "matern", "lengthscale", "noise")))
    model = fit_regression(X, y, noise, plain, **COLUMNS, hyperparameters=HYPER).model
    assert model.hyperparameters == pytest.approx((*HYPER[:4], -math.inf))
    without = kernel(X[:2], X[2:3], np.array([*THETA[:4], -math.inf]))
    np.testing.assert_allclose(model.covar_module.forward(*map(with_no_error, (X[:2], X[2:3]))), without, rtol=1e-9)


def with_no_error(X: Any) -> Any:
    return tensor(np.hstack([X, np.zeros((len(X), 1))]))


def test_the_fast_posterior_is_that_of_gpytorch_one_point_or_many_at_a_time() -> None:
    X, y, noise = data()
    model, new = at(X, y, noise).model, tensor(data(6, seed=1)[0])
    with torch.no_grad():
        singly, joint = model.posterior(new.unsqueeze(-2)), model.posterior(new)
    np.testing.assert_allclose(singly.mean.squeeze(), joint.mean.squeeze(), rtol=1e-8)
    np.testing.assert_allclose(singly.variance.squeeze(), joint.variance.squeeze(), rtol=1e-6)
    assert singly.mean.shape == (6, 1, 1)
    assert model.posterior(new.reshape(2, 3, -1)).mean.shape == (2, 3, 1)


@pytest.mark.parametrize(
    ("linear", "matern"), [(slice(0, 2), slice(2, 5)), (slice(0, 5), slice(0, 5)), (slice(2), slice(2, None))]
)
def test_one_point_in_numpy_is_what_torch_says_of_it_among_others(linear: slice, matern: slice) -> None:
    X, y, noise = data(30)
    priors = replace(PRIORS, additive=None)
    found = fit_regression(X, y, 0.0 * noise, priors, linear=linear, matern=matern)
    points = np.vstack([X[:3], data(5, seed=1)[0], 50.0 + X[:1]])  # known ones, new ones, and one far from all
    alone = np.array([found.predict(point[None]) for point in points])[:, :, 0].T
    np.testing.assert_allclose(alone, found.predict(points), rtol=1e-9)


def test_what_the_fit_minimises_is_the_negative_log_posterior_of_the_textbook() -> None:
    """Dense marginal likelihood plus the priors of the logarithms; its gradient by finite differences."""
    X, y, noise = data()
    centre, scale = standardisation(y)
    z, v = (y - centre) / scale, noise / scale**2
    kernel_ = FinalValueKernel(priors=PRIORS, **COLUMNS)
    model = FinalValueGP(tensor(X), tensor(z)[:, None], tensor(v)[:, None], kernel_, PRIORS.noise)
    mll = ExactMarginalLogLikelihood(model.likelihood, model).train()
    names = [model.covar_module.raw_linear, model.covar_module.raw_matern, model.covar_module.raw_lengthscale]
    raw = [*names, model.likelihood.second_noise_covar.raw_noise, model.covar_module.raw_additive]

    def textbook(theta: Any) -> float:
        priors = (PRIORS.linear, PRIORS.matern, PRIORS.lengthscale, PRIORS.noise, PRIORS.additive)
        spread, median = np.array([p.sd for p in priors if p]), np.log([p.median for p in priors if p])
        likelihood = multivariate_normal(np.zeros(len(z)), covariance(X, v, theta)).logpdf(z)
        return -float(likelihood) + 0.5 * float((((theta - median) / spread) ** 2).sum())

    def ours(theta: Any) -> Any:
        with torch.no_grad():
            for parameter, value in zip(raw, UNITS * theta, strict=True):
                parameter.fill_(float(value))
        model.train()
        return model.compute_custom_loss(mll) * len(z)

    rng = np.random.default_rng(0)
    thetas = [THETA + rng.normal(0, 0.3, 5) for _ in range(4)]
    constants = [
        float(ours(theta).detach()) - textbook(theta) for theta in thetas
    ]  # priors' and 2 pi's, the same everywhere
    np.testing.assert_allclose(constants, constants[0], atol=1e-7)
    loss = ours(thetas[0])
    gradients = [float(g) for g in torch.autograd.grad(loss, raw)]
    for i, unit in enumerate(UNITS):
        step = np.eye(5)[i] * 1e-5
        slope = (textbook(thetas[0] + step) - textbook(thetas[0] - step)) / 2e-5
        assert gradients[i] * unit == pytest.approx(slope, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_leaving_out_in_closed_form_is_refitting_without(size: int) -> None:
    X, y, _ = data()
    none = np.zeros(len(y))
    folds = [np.arange(len(y))[i : i + size] for i in range(0, len(y), size)]
    gp = at(X, y, none)
    mean, variance = gp.leave_out(folds)
    for fold in folds:
        kept = np.setdiff1d(np.arange(len(y)), fold)
        smaller = at(X[kept], y[kept], none[kept])
        m, v = smaller.predict(X[fold])
        np.testing.assert_allclose(mean[fold], m, rtol=1e-7)
        observed = v + smaller.noise_variance + 4.0 * 1e-6  # leave_out is about the observation
        np.testing.assert_allclose(variance[fold], observed, rtol=1e-6)


def test_conditioning_is_the_same_hyperparameters_on_more_data() -> None:
    X, y, noise = data()
    known = at(X[:10], y[:10], noise[:10]).model
    later = known.condition_on_observations(
        tensor(X[10:]), tensor((y[10:] - 0.5) / 2.0)[:, None], noise=tensor(noise[10:] / 4.0)[:, None]
    )
    together, new = at(X, y, noise).model, tensor(data(4, seed=3)[0])
    with torch.no_grad():
        for name in ("mean", "variance"):
            expected = getattr(together.posterior(new), name)
            np.testing.assert_allclose(getattr(later.posterior(new), name), expected, rtol=1e-7)
    assert len(known.train_targets) == 10
    assert isinstance(later, SingleTaskGP)


# -- the fit ----------------------------------------------------------------------------------------------------------


def loss_of(X: Any, y: Any, noise: Any, hyper: Hyperparameters) -> float:
    model = fit_regression(X, y, noise, PRIORS, **COLUMNS, hyperparameters=hyper).model
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    return float(model.compute_custom_loss(mll)) * len(y)


def test_the_fit_is_a_maximum_of_the_posterior() -> None:
    """No nearby hyperparameters are better, and the prior medians are worse."""
    X, y, noise = data(30)
    fitted = fit_regression(X, y, noise, PRIORS, **COLUMNS, max_iterations=200).model.hyperparameters
    best = loss_of(X, y, noise, fitted)
    assert best < loss_of(X, y, noise, Hyperparameters(*MEDIANS))
    rng = np.random.default_rng(0)
    near = [np.array(fitted) + rng.normal(0, 0.05, 5) for _ in range(20)]
    assert all(best <= loss_of(X, y, noise, Hyperparameters(*theta)) + 1e-3 for theta in near)


def test_the_fit_is_deterministic_and_knows_the_unit_of_the_values() -> None:
    """y -> 1000 y + 5 scales the posterior alike: nothing depends on the unit of the metric."""
    X, y, _ = data()
    none, new = np.zeros(len(y)), data(4, seed=2)[0]
    first, again, other = (fit_regression(X, v, none, PRIORS, **COLUMNS) for v in (y, y, 1000 * y + 5))
    mean, variance = first.predict(new)
    np.testing.assert_array_equal(mean, again.predict(new)[0])
    np.testing.assert_allclose(other.predict(new)[0], 1000 * mean + 5, rtol=1e-5)
    np.testing.assert_allclose(other.predict(new)[1], 1e6 * variance, rtol=1e-4)


def test_noisy_observations_count_less() -> None:
    """Two observations at one point: the posterior is near the exact one."""
    X = np.zeros((2, 5))
    gp = at(X, np.array([0.0, 1.0]), np.array([0.0, 100.0]), 0.0, 1.0)
    assert abs(gp.predict(X[:1])[0][0]) < 0.1


@pytest.mark.parametrize(
    ("what", "y"),
    [("one", [2.0]), ("constant", [2.0, 2.0, 2.0]), ("duplicates", [1.0, 1.0, 3.0, 3.0]), ("tiny", [1e-9, 2e-9, 4e-9])],
)
def test_degenerate_data_give_a_finite_posterior(what: str, y: list[float]) -> None:
    F = np.zeros((len(y), 2)) if what == "duplicates" else np.arange(2.0 * len(y)).reshape(-1, 2)
    everything = slice(0, 2)
    gp = fit_regression(F, np.array(y), np.zeros(len(y)), PRIORS, linear=everything, matern=everything)
    mean, variance = gp.predict(np.array([[0.5, 0.5], [100.0, 0.0]]))
    assert np.all(np.isfinite(mean))
    assert np.all(variance > 0)
    assert np.all(np.isfinite(variance))


def test_a_fit_that_breaks_down_leaves_the_prior_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN gradient raises inside botorch; it must not end somebody's search."""

    def broken(self: FinalValueGP, mll: Any) -> Any:
        return self.covar_module.raw_linear.sum() * float("nan")

    monkeypatch.setattr(FinalValueGP, "compute_custom_loss", broken)
    X, y, noise = data()
    gp = fit_regression(X, y, noise, PRIORS, **COLUMNS)
    np.testing.assert_allclose(gp.model.hyperparameters, MEDIANS, rtol=1e-6)
    assert np.all(np.isfinite(gp.predict(X)[0]))


def test_predicting_changes_no_array_of_the_caller() -> None:
    arrays = data()
    copies = [a.copy() for a in arrays]
    fit_regression(*arrays, PRIORS, **COLUMNS).predict(arrays[0])
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
