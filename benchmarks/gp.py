"""A small exact GP over several tasks for the emulator: numpy/scipy, analytic gradients, deterministic.

It is independent of the surrogate that is being benchmarked, on purpose: an emulator that shares the optimiser's
kernel and encoding would favour it.

Notation (n = observations, p = features)
    Z  n x p standardised features        g  (n,) task index        y  (n,) standardised target
    K = same-task 1 * C + (S + D * same-task) * Matern52_ARD(Z) + L * (S' = shared linear) + noise * I
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Array = NDArray[np.float64]
Ints = NDArray[np.int_]
TASK_LEVEL = 1.0  # prior variance of a task's own constant, in units of the target's variance
BOUNDS = {"amp": (-7.0, 4.0), "length": (-1.5, 5.0), "noise": (-9.0, 1.0)}


@dataclass(frozen=True)
class TaskGP:
    """Fitted GP. `theta` = log (shared Matern variance, task Matern variance, linear variance, noise, p lengths)."""

    Z: Array
    g: Ints
    theta: Array
    alpha: Array
    factor: tuple[Array, bool]

    def mean(self, Zs: Array, task: int) -> Array:
        """Posterior mean of task `task` at m x p standardised features -> (m,)."""
        return np.asarray(self._cross(Zs, task) @ self.alpha)

    def sd(self, Zs: Array, task: int = 0) -> Array:
        """Posterior sd of the function (without noise) -> (m,)."""
        shared, own, linear = np.exp(self.theta[:3])
        k = self._cross(Zs, task)
        prior = shared + own + TASK_LEVEL + linear * (Zs * Zs).sum(1)
        return np.asarray(np.sqrt(np.maximum(prior - np.sum(k.T * cho_solve(self.factor, k.T), axis=0), 1e-12)))

    def _cross(self, Zs: Array, task: int) -> Array:
        """m x n prior covariance with the observations."""
        shared, own, linear = np.exp(self.theta[:3])
        lengths = np.exp(self.theta[4:])
        same = self.g == task
        r2 = sq_dist(Zs / lengths, self.Z / lengths)
        return np.asarray(matern(r2)[0] * (shared + own * same) + TASK_LEVEL * same + linear * (Zs @ self.Z.T))


def sq_dist(A: Array, B: Array) -> Array:
    """m x n squared distances, clipped at 0."""
    return np.asarray(np.maximum((A * A).sum(1)[:, None] + (B * B).sum(1) - 2 * A @ B.T, 0.0))


def matern(r2: Array) -> tuple[Array, Array]:
    """Matern-5/2 correlation of squared distances, and G with dk/dlog l_d = G * (distance along d / l_d)^2."""
    a = np.sqrt(5 * r2)
    e = np.exp(-a)
    return (1 + a + a * a / 3) * e, (5 / 3) * (1 + a) * e


def negative_log_posterior(theta: Array, Z: Array, g: Ints, y: Array, own: bool) -> tuple[float, Array]:
    """Value and gradient; a log-normal prior holds lengths near sqrt(p) (Hvarfner et al. 2024): ARD overfits."""
    n, p = Z.shape
    e = np.exp(theta)
    lengths = e[4:]
    U = Z / lengths
    same = (g[:, None] == g[None, :]).astype(float)
    k, G = matern(sq_dist(U, U))
    scale = e[0] + e[1] * same
    lin = Z @ Z.T
    K = scale * k + TASK_LEVEL * same + e[2] * lin
    K[np.diag_indices(n)] += e[3] + 1e-6
    factor = cho_factor(K, lower=True)
    alpha = cho_solve(factor, y)
    W = 0.5 * (np.outer(alpha, alpha) - cho_solve(factor, np.eye(n)))
    value = -0.5 * y @ alpha - np.log(np.diag(factor[0])).sum()
    M = W * G * scale
    grad = np.empty_like(theta)
    grad[0] = e[0] * np.sum(W * k)
    grad[1] = e[1] * np.sum(W * k * same)
    grad[2] = e[2] * np.sum(W * lin)
    grad[3] = e[3] * np.trace(W)
    grad[4:] = 2 * (M.sum(1) @ (U * U) - np.sum(U * (M @ U), axis=0))
    centre = np.concatenate([[-1.0, -2.0, np.log(1.0 / p), -2.0], np.full(p, 0.5 * np.log(p) + 0.5)])
    sd = np.concatenate([[2.0, 2.0, 2.0, 2.0], np.full(p, 1.2)])
    value -= 0.5 * np.sum(((theta - centre) / sd) ** 2)
    grad -= (theta - centre) / sd**2
    if not own:
        grad[1] = 0.0
    return -float(value), -grad


def fit(Z: Array, g: Ints, y: Array, theta: Array | None = None, *, own: bool = True) -> TaskGP:
    """MAP hyperparameters by L-BFGS from a fixed start, or those given.

    own=False: one function for all tasks, apart from a constant each.
    """
    p = Z.shape[1]
    if theta is None:
        start = np.concatenate([[-0.7, -2.0 if own else -20.0, -4.0, -2.0], np.full(p, 0.5 * np.log(p))])
        amp, noise, length = BOUNDS["amp"], BOUNDS["noise"], BOUNDS["length"]
        bounds = [amp, amp if own else (-20.0, -20.0), amp, noise] + [length] * p
        found = minimize(
            negative_log_posterior, start, (Z, g, y, own), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 150, "ftol": 1e-8},
        )  # fmt: skip
        theta = np.asarray(found.x)
    e = np.exp(theta)
    same = (g[:, None] == g[None, :]).astype(float)
    U = Z / e[4:]
    K = (e[0] + e[1] * same) * matern(sq_dist(U, U))[0] + TASK_LEVEL * same + e[2] * (Z @ Z.T)
    K[np.diag_indices(len(y))] += e[3] + 1e-6
    factor = cho_factor(K, lower=True)
    return TaskGP(Z, g, theta, cho_solve(factor, y), factor)
