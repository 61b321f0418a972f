"""The Gaussian process against oracles: plain numpy, finite differences, refitting, and gpytorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from jobs_ray.models.gp import (
    GaussianProcess,
    LogNormal,
    Priors,
    fit_gp,
    fit_theta,
    negative_log_marginal,
    standardisation,
)

THETA = np.log([0.6, 1.3, 1.7, 0.2])
PRIORS = Priors(LogNormal(0.5, 0.5), LogNormal(1.0, 0.5), LogNormal(1.5, 0.5), LogNormal(0.1, 1.0))
JITTER = 1e-8


def data(n: int = 14, p: int = 3, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Linear features (n x 2), Matern features (n x p), values (n), noise variances (n)."""
    rng = np.random.default_rng(seed)
    L, M = rng.standard_normal((n, 2)), rng.standard_normal((n, p))
    y = 3.0 + L @ [0.5, -1.0] + np.sin(M).sum(axis=1) + 0.1 * rng.standard_normal(n)
    return L, M, y, rng.uniform(0.0, 0.3, n)


def kernel(L1: Any, L2: Any, M1: Any, M2: Any, theta: Any = THETA) -> Any:
    """The kernel, one pair at a time, as its formula stands."""
    linear, matern, lengthscale = np.exp(theta[:3])
    K = np.empty((len(L1), len(L2)))
    for i in range(len(L1)):
        for j in range(len(L2)):
            r = math.sqrt(5.0) * float(np.linalg.norm(M1[i] - M2[j])) / lengthscale
            shape = (1 + r + r * r / 3) * math.exp(-r)
            K[i, j] = 1.0 + linear**2 * float(L1[i] @ L2[j]) / L1.shape[1] + matern**2 * shape
    return K


def covariance(L: Any, M: Any, noise: Any, theta: Any = THETA) -> Any:
    return kernel(L, L, M, M, theta) + np.diag(noise + math.exp(2 * theta[3]) + JITTER)


def distances(M: Any) -> Any:
    return np.linalg.norm(M[:, None] - M[None], axis=2)


def test_the_posterior_is_that_of_the_textbook() -> None:
    L, M, y, noise = data()
    centre, scale = 1.7, 2.5
    new_L, new_M, _, _ = data(5, seed=1)
    mean, variance = GaussianProcess(L, M, y, noise, THETA, centre, scale).predict(new_L, new_M)
    K, cross = covariance(L, M, noise / scale**2), kernel(new_L, L, new_M, M)
    np.testing.assert_allclose(mean, centre + scale * cross @ np.linalg.solve(K, (y - centre) / scale), rtol=1e-8)
    expected = kernel(new_L, new_L, new_M, new_M) - cross @ np.linalg.solve(K, cross.T)
    np.testing.assert_allclose(variance, scale**2 * np.diag(expected), rtol=1e-6)


