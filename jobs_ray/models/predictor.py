"""Predict a run's final value from its first evaluations and its configuration.

    notation   meaning                                               shape
    F          standardised features of the configurations          n x p
    z          value on its scale (log of a loss, or raw)            n
    k          the time of the last report of a prefix               -

Two heads share one GP code (jobs_ray/gp.py), scaling-law shaped because on a log scale the rest of a curve is nearly
the same for all configurations:

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
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from jobs_ray.models.gp import Array, GaussianProcess, LogNormal, Priors, fit_gp
from jobs_ray.models.prediction import CrossValidation, Prediction
from jobs_ray.models.scale import Scale, choose_scale
from jobs_ray.trials import LearningCurve

MIN_FULL = 3  # full runs needed to fit
_FOLDS = 5
_EXTRA_DOF = 4
_GAIN_PRIOR = 3.0  # prior odds of the gain head on a log scale (1 on a raw one): RMSE .080 not .085 at N = 7, k = 4
_GAIN_SPREAD, _GAIN_SPREAD_RUNS = 0.4, 3  # gains differ by .3 to .5 of their mean (real losses); worth three runs
_MAX_ANCHORS = 24


@dataclass(frozen=True)
class ScalingLawPredictor:
    """The predictor of this project. `scale`: "log" for positive losses, "raw" for accuracies, or "auto"."""

    scale: str = "auto"

    def fit(self, features: Array, curves: Sequence[LearningCurve], max_t: float) -> FittedScalingLaw:
        """Raises ValueError with fewer than 3 curves, or curves without a value."""
        if len(curves) < MIN_FULL or len(features) != len(curves):
            raise ValueError(f"expected at least {MIN_FULL} full runs and as many rows, got {len(curves)}")
        if any(not curve.value for curve in curves):
            raise ValueError("a full run has no value; leave runs without finite reports out of the fit")
        if not np.all(np.isfinite(features)):
            raise ValueError("features must be finite")
        scale = choose_scale(self.scale, np.concatenate([curve.value for curve in curves]))
        return FittedScalingLaw(np.array(features), tuple(curves), float(max_t), scale)


@dataclass(frozen=True)
class _Heads:
    """The two heads at one anchor time, on the scale of the metric."""

    gps: tuple[GaussianProcess, ...]
    weights: Array  # (heads,)
    inflation: float
    centre: float  # of z_k among the full runs, its spread and its range
    spread: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class FittedScalingLaw:
    """Full runs, and the heads fitted for each prefix length as they are needed (a cache: it may vanish)."""

    features: Array  # n x p
    curves: tuple[LearningCurve, ...]
    max_t: float
    scale: Scale
    _cache: dict[float, _Heads] = field(default_factory=dict, repr=False, compare=False)
    _validated: dict[float, CrossValidation] = field(default_factory=dict, repr=False, compare=False)

    def predict(self, features: Array, curves: Sequence[LearningCurve]) -> Prediction:
        """Final values `(m,)` for `m x p` features and prefixes; prefixes need not have the same length."""
        mean, stddev = np.empty(len(curves)), np.empty(len(curves))
        anchors = [self._anchor_of(curve.t[-1] if curve.t else 0.0) for curve in curves]
        for anchor in set(anchors):
            rows = np.array([i for i, own in enumerate(anchors) if own == anchor])
            z_k = self._prefix_values([curves[i] for i in rows.tolist()], anchor)
            mean[rows], stddev[rows] = self._predict_at(anchor, np.asarray(features)[rows], z_k)
        return Prediction(*self.scale.to_values(mean, stddev), dof=self._dof)

    def cross_validate(self, t: float) -> CrossValidation:
        """Leave-one-out, in closed form at the fitted hyperparameters and weights."""
        if t not in self._validated:  # every ask wants to know
            self._validated[t] = self._leave_one_out(t)
        return self._validated[t]

    def _leave_one_out(self, t: float) -> CrossValidation:
        anchor = self._anchor_of(t)
        heads, z_k, z_T = self._heads(anchor), self._prefix_values(self.curves, anchor), self._finals()
        singles = [np.array([i]) for i in range(len(z_T))]
        moments = [gp.leave_out(singles) for gp in heads.gps]
        offsets = (z_k, np.zeros_like(z_k))[-len(heads.gps) :]
        mean, variance = _mix(heads.weights, [(m + o, v) for (m, v), o in zip(moments, offsets, strict=True)])
        stddev = np.sqrt(variance) * heads.inflation * self._t_ratio
        prediction = Prediction(*self.scale.to_values(mean, stddev), dof=self._dof)
        finals = self.scale.to_values(z_T, np.zeros_like(z_T))[0]
        low, high = prediction.interval(0.9)
        error = prediction.mean - finals
        spread = float(np.var(finals)) * len(finals) / (len(finals) - 1)
        return CrossValidation(
            t=float(t),
            n=len(finals),
            rmse=float(np.sqrt(np.mean(error**2))),
            r2=float(1.0 - np.mean(error**2) / spread) if spread > 0 else 0.0,
            coverage=float(np.mean((low <= finals) & (finals <= high))),
        )

    @property
    def _dof(self) -> float:
        return float(len(self.curves) + _EXTRA_DOF)

    @property
    def _t_ratio(self) -> float:
        """Standard deviation of the Student-t over its scale: `stddev` is a true standard deviation."""
        return math.sqrt(self._dof / (self._dof - 2.0))

    def _predict_at(self, anchor: float, F: Array, z_k: Array) -> tuple[Array, Array]:
        heads = self._heads(anchor)
        level_input = ((z_k - heads.centre) / heads.spread)[:, None]
        inputs = ((F, z_k), (level_input, np.zeros_like(z_k)))[-len(heads.gps) :]
        moments = []
        for gp, (L, offset) in zip(heads.gps, inputs, strict=True):
            m, v = gp.predict(L, F)
            moments.append((m + offset, v + gp.noise_variance))
        weights = np.tile(heads.weights[:, None], len(z_k))
        if len(heads.gps) > 1:
            outside = np.maximum(np.maximum(heads.lowest - z_k, z_k - heads.highest), 0.0) / heads.spread
            # never quite 0: the other head's weight may have underflowed, and 0 / 0 is no prediction
            weights[1] = np.maximum(weights[1] * np.exp(-0.5 * outside**2), np.finfo(np.float64).tiny)
        mean, variance = _mix(weights / weights.sum(axis=0), moments)
        return mean, np.sqrt(variance) * heads.inflation * self._t_ratio

    def _heads(self, anchor: float) -> _Heads:
        if anchor not in self._cache:
            self._cache[anchor] = self._fit_heads(anchor)
        return self._cache[anchor]

    def _fit_heads(self, anchor: float) -> _Heads:
        F, z_k, z_T = self.features, self._prefix_values(self.curves, anchor), self._finals()
        centre, spread = float(z_k.mean()), float(z_k.std()) or 1.0
        priors, none = _priors(F), np.zeros(len(z_T))
        level = fit_gp(((z_k - centre) / spread)[:, None], F, z_T, none, priors)
        if anchor == 0.0:  # nothing of the curve is known: configuration only
            gps, offsets, log_prior = [level], [none], np.zeros(1)
        else:
            gain = z_T - z_k
            gps, offsets = [fit_gp(F, F, gain, none, priors, scale=_spread_of_gains(gain)), level], [z_k, none]
            log_prior = np.array([math.log(_GAIN_PRIOR) if self.scale.is_log else 0.0, 0.0])
        folds = [np.arange(len(z_T))[i::_FOLDS] for i in range(min(_FOLDS, len(z_T)))]
        scores, squares = [], []
        for gp, offset in zip(gps, offsets, strict=True):
            mean, variance = gp.leave_out(folds)
            standard = (z_T - offset - mean) / np.sqrt(variance)
            scores.append(-0.5 * float((np.log(variance) + standard**2).sum()))
            squares.append(float((standard**2).sum()))
        log_weights = 0.5 * np.array(scores) + log_prior
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        inflation = math.sqrt((_FOLDS + float(weights @ squares)) / (_FOLDS + len(z_T)))
        return _Heads(tuple(gps), weights, inflation, centre, spread, float(z_k.min()), float(z_k.max()))

    def _finals(self) -> Array:
        return self.scale.forward(np.array([curve.value[-1] for curve in self.curves]))

    def _prefix_values(self, curves: Sequence[LearningCurve], anchor: float) -> Array:
        if anchor == 0.0:
            return np.zeros(len(curves))
        return self.scale.forward(np.array([curve.at(anchor) for curve in curves]))

    def _anchor_of(self, t: float) -> float:
        """The largest anchor up to `t`; 0 (configuration only) before the first."""
        known = bisect_right(self._anchors, t * (1.0 + 1e-9))
        return self._anchors[known - 1] if known else 0.0

    @cached_property
    def _anchors(self) -> tuple[float, ...]:
        """Report times of the first full run, thinned evenly in log rank: bounds the number of fits."""
        times = self.curves[0].t
        if len(times) <= _MAX_ANCHORS:
            return times
        ranks = np.unique(np.rint(np.geomspace(1, len(times), _MAX_ANCHORS)).astype(int)) - 1
        return tuple(times[rank] for rank in ranks.tolist())


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
