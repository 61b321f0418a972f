"""What the trials say: a fitted predictor, a prediction for every unfinished run, and the surrogate over both.

FittedModels are a function of the trials alone; nothing of them is saved. The cache they are given only saves time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs_ray.models.decay import at_common_time
from jobs_ray.models.hooks import HookError, Hooks
from jobs_ray.models.late_import import import_models
from jobs_ray.models.prediction import FittedPredictor, Predictor
from jobs_ray.models.predictor import MIN_FULL
from jobs_ray.models.scale import Scale, choose_scale
from jobs_ray.models.smoothing import Denoiser, Smoothing
from jobs_ray.models.training_points import informative, on_grid, undiverged, winsorised
from jobs_ray.space import Array, SearchSpace
from jobs_ray.trials import LearningCurve, Trial, TrialStatus, TrialTable

if TYPE_CHECKING:
    from jobs_ray.models.regression import Regression
    from jobs_ray.models.surrogate import Fits, Surrogate

MAX_FULL = 100  # full runs that the predictor learns from, the newest: keeps a fit below 0.2 s
# sd of a failed run's stand-in value, in spreads of the values: "bad here", not how bad. With .5, 13 to 31 of 46 short
# runs went to what runs out of memory (a problem of four parameters, four seeds), 1 to 7 with .2, at the same regret;
# with .05 it grew. On `diverging`, 170 to 174, .2 for .5 is a tie
_FAILED_NOISE = 0.2
_MAX_FITS = 16


class ShortRuns(NamedTuple):
    """Median length of the short runs that have ended, the value that only a tenth of them did not reach, and whether
    nearly all of them ended higher than they began."""

    t: float
    worst: float
    gain: bool


@dataclass
class ModelCache:
    """Fitted predictors, predictions and hyperparameters; may vanish at any time.

    `as_fitted`: nothing is to be fitted, what is there must do. So Ray's loop is never held up by a fit: models are
    fitted by the thread that works on the next suggestion.
    """

    predictor_key: tuple[str, ...] = ()
    predictor: FittedPredictor | None = None
    predictions: dict[str, tuple[LearningCurve, float, float]] = field(default_factory=dict)
    fits: Fits = field(default_factory=dict)
    denoiser: Denoiser = field(default_factory=Denoiser)
    costs: Regression | None = None
    costs_of: int = 0  # so many trials, see models/cost.py
    # of so many trials and endings, smoothed so
    short_runs: dict[tuple[int, int, Smoothing], ShortRuns | None] = field(default_factory=dict)
    as_fitted: bool = False

    def copy(self) -> ModelCache:
        return replace(
            self,
            predictions=dict(self.predictions),
            fits=dict(self.fits),
            short_runs=dict(self.short_runs),
            denoiser=self.denoiser.copy(),
        )

    def frozen(self) -> ModelCache:
        """The same, `as_fitted`."""
        return replace(self, as_fitted=True)

    def recall(self, table: TrialTable) -> list[Trial]:
        """The trials that a decision looks at, their curves denoised."""
        return self.denoiser(table.recalled(), fit=not self.as_fitted)


@dataclass(frozen=True)
class FittedModels:
    """`values`: the final of each trial with a curve as known or predicted, `{trial_id: (mean, stddev)}`, maximised.

    `features`: `n x d` points to the features that the surrogate knows; `best`: on the scale, the best posterior mean
    among the points observed or pending. No surrogate: nothing was observed, or the user's hook failed.
    """

    scale: Scale
    values: Mapping[str, tuple[float, float]]
    features: Callable[[Array], Array]
    surrogate: Surrogate | None = None
    best: float = 0.0

    def posterior(self, X: Array) -> tuple[Array, Array]:
        """Posterior mean and sd of the final at `m x d`, on the scale. Raises RuntimeError without a surrogate."""
        if self.surrogate is None:
            raise RuntimeError("nothing was observed yet: ask for space-filling points first")
        return self.surrogate.posterior(self.features(X))


def fit_predictor(
    space: SearchSpace, trials: Sequence[Trial], predictor: Predictor, max_t: float | None, cache: ModelCache
) -> FittedPredictor | None:
    """The predictor learned from the full runs; None while there are fewer than three."""
    if cache.as_fitted:
        return cache.predictor
    full = [t for t in trials if t.final is not None and len(t.curve.t) > 1]
    full = [full[i] for i in undiverged(np.array([t.curve.value[-1] - t.curve.value[0] for t in full]), MIN_FULL)]
    full = full[: on_grid(len(full))][-MAX_FULL:]
    if max_t is None or len(full) < MIN_FULL:
        return None
    key = tuple(f"{t.trial_id}:{len(t.curve.t)}:{t.curve.value[-1]}" for t in full)
    if cache.predictor_key != key or cache.predictor is None:
        features = space.features(np.array([t.x for t in full]))
        cache.predictor = predictor.fit(features, [t.curve for t in full], max_t)
        cache.predictor_key = key
        cache.predictions.clear()
    return cache.predictor


def predict(
    space: SearchSpace, trials: Sequence[Trial], predictor: FittedPredictor, cache: ModelCache
) -> dict[str, tuple[float, float]]:
    """Predicted finals `{trial_id: (mean, stddev)}` of unfinished trials with at least one value.

    Where nothing may be fitted, from the longest prefix that needs no fit, else as predicted last; trials without
    either are left out.
    """
    known = cache.predictions
    new = [(t, t.curve) for t in trials if t.trial_id not in known or known[t.trial_id][0] is not t.curve]
    if cache.as_fitted:
        prefixes = [(t, predictor.ready_at(curve.t[-1])) for t, curve in new]
        new = [(t, t.curve.up_to(at)) for t, at in prefixes if at is not None and t.curve.t[0] <= at]
    found = {t.trial_id: known[t.trial_id][1:] for t in trials if t.trial_id in known}
    if new:
        prediction = predictor.predict(space.features(np.array([t.x for t, _ in new])), [curve for _, curve in new])
        for (trial, used), mean, stddev in zip(new, prediction.mean.tolist(), prediction.stddev.tolist(), strict=True):
            found[trial.trial_id] = mean, stddev
            if used is trial.curve:  # as any other fit of this predictor would say
                known[trial.trial_id] = trial.curve, mean, stddev
    return found


def fit_models(
    space: SearchSpace,
    trials: Sequence[Trial],
    predictor: Predictor,
    max_t: float | None,
    cache: ModelCache,
    hooks: Hooks,
) -> FittedModels:
    """Everything that the trials say; those that run and have not come as far as one that ended are pending points.

    A promotion that fell back behind its own short run, and was stopped, is as bad as one that failed.
    """
    promoted = {t.promotes for t in trials if t.promotes and t.curve.value}
    seen = [t for t in trials if t.trial_id not in promoted]
    finals = [t for t in seen if t.final is not None]
    back = fell_back(trials)
    going = [t for t in seen if t.trial_id not in back]
    partial = [t for t in going if t.final is None and t.curve.value and not t.curve.ends_failed]
    failed = [t for t in going if t.status is TrialStatus.FAILED and (not t.curve.value or t.curve.ends_failed)]
    failed += back.values()
    fitted = fit_predictor(space, trials, predictor, max_t, cache)
    if fitted is not None:
        values = predict(space, _at_ends(partial), fitted, cache)
    elif partial:
        values = {trial_id: (value, 0.0) for trial_id, value in at_common_time(finals, partial).items()}
        finals = []  # no final compares with these
    else:
        values = {}
    values |= {t.trial_id: (t.final, 0.0) for t in finals if t.final is not None}
    features = space.features if hooks.surrogate is None else space.unit_features
    if not values:
        return FittedModels(Scale(False), {}, features)
    known = [t for t in seen if t.trial_id in values]
    mean, stddev = (np.array([values[t.trial_id][i] for t in known]) for i in (0, 1))
    scale = choose_scale("auto", mean)
    z, sd = scale.from_values(mean, stddev)
    spread = float(z.std()) or 1.0
    noise = np.concatenate([sd**2, np.full(len(failed), (_FAILED_NOISE * spread) ** 2)])
    z = winsorised(np.concatenate([z, np.full(len(failed), float(z.min()))]))
    rows = informative(z)
    points = np.array([t.x for t in (*known, *failed)])[rows]
    pending = np.array([t.x for t in seen if t.running and t.trial_id not in values]).reshape(-1, space.dim)
    models = FittedModels(scale, values, features)
    try:
        return _with_surrogate(models, points, z[rows], noise[rows], rows < len(known), pending, cache, hooks)
    except HookError as error:
        hooks.complain(error)
        return models


def _at_ends(partial: Sequence[Trial]) -> list[Trial]:
    """Unfinished trials that ended, and those that run, each as it was at the longest time at which one ended.

    Each time has heads of its own to be fitted. Where a few run at once, each at another time, those fits were two
    thirds of a suggestion's work (.38 s against .11 on two cores full of trials); without them 189 of 192 searches were
    the same (12 families, instances 0 and 1, four in flight), two .04 worse and one .02 better.
    """
    ended = [t for t in partial if not t.running]
    ends = sorted({t.curve.t[-1] for t in ended})
    for trial in partial:
        if trial.running and (reached := bisect_right(ends, trial.curve.t[-1])):
            ended.append(replace(trial, curve=trial.curve.up_to(ends[reached - 1])))
    return [t for t in ended if t.curve.value]


def fell_back(trials: Sequence[Trial]) -> dict[str, Trial]:
    """Promotions by id that were stopped, below what their short runs had reached."""
    reached = {t.trial_id: t.curve.value[-1] for t in trials if t.promotes is None and t.curve.value}
    stopped = [t for t in trials if t.promotes in reached and t.status is TrialStatus.STOPPED and t.curve.value]
    return {t.trial_id: t for t in stopped if t.curve.value[-1] < reached[str(t.promotes)]}


def _with_surrogate(
    models: FittedModels,
    points: Array,
    z: Array,
    noise: Array,
    observed: NDArray[np.bool_],
    pending: Array,
    cache: ModelCache,
    hooks: Hooks,
) -> FittedModels:
    import_models()
    from jobs_ray.models.surrogate import fit_surrogate

    while len(cache.fits) > _MAX_FITS:
        del cache.fits[next(iter(cache.fits))]
    F = models.features(points)
    surrogate = fit_surrogate(F, z, noise, hook=hooks.surrogate, fits=cache.fits)
    best = float(surrogate.posterior(F[observed])[0].max())
    if len(pending):
        # believed, they are what has to be improved on: else the next point is beside the most promising of them
        P = models.features(pending)
        best = max(best, float(surrogate.posterior(P)[0].max()))
        surrogate = surrogate.with_pending(P)
    return replace(models, surrogate=surrogate, best=best)
