"""Predicted finals of a saved experiment, with the predictor's own accuracy.

A saved state holds no fitted predictor. It is fitted anew here, from all full runs; what is said of a full run itself
is predicted from its first `short_t` steps by a predictor that did *not* learn from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jobs_ray.models.prediction import CrossValidation, FittedPredictor, Prediction
from jobs_ray.models.predictor import MIN_FULL, ScalingLawPredictor
from jobs_ray.trials import Trial

if TYPE_CHECKING:
    from jobs_ray.search.optimizer import JoBSOptimizer

_FOLDS = 20  # parts of which each is predicted without itself: leave-one-out up to so many full runs
_LEFT_OUT = 100  # full runs from which on only about so many are: of 1,000 every fit takes a quarter of a minute


@dataclass(frozen=True)
class Predicted:
    """A predicted final value, in the user's sign; `low` to `high` holds it with probability 0.9."""

    mean: float
    stddev: float
    low: float
    high: float


@dataclass(frozen=True)
class Predictions:
    """`trials`: predicted finals by trial id. The predictor's accuracy at `short_t`: its `own` leave-one-out estimate
    at fitted hyperparameters, which the search reckons with, and `left_out`, by a fit without the run predicted."""

    trials: Mapping[str, Predicted]
    own: CrossValidation | None = None
    left_out: CrossValidation | None = None


def predictions(core: JoBSOptimizer, left_out: bool = True) -> Predictions:
    """Empty while there are fewer than three full runs; nothing is left out with just three.

    Of more than 100 full runs a sample of about 100 is left out, and `left_out` is of these; the others have no
    prediction. left_out=False: none is, which spares up to twenty fits.
    """
    plan, max_t = core.plan(), core.max_t
    full = [t for t in core.trials.values() if t.final is not None and len(t.curve.t) > 1]
    if plan is None or max_t is None or len(full) < MIN_FULL:
        return Predictions({})
    fitted, short_t = _fit(core, full, max_t), float(plan["short_t"])
    partial = [t for t in core.trials.values() if t.final is None and t.curve.value and not t.curve.ends_failed]
    found = _predict(core, fitted, partial, None)
    own = fitted.cross_validate(short_t)
    if len(full) == MIN_FULL or not left_out:
        return Predictions(found, own)
    folds = min(len(full), _FOLDS)
    for fold in range(min(folds, math.ceil(folds * _LEFT_OUT / len(full)))):
        others = [trial for i, trial in enumerate(full) if i % folds != fold]
        found |= _predict(core, _fit(core, others, max_t), full[fold::folds], short_t)
    return Predictions(found, own, _accuracy(core, [t for t in full if t.trial_id in found], found, short_t))


def _accuracy(
    core: JoBSOptimizer, full: Sequence[Trial], found: Mapping[str, Predicted], short_t: float
) -> CrossValidation:
    finals = core.settings.sign * np.array([t.final for t in full], dtype=np.float64)
    mean, low, high = (
        np.array([getattr(found[t.trial_id], name) for t in full], dtype=np.float64) for name in ("mean", "low", "high")
    )
    squares, spread = float(np.mean((mean - finals) ** 2)), float(np.var(finals, ddof=1))
    return CrossValidation(
        t=short_t,
        n=len(full),
        rmse=float(np.sqrt(squares)),
        r2=1.0 - squares / spread if spread > 0 else 0.0,
        coverage=float(np.mean((low <= finals) & (finals <= high))),
    )


def _fit(core: JoBSOptimizer, full: Sequence[Trial], max_t: float) -> FittedPredictor:
    features = core.space.features(np.array([t.x for t in full]))
    return ScalingLawPredictor().fit(features, [t.curve for t in full], max_t)


def _predict(
    core: JoBSOptimizer, fitted: FittedPredictor, trials: Sequence[Trial], until: float | None
) -> dict[str, Predicted]:
    if not trials:
        return {}
    sign = core.settings.sign
    curves = [t.curve if until is None else t.curve.up_to(until) for t in trials]
    prediction: Prediction = fitted.predict(core.space.features(np.array([t.x for t in trials])), curves)
    columns = (prediction.mean, prediction.stddev, *prediction.interval(0.9))
    return {
        trial.trial_id: Predicted(sign * mean, stddev, *sorted((sign * low, sign * high)))
        for trial, mean, stddev, low, high in zip(trials, *(c.tolist() for c in columns), strict=True)
    }
