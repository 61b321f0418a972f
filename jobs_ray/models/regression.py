"""A FinalValueGP fitted to values as they are: arrays in, arrays out, standardised inside.

notation   meaning                                          shape
X          features                                         n x p
y          values, maximised, on their scale                (n,)
noise      variance of the known error of each value        (n,)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.models.model import Model
from botorch.optim.closures import get_loss_closure_with_grads
from botorch.optim.core import scipy_minimize
from botorch.optim.utils import get_parameters_and_bounds
from gpytorch.mlls import ExactMarginalLogLikelihood
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtrs
from torch import Tensor

from jobs_ray.models.gp import FinalValueGP, FinalValueKernel, Hyperparameters
from jobs_ray.models.priors import Priors
from jobs_ray.models.threads import one_thread
from jobs_ray.space import Array


@dataclass(frozen=True)
class Regression:
    """A fitted model of `(y - centre) / scale`. `model`: any BoTorch model with one output."""

    model: Model
    centre: float
    scale: float

    def predict(self, X: Array) -> tuple[Array, Array]:
        """Posterior mean and variance `(m,)` of the noise-free value at `m x p` features."""
        mean, variance = self._marginals(tensor(X))
        return self.centre + self.scale * mean, self.scale**2 * np.maximum(variance, 1e-12)

    def _marginals(self, X: Tensor) -> tuple[Array, Array]:
        return marginals(self.model, X)


@dataclass(frozen=True)
class FinalValueRegression(Regression):
    """With what only our own model can tell."""

    model: FinalValueGP

    def predict(self, X: Array) -> tuple[Array, Array]:
        """As any regression."""
        if len(X) != 1 or self.model.covar_module.additive:
            return super().predict(X)
        mean, variance = self._single(X[0])
        return np.array([self.centre + self.scale * mean]), np.array([self.scale**2 * variance])

    def _marginals(self, X: Tensor) -> tuple[Array, Array]:
        with torch.no_grad():
            mean, variance = self.model.marginals(X)
        return mean.numpy(), variance.numpy()

    @cached_property
    def _single(self) -> SinglePoint:
        return single_point(self.model)

    @cached_property
    def noise_variance(self) -> float:
        """The fitted noise variance, in units of `y` squared."""
        return self.scale**2 * math.exp(float(self.model.likelihood.second_noise_covar.raw_noise))

    def leave_out(self, folds: Sequence[NDArray[np.int64]]) -> tuple[Array, Array]:
        """Mean and variance `(n,)` of each *observation* from the data without its fold, in closed form."""
        mean, variance = self.model.leave_out(folds)
        return self.centre + self.scale * mean.numpy(), self.scale**2 * variance.numpy()


@dataclass(frozen=True)
class SinglePoint:
    """The posterior at one point of a model without the additive term, in numpy.

    Each of torch's operations takes longer than this arithmetic, and may let go of the interpreter, for which Ray's
    loop then waits while a fit goes on in the background: a prediction of three heads takes .17 ms, with torch 1.2.

    X: n x p, with the column s. linear, matern: their columns. L, M, and the hyperparameters as in gp.py.
    """

    linear: slice
    matern: slice
    L: Array
    M: Array
    chol: Array
    alpha: Array
    gram_weight: float  # a^2 / q
    matern_weight: float
    lengthscale: float

    def __call__(self, x: Array) -> tuple[float, float]:
        """Posterior mean and variance of the noise-free value at `(p,)`, standardised."""
        x = np.append(x, 0.0)  # the column s
        own, r = x[self.linear], np.sqrt(np.square(self.M - x[self.matern]).sum(axis=1)) / self.lengthscale
        s = math.sqrt(5.0) * r
        cross = 1.0 + self.gram_weight * (self.L @ own) + self.matern_weight * (1.0 + s + s * s / 3.0) * np.exp(-s)
        half = dtrtrs(self.chol, cross, lower=1)[0]
        variance = 1.0 + self.gram_weight * float(own @ own) + self.matern_weight - float(half @ half)
        return float(cross @ self.alpha), max(variance, 1e-10)


def single_point(model: FinalValueGP) -> SinglePoint:
    """Of a fitted model."""
    kernel, X, (chol, alpha) = model.covar_module, model.train_inputs[0].numpy(), model.factored()
    known = model.hyperparameters
    L = np.ascontiguousarray(X[:, kernel.linear])
    return SinglePoint(
        kernel.linear, kernel.matern, L, np.ascontiguousarray(X[:, kernel.matern]), np.asfortranarray(chol.numpy()),
        alpha.numpy(), math.exp(known.linear) / L.shape[1], math.exp(known.matern), math.exp(known.lengthscale),
    )  # fmt: skip


def fit_regression(
    X: Array,
    y: Array,
    noise: Array,
    priors: Priors,
    *,
    linear: slice,
    matern: slice,
    scale: float | None = None,
    hyperparameters: Hyperparameters | None = None,
    centre: float | None = None,
    max_iterations: int = 40,
) -> FinalValueRegression:
    """Maximum a posteriori hyperparameters by L-BFGS from the prior medians (deterministic), then the posterior.

    linear, matern: the columns of X in the two terms of the kernel. hyperparameters: known, nothing is fitted.
    centre, scale: of the standardisation, for who knows better than the mean and sd of a few `y`.
    """
    mean, spread = standardisation(y)
    centre, scale = mean if centre is None else centre, spread if scale is None else scale
    kernel = FinalValueKernel(linear, matern, priors)
    Y, Yvar = tensor((y - centre) / scale)[:, None], tensor(noise / scale**2)[:, None]
    model = FinalValueGP(tensor(X), Y, Yvar, kernel, priors.noise)
    if hyperparameters is None:
        _fit(model, max_iterations)
    else:
        _set(model, hyperparameters)
    return FinalValueRegression(model.eval().requires_grad_(False), centre, scale)


def standardisation(y: Array) -> tuple[float, float]:
    """Centre and (positive) scale of `y`; values that are all alike are known well, so their scale is tiny, not 1."""
    centre = float(np.mean(y))
    return centre, usable_spread(float(np.std(y)), centre)


def usable_spread(spread: float, centre: float) -> float:
    """A standard deviation to divide by: where it is none, one that is tiny beside the values."""
    return max(spread, 1e-6 * abs(centre)) or 1e-6


def marginals(model: Model, X: Tensor) -> tuple[Array, Array]:
    """Posterior mean and variance `(m,)` of a model with one output at `m x p`, each point on its own."""
    with torch.no_grad():
        posterior = model.posterior(X.unsqueeze(-2))
        return posterior.mean.reshape(len(X)).numpy(), posterior.variance.reshape(len(X)).numpy()


@one_thread()
def evaluate(function: AcquisitionFunction, X: Array) -> Array:
    """Values of an acquisition function `(m,)` at `m x p`, each point on its own (q = 1)."""
    with torch.no_grad():
        values: Array = function(tensor(X).unsqueeze(-2)).numpy()
    return values


def tensor(array: Array) -> Tensor:
    """A double tensor of its own: nothing that torch does to it reaches the caller's array."""
    return torch.tensor(array, dtype=torch.double)


