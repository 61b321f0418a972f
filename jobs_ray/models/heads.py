"""The two heads of the predictor at one anchor time, scaling-law shaped because on a log scale the rest of a curve is
nearly the same for all configurations.

    notation   meaning                                               shape
    F          standardised features of the configurations          n x p
    z_k, z_T   values at the anchor and at the end, on their scale   (n,)

    gain    z_T - z_k ~ mean + linear(F)   + Matern(F)
    level   z_T       ~ mean + linear(z_k) + Matern(F)

weighted by exp(cross-validated log score / 2): the gain head wins on losses, the level head on noisy accuracies.
The level head counts only as far as it has seen last values z_k like the run's own. The full runs of a search are
those that looked best, all alike; beyond them its slope is a guess, wide enough that expected improvement promoted
the very worst runs (regret of the one promoted when the best 3 / 5 / 8 of 40 by z_4 are known, on losses: .88 / .80 /
.43 without this limit, .07 / .08 / .07 with it; on accuracies .13 / .11 / .07 and .08 / .04 / .04).
Tried and not kept, on the tables of `benchmarks.predictor` (RMSE at N = 20, k = 4: .070): the slope of the last
reports as a further feature (.071, worse at N = 5), ARD (over-confident), one head with a free slope (.071, .088
against .085 at N = 7), weights exp(score) (over-confident), a third head without configuration (equal).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs_ray.models.priors import LogNormal, Priors
from jobs_ray.models.regression import FinalValueRegression, fit_regression
from jobs_ray.models.threads import one_thread
from jobs_ray.space import Array

_FOLDS = 5
_GAIN_PRIOR = 3.0  # prior odds of the gain head on a log scale (1 on a raw one): RMSE .080 not .085 at N = 7, k = 4
_GAIN_SPREAD, _GAIN_SPREAD_RUNS = 0.4, 3  # gains differ by .3 to .5 of their mean (real losses); worth three runs


@dataclass(frozen=True)
class Heads:
    """Fitted. `gps`, `weights`: of the gain head, where there is one, and of the level head."""

    gps: tuple[FinalValueRegression, ...]
    weights: Array
    inflation: float
    centre: float  # of z_k among the full runs, its spread and its range
    spread: float
    lowest: float
    highest: float

    @one_thread()
    def predict(self, F: Array, z_k: Array) -> tuple[Array, Array]:
        """Mean and calibrated standard deviation `(m,)` of z_T for `m x p` features and values at the anchor."""
        level_input = ((z_k - self.centre) / self.spread)[:, None]
        inputs = ((F, z_k), (np.hstack([level_input, F]), np.zeros_like(z_k)))[-len(self.gps) :]
        moments = []
        for gp, (X, offset) in zip(self.gps, inputs, strict=True):
            mean, variance = gp.predict(X)
            moments.append((mean + offset, variance + gp.noise_variance))
        weights = np.tile(self.weights[:, None], len(z_k))
        if len(self.gps) > 1:
            outside = np.maximum(np.maximum(self.lowest - z_k, z_k - self.highest), 0.0) / self.spread
            # never quite 0: the other head's weight may have underflowed, and 0 / 0 is no prediction
            weights[1] = np.maximum(weights[1] * np.exp(-0.5 * outside**2), np.finfo(np.float64).tiny)
        mean, variance = _mix(weights / weights.sum(axis=0), moments)
        return mean, np.sqrt(variance) * self.inflation

    @one_thread()
    def leave_one_out(self, z_k: Array) -> tuple[Array, Array]:
        """Mean and calibrated standard deviation `(n,)` of each full run's z_T from the others, in closed form.

        `z_k`: of the full runs, in the order in which they were given to the fit.
        """
        singles = [np.array([i]) for i in range(len(z_k))]
        moments = [gp.leave_out(singles) for gp in self.gps]
        offsets = (z_k, np.zeros_like(z_k))[-len(self.gps) :]
        mean, variance = _mix(self.weights, [(m + o, v) for (m, v), o in zip(moments, offsets, strict=True)])
        return mean, np.sqrt(variance) * self.inflation


@one_thread()
def fit_heads(F: Array, z_k: Array | None, z_T: Array, *, is_log: bool) -> Heads:
    """Fit to full runs. `z_k` None: nothing of the curve is known, one head from the configuration only."""
    n, p = F.shape
    priors, none = _priors(F), np.zeros(n)
    z = none if z_k is None else z_k
    centre, spread = float(z.mean()), float(z.std()) or 1.0
    X = np.hstack([((z - centre) / spread)[:, None], F])
    level = fit_regression(X, z_T, none, priors, linear=slice(0, 1), matern=slice(1, 1 + p))
    if z_k is None:
        gps, offsets, log_prior = [level], [none], np.zeros(1)
    else:
        gain, both = z_T - z_k, slice(0, p)
        first = fit_regression(F, gain, none, priors, linear=both, matern=both, scale=_spread_of_gains(gain))
        gps, offsets = [first, level], [z_k, none]
        log_prior = np.array([math.log(_GAIN_PRIOR) if is_log else 0.0, 0.0])
    weights, inflation = _stack(gps, offsets, z_T, log_prior)
    return Heads(tuple(gps), weights, inflation, centre, spread, float(z.min()), float(z.max()))


def _stack(
    gps: Sequence[FinalValueRegression], offsets: Sequence[Array], z_T: Array, log_prior: Array
) -> tuple[Array, float]:
    """The weights of the heads by their cross-validated log score, and the factor that calibrates the mixture's sd."""
    folds: list[NDArray[np.int64]] = [np.arange(len(z_T))[i::_FOLDS] for i in range(min(_FOLDS, len(z_T)))]
    scores, squares = [], []
    for gp, offset in zip(gps, offsets, strict=True):
        mean, variance = gp.leave_out(folds)
        standard = (z_T - offset - mean) / np.sqrt(variance)
        scores.append(-0.5 * float((np.log(variance) + standard**2).sum()))
        squares.append(float((standard**2).sum()))
    log_weights = 0.5 * np.array(scores) + log_prior
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    return weights, math.sqrt((_FOLDS + float(weights @ squares)) / (_FOLDS + len(z_T)))


