"""Denoised learning curves: a trailing exponential average whose weight follows from the noise in the curves.

    notation   meaning                                                                          shape
    Y          curves as matrix, one row a run, NaN beyond its last report                      n x m
    T          the times of those reports                                                       n x m
    sigma      sd of the noise of a report                                                      -
    s          rms of what a run moves from report to report beyond what all runs do            -
    a          weight of the newest report in the average, 1: the report alone                  -

    lag 1: E (y_{j+1} - y_j)^2 = 2 sigma^2 + s^2        lag 2: E (y_{j+2} - y_j)^2 = 2 sigma^2 + (2 s)^2

give sigma and s (the nugget of a variogram), and a = (sqrt(q^2 + 4 q) - q) / 2, q = s^2 / sigma^2, is the gain of the
Kalman filter of a level that moves by s a report (Harvey 1989, section 4.1.2). Losses are reported almost without noise
and keep their last report; an accuracy of a hundred questions has noise as large as what tells good runs apart, and its
last report is then mostly luck: to recommend the largest is the winner's curse.
Tried: to choose `a` by the error of the next report. With the five full runs of a small budget it picks at random.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import is_

import numpy as np
from numpy.typing import NDArray

from jobs_ray.space import Array
from jobs_ray.trials import LearningCurve, Trial
from jobs_ray.trials.curve import MAX_REPORTS

_LEAST_CURVES = 3
_LEAST_WEIGHT = 0.15  # an average of about twelve reports: nothing says that a run stands still for longer
_NEGLIGIBLE = 0.02  # noise of a smaller share of the variance between runs is left alone: a value is what was reported
_CLIP = 9.0
_SAME_TIME = 0.25  # seconds are of machines that differ; half as often is twice as late
_MEDIAN_OF_CHI2 = 0.455  # of one degree of freedom: the median square of a normal variable over its mean one


@dataclass(frozen=True)
class Smoothing:
    """What is done to every curve. Empty: nothing.

    times: when the i-th report usually comes; weights: a there; variances: of the noise that is left, in squared units
    of the values; drift: what all runs have in common, which is not averaged. Reports later than any known are kept.
    """

    times: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    variances: tuple[float, ...] = ()
    drift: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.times) and any(weight < 1.0 for weight in self.weights)  # one pickled before has no times

    def variance(self, reports: int) -> float:
        """Of the noise left in the last of so many reports; 0 where nothing is known of it."""
        return self.variances[min(reports, len(self.variances)) - 1] if self.variances and reports else 0.0

    def apply(self, curve: LearningCurve) -> LearningCurve:
        """The curve of averages; the curve itself where nothing is averaged."""
        n = min(bisect_right(curve.t, self.times[-1] * (1.0 + _SAME_TIME)), len(self.times)) if self else 0
        if n == 0:
            return curve
        times, t = np.array(self.times), np.array(curve.t[:n])
        # by time: some may have lost a report, or report at other intervals than most
        weights = np.array(self.weights)[np.searchsorted((times[1:] + times[:-1]) / 2.0, t)]
        drift = np.interp(t, times, self.drift)
        level = np.array(curve.value[:n]) - drift
        averages = level.copy()
        for weight in set(weights.tolist()) - {1.0}:
            averages = np.where(weights == weight, _average(level, weight), averages)
        return LearningCurve(curve.t, (*(averages + drift).tolist(), *curve.value[n:]), curve.failed_at)


def fit_smoothing(curves: Sequence[LearningCurve]) -> Smoothing:
    """From all curves together, for each length from the second half of it: an accuracy that rises from one plateau to
    another wants long averages at both ends and short ones between. None with fewer than 3 curves of three reports, or
    where most report at times of their own: what their i-th reports have in common is nothing."""
    curves = [curve for curve in curves if len(curve.value) >= 3]
    if len(curves) < _LEAST_CURVES or any(c.thinned or len(c.value) > MAX_REPORTS // 2 for c in curves):
        return Smoothing()  # a curve that was thinned has no i-th report, and others of such runs will be
    curves, times = _of_most(curves)
    if len(curves) < _LEAST_CURVES:
        return Smoothing()
    Y, drift = _without_drift(curves)
    m = Y.shape[1]
    if m < 3:
        return Smoothing()
    one, two = (_squares(Y[:, lag:] - Y[:, :-lag]) for lag in (1, 2))
    noise = max(float(np.mean(4.0 * np.nanmean(one[:, 1:], axis=0) - np.nanmean(two, axis=0))) / 6.0, 0.0)
    if min(noise, _noise_of_most(Y + drift[:m])) <= _NEGLIGIBLE * _variance_between(Y):
        return Smoothing()
    moves = np.maximum(_over_second_halves(two) - 2.0 * noise, 0.0) / 4.0
    q = moves / noise
    weights = np.maximum(np.round((np.sqrt(q**2 + 4.0 * q) - q) / 2.0, 2), _LEAST_WEIGHT)
    variances = noise * weights / (2.0 - weights)
    weights, variances = (np.concatenate([np.repeat(values[:1], 2), values]) for values in (weights, variances))
    return Smoothing(*map(tuple, (times[:m].tolist(), weights.tolist(), variances.tolist(), drift[:m].tolist())))


def _of_most(curves: Sequence[LearningCurve]) -> tuple[list[LearningCurve], Array]:
    """The curves whose i-th reports come when most do, and those times `(m,)`; none where no more than half do."""
    T = _table([curve.t for curve in curves])
    times = np.sort(T, axis=0)[(np.isfinite(T).sum(axis=0) - 1) // 2, np.arange(T.shape[1])]  # the (lower) median
    same = np.all(np.isnan(T) | (np.abs(T - times) <= _SAME_TIME * times), axis=1)
    return [curve for curve, is_same in zip(curves, same, strict=True) if is_same and 2 * same.sum() > len(T)], times


def _table(rows: Sequence[Sequence[float]]) -> Array:
    """`n x m`, NaN beyond the end of a row."""
    table = np.full((len(rows), max(map(len, rows))), np.nan)
    for whole, row in zip(table, rows, strict=True):
        whole[: len(row)] = row
    return table


def _without_drift(curves: Sequence[LearningCurve]) -> tuple[Array, Array]:
    """`n x m`, as far as three runs go, without the running sum of the mean step from report to report `(m,)`.

    Means within Tukey's fences: the sum of medians would wander off by the noise of each step.
    """
    Y = _table([curve.value for curve in curves])
    steps = np.diff(Y, axis=1)
    known = int((np.isfinite(steps).sum(axis=0) >= _LEAST_CURVES).sum())
    low, high = _quartiles(steps[:, :known])
    fence = 1.5 * (high - low)
    drift = np.concatenate([[0.0], np.cumsum(np.nanmean(np.clip(steps[:, :known], low - fence, high + fence), axis=0))])
    return Y[:, : known + 1] - drift, drift


def _noise_of_most(Y: Array) -> float:
    """Variance of the noise of a report, `n x m` -> (), as most runs show it: medians in the place of means.

    One run of a few that lost reports or trained its first step twice is no noise of the others. Of 1,000 sets of 3 to
    6 full runs without noise, a fifth of which repeat their first report, the means alone had 28 % averaged, the finals
    changed by .01 to .02 of a spread of .1, and with them what is recommended; now 4 % are. Accuracies with noise of
    .04 are still found noisy with three full runs in 95 % of the sets, with eight in 98.
    """
    steps = np.diff(Y, axis=1)
    steps = steps - np.nanmedian(steps, axis=0)
    one, two = (np.nanmedian(s**2, axis=0) for s in (steps[:, 1:], steps[:, 1:] + steps[:, :-1]))
    return float(np.mean(4.0 * one - two)) / (6.0 * _MEDIAN_OF_CHI2)


def _variance_between(Y: Array) -> float:
    """Variance between the runs, of an outlier's size no matter: the median over the reports."""
    low, high = _quartiles(Y)
    return float(np.median(((high - low) / 1.35) ** 2))