def _fit(model: FinalValueGP, max_iterations: int) -> None:
    """MAP from the prior medians. `fit_gpytorch_mll` would retry from *random* draws of the priors, and
    `fit_gpytorch_mll_scipy` adds only a warning, where L-BFGS stops early, that would reach the user's terminal."""
    medians = model.hyperparameters
    mll = ExactMarginalLogLikelihood(model.likelihood, model).train()
    parameters, bounds = get_parameters_and_bounds(mll)
    closure = get_loss_closure_with_grads(mll, parameters=parameters)
    try:
        scipy_minimize(closure, parameters, bounds, method="L-BFGS-B", options={"maxiter": max_iterations})
    except RuntimeError:  # a NaN gradient, or a covariance that is not positive definite: the medians always serve
        _set(model, medians)
    if not np.all(np.isfinite(model.hyperparameters[: 4 + model.covar_module.additive])):
        _set(model, medians)


def _set(model: FinalValueGP, hyperparameters: Hyperparameters) -> None:
    kernel, noise = model.covar_module, model.likelihood.second_noise_covar
    with torch.no_grad():
        for name in ("linear", "matern", "lengthscale", *(["additive"] if kernel.additive else [])):
            getattr(kernel, f"raw_{name}").fill_(getattr(hyperparameters, name))
        noise.raw_noise.fill_(hyperparameters.noise)