def _spread_of_gains(gain: Array) -> float:
    """Standard deviation, shrunk to what is usual: a few full runs, all chosen as the best, differ too little.

    Coverage of the 90 % interval from 3 full runs at k = 4: .73 without, .84 with it.
    """
    n, usual = len(gain), _GAIN_SPREAD * float(gain.mean())
    variance = (n * float(gain.var()) + _GAIN_SPREAD_RUNS * usual**2) / (n + _GAIN_SPREAD_RUNS)
    return max(math.sqrt(variance), 1e-6 * (1.0 + abs(float(gain.mean()))))


def _priors(F: Array) -> Priors:
    """Medians in units of standardised data; the length scale grows with the typical distance of two rows."""
    typical = math.sqrt(max(float(F.var(axis=0).sum()), 1e-6))
    return Priors(
        linear=LogNormal(0.3, 0.5),
        matern=LogNormal(0.8, 0.5),
        lengthscale=LogNormal(typical, 0.5),
        noise=LogNormal(0.3, 0.5),
    )


def _mix(weights: Array, moments: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Mean and variance of a mixture of normals; `weights`: `(heads,)` or `(heads, m)`, `moments`: `(m,)` of each."""
    means, variances = np.array([m for m, _ in moments]), np.array([v for _, v in moments])
    weights = np.broadcast_to(weights.reshape(len(weights), -1), means.shape)
    mean = (weights * means).sum(axis=0)
    return mean, np.maximum((weights * (variances + means**2)).sum(axis=0) - mean**2, 1e-18)
