"""What the trials say: a fitted predictor, a prediction for every unfinished run, and the surrogate over both.

A FittedModels is a function of the trials alone; nothing of it is saved. The cache it is given only saves time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from jobs_ray.models.prediction import FittedPredictor, Predictor
from jobs_ray.models.predictor import MIN_FULL
from jobs_ray.models.scale import Scale, choose_scale
from jobs_ray.models.surrogate import Surrogate, fit_surrogate, informative, winsorised
from jobs_ray.space import Array, SearchSpace
from jobs_ray.trials import LearningCurve, Trial, TrialStatus

MAX_FULL = 100  # full runs that the predictor learns from, the newest: keeps a fit below 0.2 s
_BATCH = 10  # beyond, one more full run tells little, and each fit means predicting every short run anew
_FAILED_NOISE = 0.5  # sd of a failed run's stand-in value, in spreads of the values: "bad here", not how bad


@dataclass
class ModelCache:
    """Fitted predictors and predictions; may vanish at any time."""

    predictor_key: tuple[str, ...] = ()
    predictor: FittedPredictor | None = None
    predictions: dict[str, tuple[LearningCurve, float, float]] = field(default_factory=dict)

    def copy(self) -> ModelCache:
        return ModelCache(self.predictor_key, self.predictor, dict(self.predictions))


@dataclass(frozen=True)
class FittedModels:
    """`values`: what is believed of each trial with a curve, `{trial_id: (mean, stddev)}`, maximised."""

    scale: Scale
    values: Mapping[str, tuple[float, float]]
    surrogate: Surrogate | None
    best: float  # on the scale: the best posterior mean among the points observed

    def posterior(self, features: Array) -> tuple[Array, Array]:
        """Posterior of the final on the scale. Raises RuntimeError when nothing was observed yet."""
        if self.surrogate is None:
            raise RuntimeError("nothing was observed yet: ask for space-filling points first")
        return self.surrogate.posterior(features)


def fit_predictor(
    space: SearchSpace, trials: Sequence[Trial], predictor: Predictor, max_t: float | None, cache: ModelCache
) -> FittedPredictor | None:
    """The predictor learned from the full runs; None while there are fewer than three."""
    full = [t for t in trials if t.final is not None and len(t.curve.t) > 1]
    if len(full) > MAX_FULL:
        full = full[: len(full) - len(full) % _BATCH][-MAX_FULL:]
    if max_t is None or len(full) < MIN_FULL:
        return None
    key = tuple(f"{t.trial_id}:{len(t.curve.t)}" for t in full)
    if cache.predictor_key != key or cache.predictor is None:
        features = space.features(np.array([t.x for t in full]))
        cache.predictor = predictor.fit(features, [t.curve for t in full], max_t)
        cache.predictor_key = key
        cache.predictions.clear()
    return cache.predictor


def predict(
    space: SearchSpace, trials: Sequence[Trial], predictor: FittedPredictor, cache: ModelCache
) -> dict[str, tuple[float, float]]:
    """Predicted finals `{trial_id: (mean, stddev)}` of unfinished trials with at least one value."""
    known = cache.predictions
    new = [t for t in trials if t.trial_id not in known or known[t.trial_id][0] is not t.curve]
    if new:
        features = space.features(np.array([t.x for t in new]))
        prediction = predictor.predict(features, [t.curve for t in new])
        for trial, mean, stddev in zip(new, prediction.mean.tolist(), prediction.stddev.tolist(), strict=True):
            known[trial.trial_id] = (trial.curve, mean, stddev)
    return {t.trial_id: known[t.trial_id][1:] for t in trials}


def fit_models(
    space: SearchSpace, trials: Sequence[Trial], predictor: Predictor, max_t: float | None, cache: ModelCache
) -> FittedModels:
    """Everything that the trials say, with running trials that have no report yet as pending points."""
    promoted = {t.promotes for t in trials if t.promotes and t.curve.value}
    seen = [t for t in trials if t.trial_id not in promoted]
    finals = [t for t in seen if t.final is not None]
    partial = [t for t in seen if t.final is None and t.curve.value and not t.curve.ends_failed]
    failed = [t for t in seen if t.status is TrialStatus.FAILED and (not t.curve.value or t.curve.ends_failed)]
    fitted = fit_predictor(space, trials, predictor, max_t, cache)
    if fitted is not None:
        values = predict(space, partial, fitted, cache)
    else:
        finals, values = _without_predictor(finals, partial)
    values |= {t.trial_id: (t.final, 0.0) for t in finals if t.final is not None}
    if not values:
        return FittedModels(Scale(False), {}, None, 0.0)
    known = [t for t in seen if t.trial_id in values]
    mean, stddev = (np.array([values[t.trial_id][i] for t in known]) for i in (0, 1))
    scale = choose_scale("auto", mean)
    z, sd = scale.from_values(mean, stddev)
    spread = float(z.std()) or 1.0
    noise = np.concatenate([sd**2, np.full(len(failed), (_FAILED_NOISE * spread) ** 2)])
    z = winsorised(np.concatenate([z, np.full(len(failed), float(z.min()))]))
    rows = informative(z)
    points = [*known, *failed]
    features = space.features(np.array([points[row].x for row in rows]))
    surrogate = fit_surrogate(features, z[rows], noise[rows])
    best = float(surrogate.posterior(features[rows < len(known)])[0].max())
    pending = [t.x for t in seen if t.running and not t.curve.value]
    if pending:
        surrogate = surrogate.with_pending(space.features(np.array(pending)))
    return FittedModels(scale, values, surrogate, best)


def _without_predictor(finals: list[Trial], partial: list[Trial]) -> tuple[list[Trial], dict[str, tuple[float, float]]]:
    """Before the predictor stands: all curves compared at one common, early time, so that like meets like."""
    if not partial:
        return finals, {}
    ends = sorted(t.curve.t[-1] for t in partial)
    common = ends[len(ends) // 2]
    comparable = [t for t in (*finals, *partial) if t.curve.t[-1] >= common and t.curve.t[0] <= common]
    return [], {t.trial_id: (t.curve.at(common), 0.0) for t in comparable}
