"""Whether a promotion has diverged, by the short runs that have ended: the rest of it is spent elsewhere."""

from __future__ import annotations

import math

import numpy as np

from jobs_ray.models.fitting import ModelCache, ShortRuns
from jobs_ray.trials import Phase, Trial, TrialStatus, TrialTable

_SHORT_RUNS, _WORST = 8, 0.1  # a promotion that is worse than this share of at least so many short runs has diverged
_GAIN = 0.9  # where more short runs than this end higher than they began, a run that falls back has diverged


def diverges(trial: Trial, trials: TrialTable, cache: ModelCache) -> bool:
    """Whether a promotion is now worse than nearly all short runs were when they ended, or than itself was then, though
    it has trained more than twice as long: the rest is spent elsewhere.

    Twice in a row, and denoised, since a plateau at chance level is no divergence. The second for metrics that training
    improves from the first reports on, such as losses; half the runs of an accuracy of a hundred questions fall back.
    """
    if not (trial.promotes or trial.phase is Phase.CONFIRM):
        return False
    usual = _usual(trials, cache)
    if usual is None:
        return False
    curve = cache.denoiser.fitted.apply(trial.curve)
    if len(curve.value) < 2 or curve.t[-2] < 2.0 * usual.t:
        return False
    noise = 2.0 * math.sqrt(cache.denoiser.fitted.variance(len(curve.value)))
    own = curve.at(usual.t) - noise if usual.gain else -math.inf
    return max(curve.value[-2:]) < max(usual.worst, own)


def _usual(trials: TrialTable, cache: ModelCache) -> ShortRuns | None:
    """Of the short runs that have ended; None before there are `_SHORT_RUNS`. Looked at anew when a trial has ended."""
    if not cache.as_fitted:
        cache.recall(trials)  # the denoiser is to know all of them
    key = (len(trials), trials.endings, cache.denoiser.fitted)
    if key not in cache.short_runs:
        short = [t.curve for t in cache.recall(trials) if t.status is TrialStatus.STOPPED and t.curve.value]
        cache.short_runs.clear()
        cache.short_runs[key] = None if len(short) < _SHORT_RUNS else ShortRuns(
            float(np.median([curve.last_t for curve in short])),
            float(np.quantile([curve.value[-1] for curve in short], _WORST)),
            float(np.mean([curve.value[-1] > curve.value[0] for curve in short])) > _GAIN,
        )  # fmt: skip
    return cache.short_runs[key]
