"""ScalingLawPredictor: predict a run's final value from its first evaluations and its configuration.

    notation   meaning                                               shape
    F          standardised features of the configurations          n x p
    z          value on its scale (log of a loss, or raw)            n
    k          the time of the last report of a prefix               -
    anchor     a time at which heads are fitted: the last one <= k   -

The models behind it are in `heads.py`; torch is imported when the first ones are fitted.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jobs_ray.models.decay import Prefixes
from jobs_ray.models.late_import import import_models
from jobs_ray.models.prediction import CrossValidation, Prediction
from jobs_ray.models.scale import Scale, choose_scale
from jobs_ray.space import Array
from jobs_ray.trials import LearningCurve

if TYPE_CHECKING:
    from jobs_ray.models.heads import Heads

MIN_FULL = 3  # full runs needed to fit
_EXTRA_DOF = 4
_MAX_ANCHORS = 12  # fits a running trial may ask for; RMSE at the usual k is the same, a search takes a quarter less


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
class FittedScalingLaw:
    """Full runs, and the heads fitted for each prefix length as they are needed (a cache: it may vanish)."""

    features: Array  # n x p
    curves: tuple[LearningCurve, ...]
    max_t: float
    scale: Scale
    _heads: dict[float, Heads] = field(default_factory=dict, repr=False, compare=False)
    _validated: dict[float, CrossValidation] = field(default_factory=dict, repr=False, compare=False)

    def predict(self, features: Array, curves: Sequence[LearningCurve]) -> Prediction:
        """Final values `(m,)` for `m x p` features and prefixes; prefixes need not have the same length."""
        mean, stddev = np.empty(len(curves)), np.empty(len(curves))
        anchors = [self._anchor_of(curve.t[-1] if curve.t else 0.0) for curve in curves]
        for anchor in set(anchors):
            rows = np.array([i for i, own in enumerate(anchors) if own == anchor])
            runs = self._prefixes(anchor, np.asarray(features)[rows], [curves[i] for i in rows.tolist()])
            mean[rows], stddev[rows] = self._heads_at(anchor).predict(runs)
        return Prediction(*self.scale.to_values(mean, stddev * self._t_ratio), dof=self._dof)

    def ready_at(self, t: float) -> float | None:
        """The largest time up to `t` for which heads are fitted already: to predict from there takes no fit."""
        fitted = [anchor for anchor in list(self._heads) if 0.0 < anchor <= t * (1.0 + 1e-9)]
        return max(fitted, default=None)

    def cross_validate(self, t: float) -> CrossValidation:
        """Leave-one-out, in closed form at the fitted hyperparameters and weights."""
        if t not in self._validated:  # every ask wants to know
            self._validated[t] = self._leave_one_out(t)
        return self._validated[t]

    def _leave_one_out(self, t: float) -> CrossValidation:
        anchor = self._anchor_of(t)
        runs, z_T = self._learned(anchor)
        mean, stddev = self._heads_at(anchor).leave_one_out(runs)
        prediction = Prediction(*self.scale.to_values(mean, stddev * self._t_ratio), dof=self._dof)
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

    def _heads_at(self, anchor: float) -> Heads:
        if anchor not in self._heads:
            import_models()
            from jobs_ray.models.heads import fit_heads

            runs, z_T = self._learned(anchor)
            self._heads[anchor] = fit_heads(runs, z_T, is_log=self.scale.is_log, blind=anchor == 0.0)
        return self._heads[anchor]

    def _learned(self, anchor: float) -> tuple[Prefixes, Array]:
        """The full runs as far as the anchor, and their finals; without those whose first report came later, while
        enough are left: what they had reached by then is not known."""
        there = [i for i, curve in enumerate(self.curves) if curve.t[0] <= anchor * (1.0 + 1e-9)]
        rows = np.array(there if len(there) >= MIN_FULL else range(len(self.curves)))
        curves = [self.curves[i] for i in rows.tolist()]
        finals = self.scale.forward(np.array([curve.value[-1] for curve in curves]))
        return self._prefixes(anchor, self.features[rows], curves), finals

    def _prefixes(self, anchor: float, features: Array, curves: Sequence[LearningCurve]) -> Prefixes:
        """What is known at the anchor, on the scale; zeros where nothing of the curve is (anchor 0)."""
        if anchor == 0.0:
            return Prefixes(features, np.zeros(len(curves)), np.zeros(len(curves)))
        first = np.array([_reported_at(self._anchors[0], curve) for curve in curves])
        last = np.array([curve.at(anchor) for curve in curves])
        return Prefixes(features, self.scale.forward(first), self.scale.forward(last))

    def _anchor_of(self, t: float) -> float:
        """The largest anchor up to `t`; 0 (configuration only) before the first."""
        known = bisect_right(self._anchors, t * (1.0 + 1e-9))
        return self._anchors[known - 1] if known else 0.0

    @cached_property
    def _anchors(self) -> tuple[float, ...]:
        """Report times of a full run, thinned evenly in log rank: bounds the number of fits. Of the first with the most
        reports: one observed elsewhere may have two, and short runs end before."""
        times = max((curve.t for curve in self.curves), key=len)
        if len(times) <= _MAX_ANCHORS:
            return times
        ranks = np.unique(np.rint(np.geomspace(1, len(times), _MAX_ANCHORS)).astype(int)) - 1
        return tuple(times[rank] for rank in ranks.tolist())


def _reported_at(t: float, curve: LearningCurve) -> float:
    """The value at `t`, NaN without a report within 5 % of it: first reports are too steep to interpolate."""
    near = curve.t[bisect_left(curve.t, t * 0.95) : bisect_right(curve.t, t * 1.05)]
    return curve.at(t) if near else math.nan
