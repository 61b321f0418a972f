"""Where a search stands: how long a run is, what was asked for so far, what is left; all derived from the trials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

import numpy as np

from jobs_ray.models.cost import Costs
from jobs_ray.models.fitting import ModelCache, fit_predictor
from jobs_ray.models.prediction import CrossValidation, FittedPredictor, Predictor
from jobs_ray.search.budget import TOLERANCE, Allocation, Budget, allocate, first_short_t, ledger, promotion_cost
from jobs_ray.search.settings import Settings
from jobs_ray.space import Array, SearchSpace
from jobs_ray.trials import Phase, Trial, TrialTable

JUDGED = 8  # full runs from which the predictor's own R2 means something: short runs are lengthened by it
_NOISE_SHARE = 0.05  # of the variance between short runs that noise may make up: above, they are lengthened
_LEAST_RUNS = 4  # that tell their variance
_AGREEMENT, _LONGEST = 0.7, 1.0 / 3.0  # rank correlation under which short runs are doubled, up to this share of a run
_USUAL_AGREEMENT, _USUAL_RUNS = 0.9, 4  # between two reports of losses that are settled; worth so many runs
_LEAST_RANKED, _MOST_RANKED = 8, 64  # runs looked at, the first ones: a decision costs the same at ten thousand trials


@dataclass(frozen=True)
class Progress:
    """The numbers that the rule looks at, all derived from the trials. Costs in the unit of the budget.

    early: short runs that LEARN has asked for beyond its plan, in the place of SEARCH's. learn_awaited: LEARN is to
    promote one, but fewer of its short runs have ended than planned, and some run. held: confirmations wait for
    the first full run, which is on its way: what it becomes says by what they are chosen.
    """

    costs: Costs
    max_t: float
    short_t: float
    short_cost: float
    promotion_cost: float
    resume: bool
    money: Budget
    plan: Allocation
    endless: bool
    trials_left: float
    learn_short: int
    learn_full: int
    early: int
    search_short: int
    search_ended: int
    confirmed: int
    short_running: int
    learn_awaited: bool
    held: bool

    @property
    def owed(self) -> int:
        """Confirmations that the plan still wants."""
        return max(self.plan.confirm - self.confirmed, 0)

    @property
    def due(self) -> int:
        if self.endless and self.plan.search_short:
            return int(self.search_ended * self.plan.confirm / self.plan.search_short)
        return self.plan.due(self.search_ended)

    @property
    def short_allowed(self) -> bool:
        """A further short run leaves enough for the confirmations owed."""
        if self.trials_left <= (1 if self.plan.confirm else 0):
            return False
        return self.endless or self.short_cost <= self.most_short

    @property
    def most_short(self) -> float:
        """What a further short run of SEARCH may cost, so that enough is left for the confirmations owed."""
        reserve = max(self.owed, 1) if self.plan.confirm else 0
        return self.money.left - reserve * self.promotion_cost + TOLERANCE

    def affords_promotion(self, trial: Trial) -> bool:
        """Whether the budget has what *this* promotion costs: more than `promotion_cost` if its checkpoint is gone."""
        return self.money.affords(promotion_cost(trial, self.resume, self.costs))


def horizon(settings: Settings, trials: TrialTable) -> float | None:
    """Length of a full run: as set, or the longest completed one seen; None while unknown."""
    return settings.max_t or trials.longest


def short_length(settings: Settings, trials: TrialTable, max_t: float, costs: Costs | None) -> float:
    """Length of a short run; `max_t` when there is nothing shorter. While costs are unknown: as of a small budget.

    An automatic one ends where trials report, once one has: between two reports nothing is learned for the money.
    """
    if settings.short_t != "auto":
        return min(settings.short_t, max_t)
    if settings.num_trials == 1:
        return max_t
    budget = None if settings.budget is None else settings.budget / costs.full if costs else 0.0
    short_t = first_short_t(max_t, budget)
    first = trials.first_report
    if first > 0.0:  # one of max_t and later: nothing can be stopped before its end
        short_t = max(math.floor(short_t / first + 0.5), 1) * first
    return min(short_t, max_t)


def _long_enough(predictor: FittedPredictor | None, short_t: float, max_t: float, as_fitted: bool) -> float:
    """Doubled, up to half a full run, while the predictor's own leave-one-out R2 says such prefixes tell nothing."""
    if predictor is None:
        return short_t
    quality = validated(predictor, short_t, as_fitted)
    while quality and quality.n >= JUDGED and quality.r2 <= 0.0 and 2.0 * short_t <= max_t / 2.0:
        short_t *= 2.0
        quality = validated(predictor, short_t, as_fitted)
    return short_t


def _above_the_noise(trials: TrialTable, short_t: float, max_t: float, cache: ModelCache) -> float:
    """Doubled, up to half a full run, while noise hides what tells runs apart at the end of a short one."""
    rows = cache.recall(trials)
    while cache.denoiser.fitted and short_t < max_t / 2.0:
        there = [t.curve.up_to(short_t) for t in rows if t.curve.last_t >= short_t and not t.curve.ends_failed]
        values = [curve.value[-1] for curve in there if curve.value]
        if len(values) < _LEAST_RUNS:
            break
        low, high = np.percentile(values, [25, 75])
        noise = cache.denoiser.fitted.variance(max(len(curve.value) for curve in there))
        if noise < _NOISE_SHARE * ((high - low) / 1.35) ** 2:
            break
        short_t = min(2.0 * short_t, max_t / 2.0)
    return short_t


