"""Exact Gaussian-process regression with four MAP hyperparameters; both predictor heads and the surrogate use it.

    notation   meaning                                                        shape
    L          features that enter linearly                                   n x q
    M          features that enter through a Matern-5/2 of their distance     n x p
    y          values, standardised inside                                    n
    noise      known noise variances, or their covariance                     n, or n x n

    k(i, j) = c^2 + linear^2 <L_i, L_j> / q + matern^2 Matern52(|M_i - M_j| / lengthscale) + [i = j] noise^2

Why not gpytorch: `suggest` runs beside Ray's event loop, the core must install without torch, and the closed-form
leave-out that stacks the predictor's heads is not there. The same model in gpytorch is the oracle of tests/test_gp.py;
its fit by botorch took 88 / 21 / 3 times as long at n = 20 / 50 / 100 (one thread, one run). Per-dimension length
scales (ARD), its main gain, are over-confident here (DESIGN section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Array: TypeAlias = NDArray[np.float64]

_SQRT5 = math.sqrt(5.0)
_CONSTANT = 1.0  # prior variance of the mean of the standardised values
_JITTER = 1e-8


@dataclass(frozen=True)
class LogNormal:
    """Log-normal prior of one positive hyperparameter: its median, and the sd of its logarithm."""

    median: float
    sd: float


@dataclass(frozen=True)
class Priors:
    """Priors in units of the standardised `y` and of the features."""

    linear: LogNormal
    matern: LogNormal
    lengthscale: LogNormal
    noise: LogNormal

    def as_arrays(self) -> tuple[Array, Array]:
        """`(log medians, sds)`, each `(4,)`."""
        all_four = (self.linear, self.matern, self.lengthscale, self.noise)
        return np.log([p.median for p in all_four]), np.array([p.sd for p in all_four])


class GaussianProcess:
    """A fitted GP. Immutable; make one with `fit_gp`, or `condition` one on data at known hyperparameters."""

    def __init__(self, L: Array, M: Array, y: Array, noise: Array, theta: Array, centre: float, scale: float) -> None:
        self.theta = theta
        self._L, self._M, self._centre, self._scale = L, M, centre, scale
        self._z = (y - centre) / scale
        K = _kernel(L, L, M, M, theta)
        K[np.diag_indices_from(K)] += math.exp(2.0 * theta[3]) + _JITTER
        K += (np.diag(noise) if noise.ndim == 1 else noise) / scale**2
        self._chol = cholesky(K, lower=True)
        self._alpha = cho_solve((self._chol, True), self._z)

    def predict(self, L: Array, M: Array) -> tuple[Array, Array]:
        """Posterior mean and variance (`m`, `m`) of the noise-free function at `m x q`, `m x p`."""
        cross = _kernel(L, self._L, M, self._M, self.theta)
        mean = self._centre + self._scale * (cross @ self._alpha)
        half = solve_triangular(self._chol, cross.T, lower=True)
        prior = _CONSTANT + _variance(L, self.theta)
        return mean, self._scale**2 * np.maximum(prior - (half**2).sum(axis=0), 1e-12)

    @property
    def noise_variance(self) -> float:
        """The fitted noise variance, in units of `y` squared."""
        return self._scale**2 * math.exp(2.0 * self.theta[3])

    def leave_out(self, folds: Sequence[NDArray[np.int64]]) -> tuple[Array, Array]:
        """Mean and variance (`n`, `n`) of each *observation* from the data without its fold, in closed form.

        Rasmussen & Williams 2006, section 5.4.2, for blocks: mean_I = y_I - (K^-1_II)^-1 (K^-1 y)_I.
        """
        inverse = cho_solve((self._chol, True), np.eye(len(self._z)))
        mean, variance = np.empty(len(self._z)), np.empty(len(self._z))
        for fold in folds:
            covariance = np.linalg.inv(inverse[np.ix_(fold, fold)])
            mean[fold] = self._z[fold] - covariance @ self._alpha[fold]
            variance[fold] = np.diag(covariance)
        return self._centre + self._scale * mean, self._scale**2 * variance


def fit_gp(
    L: Array, M: Array, y: Array, noise: Array, priors: Priors, *, scale: float | None = None, max_iterations: int = 40
) -> GaussianProcess:
    """Maximum a posteriori hyperparameters by L-BFGS from the prior medians (deterministic), then the posterior.

    scale: what the priors are in units of, for who knows better than the standard deviation of a few `y`.
    """
    centre, spread = standardisation(y)
    scale = spread if scale is None else scale
    theta = fit_theta(L, M, (y - centre) / scale, np.diag(noise) / scale**2, priors, max_iterations)
    return GaussianProcess(L, M, y, noise, theta, centre, scale)


def standardisation(y: Array) -> tuple[float, float]:
    """Centre and (positive) scale of `y`; values that are all alike are known well, so their scale is tiny, not 1."""
    centre = float(np.mean(y))
    return centre, max(float(np.std(y)), 1e-6 * (1.0 + abs(centre)))


def fit_theta(L: Array, M: Array, z: Array, noise: Array, priors: Priors, max_iterations: int) -> Array:
    """MAP of `log (linear, matern, lengthscale, noise)`, `(4,)`."""
    linear = L @ L.T / max(L.shape[1], 1)
    apart = distance(M, M)
    median, sd = priors.as_arrays()

    def objective(theta: Array) -> tuple[float, Array]:
        value, gradient = negative_log_marginal(theta, linear, apart, z, noise)
        standard = (theta - median) / sd
        return value + 0.5 * float(standard @ standard), gradient + standard / sd

    bounds = list(zip(median - 4.0 * sd, median + 4.0 * sd, strict=True))
    result = minimize(
        objective, median, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": max_iterations}
    )
    return np.asarray(result.x)


def negative_log_marginal(theta: Array, linear: Array, distance: Array, z: Array, noise: Array) -> tuple[float, Array]:
    """Negative log marginal likelihood of standardised `z` and its gradient in `theta`, `(4,)`."""
    a2, b2, s2 = math.exp(2 * theta[0]), math.exp(2 * theta[1]), math.exp(2 * theta[3])
    r = _SQRT5 * distance / math.exp(theta[2])
    decay = np.exp(-r)
    matern = (1.0 + r + r * r / 3.0) * decay
    K = _CONSTANT + a2 * linear + b2 * matern
    K[np.diag_indices_from(K)] += s2 + _JITTER
    K += noise
    chol = cholesky(K, lower=True, overwrite_a=True, check_finite=False)
    inverse = cho_solve((chol, True), np.eye(len(z)), overwrite_b=True, check_finite=False)
    alpha = inverse @ z
    value = 0.5 * float(z @ alpha) + float(np.log(np.diag(chol)).sum()) + 0.5 * len(z) * math.log(2 * math.pi)
    W = inverse - np.outer(alpha, alpha)
    d_lengthscale = b2 * r * r * (1.0 + r) / 3.0 * decay
    gradient = np.array(
        [
            a2 * float(np.vdot(W, linear)),
            b2 * float(np.vdot(W, matern)),
            0.5 * float(np.vdot(W, d_lengthscale)),
            s2 * float(np.trace(W)),
        ]
    )
    return value, gradient


def _kernel(L1: Array, L2: Array, M1: Array, M2: Array, theta: Array) -> Array:
    linear = L1 @ L2.T / max(L1.shape[1], 1)
    matern = matern52(distance(M1, M2) / math.exp(theta[2]))
    return np.asarray(_CONSTANT + math.exp(2 * theta[0]) * linear + math.exp(2 * theta[1]) * matern)


def matern52(r: Array) -> Array:
    """Matern-5/2 correlation at distances in length scales."""
    s = _SQRT5 * r
    return np.asarray((1.0 + s + s * s / 3.0) * np.exp(-s))


def _variance(L: Array, theta: Array) -> Array:
    squared = (L * L).sum(axis=1) / max(L.shape[1], 1)
    return np.asarray(math.exp(2 * theta[0]) * squared + math.exp(2 * theta[1]))


def distance(A: Array, B: Array) -> Array:
    """Euclidean distances of the rows of `A` and `B`."""
    squared = (A * A).sum(axis=1)[:, None] + (B * B).sum(axis=1)[None, :] - 2.0 * (A @ B.T)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))
