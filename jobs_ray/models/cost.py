"""What training costs, in the unit of the budget: in full runs by steps, or as reported and predicted.

    log(cost a step) ~ FinalValueGP(features of the configuration)

since costs differ by factors, and a deeper or wider model costs its factor at every step (Snoek et al. 2012, "Practical
Bayesian Optimization of Machine Learning Algorithms", section 3.2, models the duration in the same way).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from jobs_ray.models.late_import import import_models
from jobs_ray.models.training_points import on_grid
from jobs_ray.space import Array, SearchSpace
from jobs_ray.trials import Trial, TrialTable

if TYPE_CHECKING:
    from jobs_ray.models.fitting import ModelCache
    from jobs_ray.models.regression import Regression

_LEAST = 4  # trials with a cost: of fewer the mean says as much as a regression
_MOST = 96  # the newest that it is fitted to, since the first ones tell little of where the search has gone


class Costs(Protocol):
    """Predicted costs. `max_t`: steps of a full run; `full`: what one of a mean configuration costs."""

    @property
    def max_t(self) -> float: ...

    @property
    def full(self) -> float: ...

    def spent(self, trials: TrialTable) -> float:
        """By all of them so far."""

    def outstanding(self, trials: TrialTable) -> float:
        """Of what the running ones may still train."""

    def of(self, trial: Trial, steps: float) -> float:
        """Of so many further steps of `trial`."""

    def at(self, X: Array, steps: float) -> Array:
        """Of so many steps of each configuration, `n x d` to `(n,)`."""


@dataclass(frozen=True)
class InFullRuns:
    """Every step costs the same."""

    max_t: float

    @property
    def full(self) -> float:
        return 1.0

    def spent(self, trials: TrialTable) -> float:
        return trials.spent(self.max_t)

    def outstanding(self, trials: TrialTable) -> float:
        return trials.outstanding(self.max_t) / self.max_t

    def of(self, trial: Trial, steps: float) -> float:
        return steps / self.max_t

    def at(self, X: Array, steps: float) -> Array:
        return np.full(len(X), steps / self.max_t)


@dataclass(frozen=True)
class Measured:
    """As reported: a trial's own cost a step, or that of the short run it promotes; else as its configuration says.

    `rate`: mean cost a step. `regression`: of the logarithm of the cost a step on features; None: the mean for all.
    """

    space: SearchSpace
    trials: TrialTable
    max_t: float
    rate: float
    regression: Regression | None

    @property
    def full(self) -> float:
        return self.rate * self.max_t

    def spent(self, trials: TrialTable) -> float:
        return trials.costs().spent

    def outstanding(self, trials: TrialTable) -> float:
        return sum(self.of(trial, trial.outstanding(self.max_t)) for trial in trials.running() if trial.charged)

    def of(self, trial: Trial, steps: float) -> float:
        source = self.trials.get(trial.promotes) if trial.promotes else None
        rate = trial.rate or (source.rate if source else None)
        return float(self.at(np.array([trial.x]), steps)[0]) if rate is None else steps * rate

    def at(self, X: Array, steps: float) -> Array:
        if self.regression is None:
            return np.full(len(X), steps * self.rate)
        from jobs_ray.models.threads import one_thread

        with one_thread():
            mean, variance = self.regression.predict(self.space.features(X))
        return np.asarray(steps * np.exp(mean + variance / 2.0))


def known_costs(
    space: SearchSpace, trials: TrialTable, max_t: float, cache: ModelCache, *, measured: bool, fit: bool = True
) -> Costs | None:
    """What there is to go by; None: costs are reported, but none has been yet. fit: the regression may be fitted."""
    if not measured:
        return InFullRuns(max_t)
    sums = trials.costs()
    if sums.rate is None:
        return None
    if fit and not cache.as_fitted and (known := on_grid(_before_the_first_running(trials))) != cache.costs_of:
        rated = (t for t in islice(trials.newest(), trials.asked - known, None) if not t.running and t.rate is not None)
        newest = list(islice(rated, _MOST))[::-1]
        cache.costs, cache.costs_of = _fit(space, newest) if len(newest) >= _LEAST else None, known
    return Measured(space, trials, max_t, sums.rate, cache.costs)


def _before_the_first_running(trials: TrialTable) -> int:
    """How many trials were asked for before the first short run that still runs. What they cost does not change any
    more, so that what is fitted to them is a function of the trials, whenever it is fitted."""
    running = {t.trial_id for t in trials.running() if t.charged and t.promotes is None and not t.silent}
    before, newest = trials.asked, trials.newest()
    while running:
        running.discard(next(newest).trial_id)
        before -= 1
    return before


def _fit(space: SearchSpace, trials: Sequence[Trial]) -> Regression:
    import_models()
    from jobs_ray.models.priors import LogNormal, Priors
    from jobs_ray.models.regression import fit_regression
    from jobs_ray.models.threads import one_thread

    F, y = space.features(np.array([t.x for t in trials])), np.log([t.rate or math.nan for t in trials])
    priors = Priors(
        # mostly a product of powers: linear in logarithms
        linear=LogNormal(1.0, 0.5),
        matern=LogNormal(0.3, 0.5),
        lengthscale=LogNormal(math.sqrt(F.shape[1]), 0.5),
        noise=LogNormal(0.1, 1.0),
    )
    everything = slice(0, F.shape[1])
    with one_thread():
        return fit_regression(F, y, np.zeros(len(y)), priors, linear=everything, matern=everything)