def _quartiles(Y: Array) -> tuple[Array, Array]:
    """The first and third of each column of `n x m`, as np.nanpercentile gives them, which goes column by column: it
    took 8 of the 60 ms of a suggestion."""
    ordered, n = np.sort(Y, axis=0), np.isfinite(Y).sum(axis=0)  # NaN last
    columns = np.arange(Y.shape[1])
    low, high = (_between(ordered, columns, share * (n - 1)) for share in (0.25, 0.75))
    return low, high


def _between(ordered: Array, columns: NDArray[np.int_], position: Array) -> Array:
    below = np.floor(position).astype(int)
    first, second = ordered[below, columns], ordered[np.ceil(position).astype(int), columns]
    part = position - below
    return np.asarray(np.where(part < 0.5, first + (second - first) * part, second - (second - first) * (1.0 - part)))


def _squares(steps: Array) -> Array:
    """`n x m'` steps, squared; a diverging run must not decide, so they count at most `_CLIP` times their median."""
    squares = steps**2
    return np.asarray(np.minimum(squares, _CLIP * np.nanmedian(squares, axis=0)))


def _over_second_halves(squares: Array) -> Array:
    """Mean of `n x m'` over runs and over the second half of each length, `(m',)`."""
    known = np.isfinite(squares)
    total, number = (np.concatenate([[0.0], np.cumsum(x.sum(axis=0))]) for x in (np.where(known, squares, 0.0), known))
    ends = np.arange(1, squares.shape[1] + 1)
    starts = ends // 2
    return np.asarray((total[ends] - total[starts]) / (number[ends] - number[starts]))


