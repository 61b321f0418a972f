"""The heads of the predictor at one anchor time, scaling-law shaped because on a log scale the rest of a curve is
nearly the same for all configurations, or in proportion to what it has come down so far.

    notation        meaning                                               shape
    F               standardised features of the configurations          n x p
    z_1, z_k, z_T   first value, at the anchor, at the end; on their scale   (n,)
    drop            z_k - z_1                                             (n,)

    gain    z_T - z_k               ~ mean + linear(F)    + Matern(F)
    decay   z_T - z_k - ratio drop  ~ mean + linear(drop) + Matern(F)      on a log scale; see `decay.py`
    level   z_T                     ~ mean + linear(z_k)  + Matern(F)

weighted by exp(cross-validated log score / 2): gain wins on real losses, decay where amplitudes differ, level on noisy
accuracies.
The level head counts only as far as it has seen last values z_k like the run's own. The full runs of a search are
those that looked best, all alike; beyond them its slope is a guess, wide enough that expected improvement promoted
the very worst runs (regret of the one promoted when the best 3 / 5 / 8 of 40 by z_4 are known, on losses: .88 / .80 /
.43 without this limit, .07 / .08 / .07 with it; on accuracies .13 / .11 / .07 and .08 / .04 / .04).
For the same reason the decay head cuts the drop off two spreads beyond the full runs' own (the same regret without:
.27 / .25 / .25, with: .02 / .01 / .01; on generated problems it costs .012 / .006 / .003 of RMSE .64 / .53 / .44).
Tried and not kept, on the tables of `benchmarks.predictor` (RMSE at N = 20, k = 4: .070): the slope of the last
reports as a further feature (.071, worse at N = 5), ARD (over-confident), one head with a free slope (.071, .088
against .085 at N = 7), weights exp(score) (over-confident), a third head without configuration (equal).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from jobs_ray.models.decay import Prefixes, decay_ratio
from jobs_ray.models.priors import LogNormal, Priors
from jobs_ray.models.regression import FinalValueRegression, fit_regression, usable_spread
from jobs_ray.models.threads import one_thread
from jobs_ray.space import Array

_FOLDS = 5
_GAIN_PRIOR = 3.0  # prior odds of the gain head on a log scale (1 on a raw one): RMSE .080 not .085 at N = 7, k = 4
_DROP_UNIT = 0.5  # spreads of the gains: a prior under which the drop may well explain them
_FAR = 1e6  # spreads of z_k: beyond, its square would hide all else in the covariance
_DROP_MARGIN = 2.0  # spreads of the drops beyond those of the full runs
_GAIN_SPREAD, _GAIN_SPREAD_RUNS = 0.4, 3  # gains differ by .3 to .5 of their mean (real losses); worth three runs


@dataclass(frozen=True)
class GainHead:
    """A head says what its linear term sees `(m, q)`, what is added to its prediction `(m,)`, and where it counts."""

    def linear(self, runs: Prefixes) -> Array:
        return runs.F

    def offset(self, runs: Prefixes) -> Array:
        return runs.z_k

    def trust(self, runs: Prefixes) -> Array:
        """Factor of its weight `(m,)`, in [0, 1]."""
        return np.ones_like(runs.z_k)


@dataclass(frozen=True)
class DecayHead:
    """`centre`, `unit`: of the drop as an input; `lowest`, `highest`: where it is cut off."""

    ratio: float
    centre: float
    unit: float
    lowest: float
    highest: float

    def linear(self, runs: Prefixes) -> Array:
        return ((self._drop(runs) - self.centre) / self.unit)[:, None]

    def offset(self, runs: Prefixes) -> Array:
        return runs.z_k + self.ratio * self._drop(runs)

    def trust(self, runs: Prefixes) -> Array:
        return np.where(np.isnan(runs.drop), 0.0, 1.0)

    def _drop(self, runs: Prefixes) -> Array:
        return np.clip(np.where(np.isnan(runs.drop), self.centre, runs.drop), self.lowest, self.highest)


@dataclass(frozen=True)
class LevelHead:
    """`centre`, `spread` and range of z_k among the full runs."""

    centre: float
    spread: float
    lowest: float
    highest: float

    def linear(self, runs: Prefixes) -> Array:
        return np.clip((runs.z_k - self.centre) / self.spread, -_FAR, _FAR)[:, None]

    def offset(self, runs: Prefixes) -> Array:
        return np.zeros_like(runs.z_k)

    def trust(self, runs: Prefixes) -> Array:
        outside = np.maximum(np.maximum(self.lowest - runs.z_k, runs.z_k - self.highest), 0.0) / self.spread
        return np.asarray(np.exp(-0.5 * np.minimum(outside, _FAR) ** 2))


Head: TypeAlias = GainHead | DecayHead | LevelHead


@dataclass(frozen=True)
class Heads:
    """Fitted. `gps`, `weights`: one for each head."""

    heads: tuple[Head, ...]
    gps: tuple[FinalValueRegression, ...]
    weights: Array
    inflation: float

    def predict(self, runs: Prefixes) -> tuple[Array, Array]:
        """Mean and calibrated standard deviation `(m,)` of z_T."""
        if len(runs.z_k) == 1:  # without torch
            return self._predict(runs)
        with one_thread():
            return self._predict(runs)

    def _predict(self, runs: Prefixes) -> tuple[Array, Array]:
        moments = []
        for head, gp in zip(self.heads, self.gps, strict=True):
            mean, variance = gp.predict(np.hstack([head.linear(runs), runs.F]))
            moments.append((mean + head.offset(runs), variance + gp.noise_variance))
        weights = self.weights[:, None] * np.array([head.trust(runs) for head in self.heads])
        weights = np.maximum(weights, np.finfo(np.float64).tiny)  # all may have underflowed: 0 / 0 is no prediction
        mean, variance = _mix(weights / weights.sum(axis=0), moments)
        return mean, np.sqrt(variance) * self.inflation

    @one_thread()
    def leave_one_out(self, runs: Prefixes) -> tuple[Array, Array]:
        """Mean and calibrated standard deviation `(n,)` of each full run's z_T from the others, in closed form.

        `runs`: the full runs, in the order in which they were given to the fit.
        """
        singles = [np.array([i]) for i in range(len(runs.z_k))]
        moments = []
        for head, gp in zip(self.heads, self.gps, strict=True):
            mean, variance = gp.leave_out(singles)
            moments.append((mean + head.offset(runs), variance))
        mean, variance = _mix(self.weights, moments)
        return mean, np.sqrt(variance) * self.inflation


@one_thread()
def fit_heads(runs: Prefixes, z_T: Array, *, is_log: bool, blind: bool = False) -> Heads:
    """Fit to full runs. blind: nothing of the curves is known, one head from the configuration only."""
    z_k, gain, priors = runs.z_k, z_T - runs.z_k, _priors(runs.F)
    spread = _spread_of_gains(gain)
    level = LevelHead(float(z_k.mean()), float(z_k.std()) or 1.0, float(z_k.min()), float(z_k.max()))
    heads: tuple[Head, ...] = (level,)
    if not blind:
        falls = is_log and not np.isnan(runs.drop).any()
        decay = (_decay_head(gain, runs.drop, _DROP_UNIT * spread),) if falls else ()
        heads = (GainHead(), *decay, level)
    offsets = [head.offset(runs) for head in heads]
    gps = []
    for head, offset in zip(heads, offsets, strict=True):
        seen = head.linear(runs)
        q, scale = seen.shape[1], None if isinstance(head, LevelHead) else spread
        X, known = np.hstack([seen, runs.F]), np.zeros_like(z_T)
        gps.append(fit_regression(X, z_T - offset, known, priors, linear=slice(q), matern=slice(q, None), scale=scale))
    log_prior = np.array([math.log(_GAIN_PRIOR) if is_log and isinstance(head, GainHead) else 0.0 for head in heads])
    weights, inflation = _stack(gps, offsets, z_T, log_prior)
    return Heads(heads, tuple(gps), weights, inflation)


def _decay_head(gain: Array, drop: Array, unit: float) -> DecayHead:
    centre, spread = float(drop.mean()), float(drop.std())
    margin = _DROP_MARGIN * max(spread, 0.1 * abs(centre))
    return DecayHead(
        decay_ratio(gain, drop),
        centre,
        max(unit, 1e-3 * spread),  # gains of 0, at the end of a run, would make an input of 1e7: no Cholesky factor
        lowest=float(drop.min()) - margin,
        highest=float(drop.max()) + margin,
    )


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
    return usable_spread(math.sqrt(variance), float(gain.mean()))


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
    return mean, (weights * (variances + (means - mean) ** 2)).sum(axis=0)
