"""The surrogate: one model over all observations, confirmed finals and predictions alike, with per-observation noise.

    notation   meaning                                                                       shape
    F          features: standardised for our own model, in [0, 1] for the user's           n x p
    z          final values on their scale, observed or predicted, maximised                n
    noise      variance of each: about 0 for a confirmed final, stddev^2 for a prediction   n

A prediction's uncertainty is data (botorch's `train_Yvar`): that is how one GP holds full and short runs.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from botorch.models.model import Model
from numpy.typing import NDArray
from torch import Tensor

from jobs_ray.models.gp import FinalValueGP, Hyperparameters
from jobs_ray.models.hooks import HookError, guarded
from jobs_ray.models.joint import JointPosterior
from jobs_ray.models.priors import LogNormal, Priors
from jobs_ray.models.regression import Regression, fit_regression, marginals, standardisation, tensor
from jobs_ray.models.threads import one_thread
from jobs_ray.models.training_points import on_grid
from jobs_ray.space import Array

if TYPE_CHECKING:
    from jobs_ray.models.hooks import SurrogateHook

_FIT_POINTS = 96  # hyperparameters are fitted on at most so many: five numbers need no more
_LEAST_NOISE = 1e-5  # of a confirmed final, for the user's model: gpytorch rounds 1e-6 up, with a warning

Fits = MutableMapping[bytes, tuple[Hyperparameters, float, float]]
"""Hyperparameters, centre and scale fitted so far by the data they were fitted to; may vanish at any time."""


@dataclass(frozen=True)
class Surrogate:
    """Posterior over the final value. Made by `fit_surrogate`; `with_pending` returns a new one.

    `observed`: the model of what was observed; `regression.model`: conditioned on what is pending, too.
    """

    regression: Regression
    observed: Model
    hook: SurrogateHook | None = None
    pending: Tensor | None = None

    @one_thread()
    def posterior(self, F: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the noise-free final, `(m,)` each, for `m x p` features.

        Raises HookError where the user's model raises or answers with numbers that are not finite.
        """
        with guarded(self.hook, "the surrogate"):
            mean, variance = self.regression.predict(F)
        if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(variance))):
            raise HookError("the surrogate's posterior is not finite")
        return mean, np.sqrt(variance)

    def standardised(self, value: float) -> float:
        """A value on the scale in the model's own units."""
        return (value - self.regression.centre) / self.regression.scale

    @one_thread()
    def joint(self, F: Array) -> JointPosterior:
        """The joint posterior at `m x p` features, in the model's own units. TypeError: the model is the user's."""
        model = self.regression.model
        if not isinstance(model, FinalValueGP):
            raise TypeError(f"expected our own model, got the user's {type(model).__name__}")
        with torch.no_grad():
            return JointPosterior(*model.joint(tensor(F)))

    @one_thread()
    def with_pending(self, F: Array) -> Surrogate:
        """The surrogate as if the pending points had come out at their posterior mean ("kriging believer").

        Their variance collapses and their mean stays, so any number of pending trials keeps candidates apart.
        Ginsbourger et al. 2010, "Kriging is well-suited to parallelize optimization". (Log noisy EI instead: worse.)
        """
        if len(F) == 0:
            return self
        X, model = tensor(F), self.regression.model
        with guarded(self.hook, "the surrogate"):
            mean = tensor(marginals(model, X)[0])[:, None]
            noise = None if self.hook is None else mean.new_full(mean.shape, _LEAST_NOISE)
            believed = model.condition_on_observations(X, mean, noise=noise)
        return replace(self, regression=replace(self.regression, model=believed), pending=X)


@one_thread()
def fit_surrogate(
    F: Array, z: Array, noise: Array, *, hook: SurrogateHook | None = None, fits: Fits | None = None
) -> Surrogate:
    """Fit on `n x p`, `(n,)`, `(n,)`; n >= 1. What it costs grows with n cubed: see `training_points.informative`.

    Raises ValueError on shapes that do not match or non-finite data, HookError where the user's hook fails.
    """
    if not (len(F) == len(z) == len(noise) and len(z) >= 1):
        raise ValueError(f"expected as many rows as values and noises, got {len(F)}, {len(z)}, {len(noise)}")
    if not (np.all(np.isfinite(F)) and np.all(np.isfinite(z)) and np.all(noise >= 0)):
        raise ValueError("features and values must be finite, noise variances >= 0")
    if hook is not None:
        centre, scale = standardisation(z)
        Yvar = np.maximum(noise / scale**2, _LEAST_NOISE)
        with guarded(hook, "the surrogate"):
            model = hook(tensor(F), tensor((z - centre) / scale)[:, None], tensor(Yvar)[:, None])
            if not isinstance(model, Model):
                raise HookError(f"the surrogate returned a {type(model).__name__}; expected a botorch Model")
        return Surrogate(Regression(model, centre, scale), model, hook)
    everything = slice(0, F.shape[1])
    rows = _fitted_on(z)
    known = {} if fits is None else fits
    key = b"".join(np.ascontiguousarray(part[rows]).tobytes() for part in (F, z, noise))
    if key not in known:
        fit = fit_regression(
            F[rows], z[rows], noise[rows], _priors(F), linear=everything, matern=everything, max_iterations=30
        )
        known[key] = fit.model.hyperparameters, fit.centre, fit.scale
    hyperparameters, centre, scale = known[key]
    regression = fit_regression(
        F, z, noise, _priors(F), linear=everything, matern=everything,
        hyperparameters=hyperparameters, centre=centre, scale=scale,
    )  # fmt: skip
    return Surrogate(regression, regression.model)


def _fitted_on(z: Array) -> NDArray[np.int64]:
    """Rows for the hyperparameters: the first m, m on a grid, so that one more trial seldom means a fit; at most
    `_FIT_POINTS` of them, spread evenly over the values, so that both ends are represented."""
    m = on_grid(len(z))
    every = max(1, math.ceil(m / _FIT_POINTS))
    return np.sort(np.argsort(-z[:m], kind="stable")[::every])


def _priors(F: Array) -> Priors:
    """In units of standardised data; the length scale's median is the typical distance of two random points."""
    return Priors(
        linear=LogNormal(0.5, 0.5),
        matern=LogNormal(0.5, 0.5),
        lengthscale=LogNormal(math.sqrt(F.shape[1]), 0.5),
        noise=LogNormal(0.05, 1.0),
        additive=LogNormal(0.87, 0.5),  # three quarters of the variance before the data say otherwise
    )
