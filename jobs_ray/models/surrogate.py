"""The surrogate: one GP over all observations, confirmed finals and predictions alike, with per-observation noise.

    notation   meaning                                                                       shape
    F          standardised features (mixtures by the Hellinger distance, choices one-hot)  n x p
    z          final values on their scale, observed or predicted, maximised                n
    noise      variance of each: about 0 for a confirmed final, stddev^2 for a prediction   n

A prediction's uncertainty is data: that is how one GP holds full and short runs (botorch calls it `train_Yvar`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs_ray.models.gp import Array, GaussianProcess, LogNormal, Priors, distance, fit_theta, matern52, standardisation

MAX_POINTS = 192  # above, the best half and the newest are kept: one `ask` costs the same at 500 trials and at 5,000
_FIT_POINTS = 96  # hyperparameters are fitted on at most so many: four numbers need no more
_WINSOR = 3.0
_FIRST = 8  # points that are space-filling at least
_SHARED = 0.9  # share of a prediction's variance that neighbours have in common


@dataclass(frozen=True)
class Surrogate:
    """Posterior over the final value. Made by `fit_surrogate`; `with_pending` returns a new one."""

    gp: GaussianProcess
    F: Array
    z: Array
    noise: Array
    centre: float
    spread: float

    def posterior(self, F: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the noise-free final, `(m,)` each, for `m x p` features."""
        mean, variance = self.gp.predict(F, F)
        return mean, np.sqrt(variance)

    def with_pending(self, F: Array) -> Surrogate:
        """The surrogate as if the pending points had come out at their posterior mean ("kriging believer").

        Their variance collapses and their mean stays, so any number of pending trials keeps candidates apart.
        Ginsbourger et al. 2010, "Kriging is well-suited to parallelize optimization".
        """
        if len(F) == 0:
            return self
        believed = self.posterior(F)[0]
        features, z = np.vstack([self.F, F]), np.concatenate([self.z, believed])
        noise = np.concatenate([self.noise, np.zeros(len(F))])
        gp = GaussianProcess(
            features, features, z, noise_covariance(features, noise), self.gp.theta, self.centre, self.spread
        )
        return Surrogate(gp, features, z, noise, self.centre, self.spread)


def fit_surrogate(F: Array, z: Array, noise: Array) -> Surrogate:
    """Fit on `n x p`, `(n,)`, `(n,)`; n >= 1. What it costs grows with n cubed: see `informative`.

    Raises ValueError on shapes that do not match or non-finite data.
    """
    if not (len(F) == len(z) == len(noise) and len(z) >= 1):
        raise ValueError(f"expected as many rows as values and noises, got {len(F)}, {len(z)}, {len(noise)}")
    if not (np.all(np.isfinite(F)) and np.all(np.isfinite(z)) and np.all(noise >= 0)):
        raise ValueError("features and values must be finite, noise variances >= 0")
    centre, spread = standardisation(z)
    N = noise_covariance(F, noise)
    every = max(1, math.ceil(len(z) / _FIT_POINTS))
    rows = np.argsort(-z, kind="stable")[::every]  # spread evenly over the values, so that both ends are represented
    theta = fit_theta(F[rows], F[rows], (z[rows] - centre) / spread, N[np.ix_(rows, rows)] / spread**2, _priors(F), 30)
    gp = GaussianProcess(F, F, z, N, theta, centre, spread)
    return Surrogate(gp, F, z, noise, centre, spread)


def noise_covariance(F: Array, noise: Array) -> Array:
    """`n x n`: a predictor errs alike for alike configurations, so ten predictions of neighbours are not ten facts.

    Independent errors let the surrogate grow certain of a region from short runs alone, and the search stayed there:
    regret at C = 10 on the emulator .15 without the correlation, .12 with it (4 seeds x 3 tasks, +-.02).
    """
    stddev = np.sqrt(noise)
    covariance = _SHARED * np.outer(stddev, stddev) * matern52(distance(F, F) / math.sqrt(F.shape[1]))
    covariance[np.diag_indices_from(covariance)] += (1.0 - _SHARED) * noise
    return covariance


def winsorised(z: Array) -> Array:
    """Diverged runs of `(n,)` in the order asked pulled in: far below the median says "bad" and no more than that.

    The median of the first points, which fill the space: that of all moves up to the best as the search closes in, and
    then every value but the best looked alike, the unknown too, and the search never left its first good region.
    """
    if len(z) <= 2:
        return z
    middle = min(float(np.median(z)), float(np.median(z[: max(_FIRST, len(z) // 4)])))
    return np.maximum(z, middle - _WINSOR * max(float(np.max(z)) - middle, 1e-12))


def informative(z: Array) -> NDArray[np.int64]:
    """The rows of `(n,)` in the order asked that are worth their cost: the best and the newest, `MAX_POINTS` in all."""
    if len(z) <= MAX_POINTS:
        return np.arange(len(z))
    best = np.argsort(-z, kind="stable")[: MAX_POINTS // 2]
    rest = np.setdiff1d(np.arange(len(z)), best)
    return np.sort(np.concatenate([best, rest[-(MAX_POINTS - len(best)) :]]))


def _priors(F: Array) -> Priors:
    """In units of standardised data; the length scale's median is the typical distance of two random points."""
    return Priors(
        linear=LogNormal(0.5, 0.5),
        matern=LogNormal(1.0, 0.5),
        lengthscale=LogNormal(math.sqrt(F.shape[1]), 0.5),
        noise=LogNormal(0.05, 1.0),
    )