def _settled(trials: TrialTable, short_t: float, max_t: float, cache: ModelCache) -> float:
    """Doubled once, while the better half of the runs change their ranks in the second half of a short run.

    In a language model trained from scratch the ranks of all runs are soon known (.91 with the final at an eighth),
    those of the good ones are not (.59 among the best third). Regret there (family `language`, 10 full runs, 40 seeds)
    .342 without, .250 with it: -.092 +- .030; on 21 other families, where it seldom applies, +.005 +- .008 (72 pairs;
    five that do more often, ten pairs each: -.054 +- .049). A sixth of a run for all, without looking: -.091 +- .030
    on `language`, but +.040 +- .030 and +.014 +- .013 on the others at 5 and 10 full runs (70 pairs each). Doubled
    until they agree, up to half of a run: no better; under .8 instead of .7: +.025 +- .015 on the others.
    """
    if 2.0 * short_t > _LONGEST * max_t:
        return short_t
    there = (t.curve.up_to(short_t) for t in cache.recall(trials) if t.curve.last_t >= short_t)
    usable = (c for c in there if len(c.t) > 1 and c.t[0] <= short_t / 2.0 and not c.ends_failed)
    curves = list(islice(usable, _MOST_RANKED))
    if len(curves) < _LEAST_RANKED:
        return short_t
    late = np.array([curve.value[-1] for curve in curves])
    better = late >= np.median(late)
    early = np.array([curve.at(short_t / 2.0) for curve in curves])
    n, agreement = int(better.sum()), _rank_correlation(early[better], late[better])
    shrunk = (n * agreement + _USUAL_RUNS * _USUAL_AGREEMENT) / (n + _USUAL_RUNS)
    return 2.0 * short_t if shrunk < _AGREEMENT else short_t


def _rank_correlation(a: Array, b: Array) -> float:
    """Spearman's, of two `(n,)`; ties in the order given."""
    return float(np.corrcoef(np.argsort(np.argsort(a, kind="stable")), np.argsort(np.argsort(b, kind="stable")))[0, 1])


def validated(predictor: FittedPredictor, t: float, as_fitted: bool) -> CrossValidation | None:
    """The predictor's leave-one-out quality at `t`; None where it would take a fit and none is allowed."""
    return None if as_fitted and predictor.ready_at(t) != t else predictor.cross_validate(t)


def trials_left(settings: Settings, trials: TrialTable) -> float:
    """Trials that may still be asked for."""
    if settings.num_trials is None:
        return math.inf
    return settings.num_trials - trials.asked


def search_progress(
    space: SearchSpace,
    predictor: Predictor,
    settings: Settings,
    trials: TrialTable,
    max_t: float,
    costs: Costs,
    cache: ModelCache,
) -> Progress:
    """Everything that the rule of the phases looks at. `max_t`: the horizon."""
    short_t = short_length(settings, trials, max_t, costs)
    if settings.short_t == "auto":
        fitted = fit_predictor(space, cache.recall(trials), predictor, max_t, cache)
        short_t = _long_enough(fitted, short_t, max_t, cache.as_fitted)
        short_t = _above_the_noise(trials, short_t, max_t, cache)
        short_t = _settled(trials, short_t, max_t, cache)
    short_cost = short_t / max_t
    resume = settings.resume and short_t < max_t
    promotion = 1.0 - short_cost if resume else 1.0
    plan = allocate(
        None if settings.budget is None else settings.budget / costs.full,
        settings.num_trials,
        short_cost,
        promotion,
        num_full=None if settings.num_full == "auto" else settings.num_full,
        num_confirm=None if settings.num_confirm == "auto" else settings.num_confirm,
    )
    learn_full = learn_short = learn_asked = learn_running = search_short = search_ended = 0
    confirmed = short_running = full_running = full_ended = 0
    for kind, number in trials.kinds().items():
        full = kind.grant is None or kind.grant >= max_t
        if kind.phase is Phase.LEARN and full and kind.charged:
            learn_full += number * (kind.running or kind.completed)
        elif not kind.charged:
            learn_short += number * (not kind.failed)
            learn_full += number * kind.completed
        elif kind.phase is Phase.LEARN:
            learn_short += number
            learn_asked += number
        elif kind.phase is Phase.SEARCH:
            search_short += number
            search_ended += number * (not kind.running)
        else:  # one that failed confirmed nothing: another one is owed
            confirmed += number * (kind.running or kind.completed)
        full_running += number * (kind.running and full and not kind.silent)
        # one that failed says no more if another one is waited for
        full_ended += number * (kind.completed or (full and kind.charged and not kind.running))
        awaited = number * (kind.running and not full and not kind.silent)
        short_running += awaited
        learn_running += awaited * (kind.phase is Phase.LEARN)
    beyond = max(learn_short - plan.learn_short, 0)
    early = min(beyond, learn_asked, plan.early)  # the others are observations, or of a longer plan
    return Progress(
        costs=costs,
        max_t=max_t,
        short_t=short_t,
        short_cost=short_cost * costs.full,
        promotion_cost=promotion * costs.full,
        resume=resume,
        money=ledger(trials, settings.budget, costs),
        plan=plan,
        endless=settings.budget is None,
        trials_left=trials_left(settings, trials),
        learn_short=learn_short - early,
        learn_full=learn_full,
        early=early,
        search_short=search_short,
        search_ended=search_ended,
        confirmed=confirmed,
        short_running=short_running,
        learn_awaited=learn_full < plan.learn_full and learn_running > beyond,
        held=full_running > 0 and not full_ended,
    )