def test_the_marginal_likelihood_is_that_of_the_textbook() -> None:
    from scipy.stats import multivariate_normal

    L, M, y, noise = data()
    z = (y - y.mean()) / y.std()
    value, _ = negative_log_marginal(THETA, L @ L.T / 2, distances(M), z, np.diag(noise))
    assert value == pytest.approx(-multivariate_normal(np.zeros(len(z)), covariance(L, M, noise)).logpdf(z), rel=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_finite_differences(seed: int) -> None:
    L, M, y, noise = data(seed=seed)
    theta = THETA + np.random.default_rng(seed).normal(0, 0.3, 4)
    arguments = (L @ L.T / 2, distances(M), (y - y.mean()) / y.std(), np.diag(noise))
    _, gradient = negative_log_marginal(theta, *arguments)
    for i in range(4):
        step = np.eye(4)[i] * 1e-5
        up, down = (negative_log_marginal(theta + s, *arguments)[0] for s in (step, -step))
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_leaving_out_in_closed_form_is_refitting_without(size: int) -> None:
    L, M, y, noise = data()
    gp = GaussianProcess(L, M, y, noise, THETA, 0.5, 2.0)
    folds = [np.arange(len(y))[i : i + size] for i in range(0, len(y), size)]
    mean, variance = gp.leave_out(folds)
    for fold in folds:
        kept = np.setdiff1d(np.arange(len(y)), fold)
        smaller = GaussianProcess(L[kept], M[kept], y[kept], noise[kept], THETA, 0.5, 2.0)
        m, v = smaller.predict(L[fold], M[fold])
        np.testing.assert_allclose(mean[fold], m, rtol=1e-7)
        observed = v + smaller.noise_variance + noise[fold] + 4.0 * JITTER  # leave_out is about the observation
        np.testing.assert_allclose(variance[fold], observed, rtol=1e-6)


def gpytorch_model(L: Any, M: Any, z: Any, noise: Any, theta: Any) -> tuple[Any, Any]:
    """The same model in gpytorch, at the same hyperparameters, in double precision; in training mode."""
    import gpytorch
    import torch

    linear, matern, lengthscale, own = np.exp(theta)
    q, p = L.shape[1], M.shape[1]

    class Model(gpytorch.models.ExactGP):  # type: ignore[misc]
        def __init__(self, X: Any, y: Any, likelihood: Any) -> None:
            super().__init__(X, y, likelihood)
            self.mean_module = gpytorch.means.ZeroMean()
            first = gpytorch.kernels.LinearKernel(active_dims=tuple(range(q)))
            base = gpytorch.kernels.MaternKernel(2.5, active_dims=tuple(range(q, q + p)))
            second, constant = gpytorch.kernels.ScaleKernel(base), gpytorch.kernels.ConstantKernel()
            self.parts = torch.nn.ModuleList(
                [constant, first, second]
            ).double()  # before the values: they are stored exactly
            constant.constant = torch.tensor([1.0], dtype=torch.double)
            first.variance = torch.tensor(linear**2 / q, dtype=torch.double)
            second.outputscale = torch.tensor(matern**2, dtype=torch.double)
            base.lengthscale = torch.tensor(lengthscale, dtype=torch.double)

        def forward(self, X: Any) -> Any:
            dense = sum(part(X).to_dense() for part in self.parts)  # lazily added, a low-rank part goes another way
            return gpytorch.distributions.MultivariateNormal(self.mean_module(X), dense)

    X, y = torch.tensor(np.hstack([L, M])), torch.tensor(z)
    fixed = torch.tensor(noise + own**2 + JITTER)
    likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(fixed)
    return Model(X, y, likelihood), likelihood


def test_posterior_and_marginal_likelihood_agree_with_gpytorch() -> None:
    gpytorch = pytest.importorskip("gpytorch", reason="the oracle is in the [bench] extra", exc_type=ImportError)
    import torch

    L, M, y, noise = data(20)
    centre, scale = standardisation(y)
    z = (y - centre) / scale
    model, likelihood = gpytorch_model(L, M, z, noise / scale**2, THETA)
    exact = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    value, _ = negative_log_marginal(THETA, L @ L.T / 2, distances(M), z, np.diag(noise) / scale**2)
    with torch.no_grad():
        log_likelihood = float(exact(model(*model.train_inputs), model.train_targets)) * len(z)
    assert value == pytest.approx(-log_likelihood, rel=1e-6)

    new_L, new_M, _, _ = data(6, seed=1)
    mean, variance = GaussianProcess(L, M, y, noise, THETA, centre, scale).predict(new_L, new_M)
    model.eval()
    with torch.no_grad(), gpytorch.settings.fast_pred_var(False):
        posterior = model(torch.tensor(np.hstack([new_L, new_M])))
    np.testing.assert_allclose(mean, centre + scale * posterior.mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(variance, scale**2 * posterior.variance.numpy(), rtol=1e-5)


# -- the fit ----------------------------------------------------------------------------------------------------------


def test_the_fit_is_a_maximum_of_the_posterior() -> None:
    """No nearby hyperparameters are better, and the prior medians are worse."""
    L, M, y, noise = data(30)
    z = (y - y.mean()) / y.std()
    linear, apart = L @ L.T / 2, distances(M)
    median, sd = PRIORS.as_arrays()

    def loss(theta: Any) -> float:
        return negative_log_marginal(theta, linear, apart, z, np.diag(noise))[0] + 0.5 * float(
            (((theta - median) / sd) ** 2).sum()
        )

    theta = fit_theta(L, M, z, np.diag(noise), PRIORS, 200)
    best = loss(theta)
    assert best < loss(median)
    rng = np.random.default_rng(0)
    assert all(best <= loss(theta + rng.normal(0, 0.05, 4)) + 1e-4 for _ in range(20))


def test_the_fit_is_deterministic_and_knows_the_unit_of_the_values() -> None:
    """y -> 1000 y + 5 scales the posterior alike: nothing depends on the unit of the metric."""
    L, M, y, _ = data()
    none = np.zeros(len(y))
    first, again = fit_gp(L, M, y, none, PRIORS), fit_gp(L, M, y, none, PRIORS)
    other = fit_gp(L, M, 1000 * y + 5, none, PRIORS)
    new_L, new_M, _, _ = data(4, seed=2)
    mean, variance = first.predict(new_L, new_M)
    np.testing.assert_array_equal(mean, again.predict(new_L, new_M)[0])
    np.testing.assert_allclose(other.predict(new_L, new_M)[0], 1000 * mean + 5, rtol=1e-5)
    np.testing.assert_allclose(other.predict(new_L, new_M)[1], 1e6 * variance, rtol=1e-4)


def test_noisy_observations_count_less() -> None:
    """Two observations at one point: the posterior is near the exact one."""
    L, M = np.zeros((2, 1)), np.zeros((2, 1))
    gp = GaussianProcess(L, M, np.array([0.0, 1.0]), np.array([0.0, 100.0]), THETA, 0.0, 1.0)
    assert abs(gp.predict(L[:1], M[:1])[0][0]) < 0.1


@pytest.mark.parametrize(
    ("what", "y"),
    [("one", [2.0]), ("constant", [2.0, 2.0, 2.0]), ("duplicates", [1.0, 1.0, 3.0, 3.0]), ("tiny", [1e-9, 2e-9, 4e-9])],
)
def test_degenerate_data_give_a_finite_posterior(what: str, y: list[float]) -> None:
    F = np.zeros((len(y), 2)) if what == "duplicates" else np.arange(2.0 * len(y)).reshape(-1, 2)
    gp = fit_gp(F, F, np.array(y), np.zeros(len(y)), PRIORS)
    mean, variance = gp.predict(np.array([[0.5, 0.5], [100.0, 0.0]]), np.array([[0.5, 0.5], [100.0, 0.0]]))
    assert np.all(np.isfinite(mean))
    assert np.all(variance > 0)
    assert np.all(np.isfinite(variance))


def test_predicting_changes_no_array_of_the_caller() -> None:
    L, M, y, noise = data()
    copies = [a.copy() for a in (L, M, y, noise)]
    fit_gp(L, M, y, noise, PRIORS).predict(L, M)
    for array, copy in zip((L, M, y, noise), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