def _average(level: Array, weight: float) -> Array:
    """Trailing exponential averages of `(n,)`."""
    total = count = 0.0
    averages = np.empty_like(level)
    for j, value in enumerate(level):
        total, count = total * (1.0 - weight) + value, count * (1.0 - weight) + 1.0
        averages[j] = total / count
    return averages


@dataclass
class Denoiser:
    """Trials with averaged curves. Only saves time: `fitted` is a function of the trials, and so are the averages."""

    fitted: Smoothing = field(default_factory=Smoothing)
    _fitted_to: list[LearningCurve] = field(default_factory=list)
    _known: dict[str, tuple[LearningCurve, Smoothing, Trial, Trial]] = field(default_factory=dict)

    def __call__(self, trials: Sequence[Trial], *, fit: bool = True) -> list[Trial]:
        """`trials` with their curves averaged; `fit=False`: as fitted last."""
        if fit:
            self._fit(trials)
        return [self._averaged(t) for t in trials] if self.fitted else list(trials)

    def _fit(self, trials: Sequence[Trial]) -> None:
        curves = [t.curve for t in trials if t.curve.value]
        if len(curves) == len(self._fitted_to) and all(map(is_, curves, self._fitted_to)):
            return
        promoted = {t.promotes for t in trials if t.promotes and t.curve.value}
        self.fitted = fit_smoothing([t.curve for t in trials if t.trial_id not in promoted])
        self._fitted_to = curves

    def copy(self) -> Denoiser:
        return replace(self, _known=dict(self._known))

    def _averaged(self, trial: Trial) -> Trial:
        known = self._known.get(trial.trial_id)
        if known is None or known[0] is not trial.curve or known[1] != self.fitted:
            curve = self.fitted.apply(trial.curve)
        elif known[2] is trial:
            return known[3]
        else:
            curve = known[3].curve
        averaged = replace(trial, curve=curve)
        self._known[trial.trial_id] = trial.curve, self.fitted, trial, averaged
        return averaged
