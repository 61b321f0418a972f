"""What to do next: the adaptive rule of the three phases, as pure functions of settings, trials and ask-counter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs_ray.belief import BeliefCache, believe, fit_predictor, predict
from jobs_ray.budget import Allocation, Budget, allocate, first_short_t, ledger
from jobs_ray.chooser import Action, Chooser, horizon, promotable
from jobs_ray.parameters import Array
from jobs_ray.predictor import FittedPredictor, Predictor
from jobs_ray.settings import FINISHED, Settings, _Finished
from jobs_ray.space import SearchSpace
from jobs_ray.trials import Phase, Trial

_RANDOM_FULL = 4  # space-filling full runs before the surrogate, when trials cannot be stopped early
JUDGED = 8  # full runs from which the predictor's own R2 means something: short runs are lengthened by it
_HOPELESS = 20  # trials in a row that end without any value: the trainable is broken, not the configuration


@dataclass(frozen=True)
class Situation:
    """The numbers that the rule looks at, all derived from the trials."""

    max_t: float
    short_t: float
    short_cost: float
    promotion_cost: float
    money: Budget
    plan: Allocation
    endless: bool
    trials_left: float
    learn_short: int
    learn_full: int
    search_short: int
    confirmed: int
    short_running: int

    @property
    def owed(self) -> int:
        """Confirmations that the plan still wants."""
        return max(self.plan.confirm - self.confirmed, 0)

    @property
    def due(self) -> int:
        if self.endless and self.plan.search_short:
            return int(self.search_short * self.plan.confirm / self.plan.search_short)
        return self.plan.due(self.search_short)

    @property
    def short_allowed(self) -> bool:
        """A further short run leaves enough for the confirmations owed."""
        reserve = max(self.owed, 1) if self.plan.confirm else 0
        if self.endless:
            return self.trials_left > min(reserve, 1)
        enough = self.money.affords(self.short_cost + reserve * self.promotion_cost)
        return enough and self.trials_left > min(reserve, 1)


@dataclass(frozen=True)
class Policy:
    """The decision rule for one space. `points`: `m x d` to evaluate first; `candidates`: the only points allowed."""

    space: SearchSpace
    predictor: Predictor
    points: Array
    candidates: Array | None

    def decide(
        self, settings: Settings, trials: Sequence[Trial], asked: int, cache: BeliefCache, *, full: bool, quick: bool
    ) -> Action | _Finished | None:
        """The next action; None: wait for a trial in flight."""
        running = any(t.running for t in trials)
        wait = None if running else FINISHED
        charged = [t for t in trials if t.charged]
        if settings.num_trials is not None and len(charged) >= settings.num_trials:
            return FINISHED
        ended = [t for t in charged if not t.running][-_HOPELESS:]
        if len(ended) == _HOPELESS and not any(t.curve.t for t in (*ended, *charged[-_HOPELESS:])):
            return wait
        chooser = Chooser(
            self.space, self.predictor, self.points, self.candidates, settings, trials, asked, cache, quick
        )
        max_t = horizon(settings, trials)
        if full or max_t is None or short_length(settings, max_t) >= max_t:
            money = ledger(trials, settings.budget, max_t)
            learning = asked < max(_RANDOM_FULL, len(self.points))
            phase = Phase.LEARN if learning else Phase.SEARCH
            return chooser.new(phase, settings.max_t) if money.affords(1.0) else wait
        now = situation(self, settings, trials, asked, max_t, cache)
        return self._learn(now, chooser, settings) or self._search(now, chooser, settings) or wait

    def _learn(self, now: Situation, chooser: Chooser, settings: Settings) -> Action | None:
        """LEARN: random short runs, the best of them promoted; or, with `num_full`, random full runs."""
        plan = now.plan
        if now.learn_short < plan.learn_short and now.money.affords(now.short_cost + now.promotion_cost):
            return chooser.new(Phase.LEARN, now.short_t)
        if now.learn_full >= plan.learn_full or now.short_running or not now.money.affords(now.promotion_cost):
            return None
        if settings.num_full == "auto" and (best := chooser.best_short(by_last_value=True)):
            return Action(Phase.LEARN, now.max_t, promotes=best.trial_id)
        return chooser.new(Phase.LEARN, now.max_t) if now.money.affords(1.0) else None

    def _search(self, now: Situation, chooser: Chooser, settings: Settings) -> Action | None:
        """SEARCH and CONFIRM in turns; what is left at the end is spent on confirmations."""
        learning = now.learn_full < now.plan.learn_full
        if learning and now.short_running:
            return None
        limited = settings.num_confirm != "auto"
        more_short = now.short_allowed and (now.endless or limited or now.search_short < now.plan.search_short)
        wants_confirmation = now.confirmed < now.due or (not more_short and not (limited and now.owed == 0))
        if wants_confirmation and now.money.affords(now.promotion_cost):
            if best := chooser.best_short(by_last_value=False):
                return Action(Phase.CONFIRM, now.max_t, promotes=best.trial_id)
            if now.short_running:
                return None
            if not more_short and now.money.affords(1.0):  # no short run is left to promote
                return chooser.new(Phase.CONFIRM, now.max_t)
        return chooser.new(Phase.SEARCH, now.short_t) if more_short else None

    def after_report(
        self,
        settings: Settings,
        trial: Trial,
        trials: Sequence[Trial],
        asked: int,
        max_t: float | None,
        cache: BeliefCache,
    ) -> tuple[bool, float | None]:
        """(stop?, grant) after the latest report of `trial`; `max_t`: the horizon of the trials."""
        curve, grant = trial.curve, trial.grant
        failures = [t for t in curve.failed_at if not curve.t or t > curve.t[-1]]
        if len(failures) >= 2:  # one NaN may pass, two in a row mean a diverged run that only costs
            return True, grant
        if max_t is not None and curve.last_t >= max_t:
            return True, grant
        if grant is None or max_t is None:
            return False, grant
        interval = curve.last_t - max([0.0, *(t for t in (*curve.t, *curve.failed_at) if t < curve.last_t)])
        if curve.last_t + (interval / 2.0 if grant < max_t else 0.0) < grant:
            return False, grant
        if settings.extend and self._worth_extending(settings, trial, trials, asked, max_t, cache):
            return False, max_t
        return True, grant

    def _worth_extending(
        self, settings: Settings, trial: Trial, trials: Sequence[Trial], asked: int, max_t: float, cache: BeliefCache
    ) -> bool:
        """A short run that looks best of all unconfirmed ones serves the next confirmation on the spot."""
        if trial.phase is not Phase.SEARCH or trial.grant is None or trial.grant >= max_t or trial.curve.ends_failed:
            return False
        predictor = fit_predictor(self.space, trials, self.predictor, max_t, cache)
        now = situation(self, settings, trials, asked, max_t, cache)
        rest = (max_t - trial.curve.last_t) / max_t
        if predictor is None or now.confirmed > now.due or now.owed == 0 or not now.money.affords(rest):
            return False
        rivals = [t for t in promotable(trials) if t.trial_id != trial.trial_id]
        values = predict(self.space, [trial, *rivals], predictor, cache)
        finals = [t.final for t in trials if t.final is not None]
        own = values[trial.trial_id][0]
        return own > max([*finals, *(values[t.trial_id][0] for t in rivals)])

    def recommend(
        self, settings: Settings, trials: Sequence[Trial], cache: BeliefCache
    ) -> tuple[Trial, float, float] | None:
        """(trial, mean, stddev), maximised: the best confirmed, else the best predicted, else None."""
        confirmed = [t for t in trials if t.final is not None]
        if confirmed:
            best = max(confirmed, key=lambda t: t.final if t.final is not None else -math.inf)
            return best, float(best.final or 0.0), 0.0
        belief = believe(self.space, trials, self.predictor, horizon(settings, trials), cache)
        if not belief.values:
            return None
        name = max(belief.values, key=lambda trial_id: belief.values[trial_id][0])
        return next(t for t in trials if t.trial_id == name), *belief.values[name]


def short_length(settings: Settings, max_t: float) -> float:
    """Length of a short run; `max_t` when there is nothing shorter."""
    return min(first_short_t(max_t, settings.budget) if settings.short_t == "auto" else settings.short_t, max_t)


def _long_enough(predictor: FittedPredictor | None, short_t: float, max_t: float) -> float:
    """Doubled, up to half a full run, while the predictor's own leave-one-out R2 says such prefixes tell nothing."""
    if predictor is None:
        return short_t
    quality = predictor.cross_validate(short_t)
    while quality and quality.n >= JUDGED and quality.r2 <= 0.0 and 2.0 * short_t <= max_t / 2.0:
        short_t *= 2.0
        quality = predictor.cross_validate(short_t)
    return short_t


def situation(
    policy: Policy, settings: Settings, trials: Sequence[Trial], asked: int, max_t: float, cache: BeliefCache
) -> Situation:
    """Everything that the rule of the phases looks at."""
    short_t = short_length(settings, max_t)
    if settings.short_t == "auto":
        predictor = fit_predictor(policy.space, trials, policy.predictor, max_t, cache)
        short_t = _long_enough(predictor, short_t, max_t)
    short_cost = short_t / max_t
    promotion_cost = 1.0 - short_cost if settings.resume and short_t < max_t else 1.0
    plan = allocate(
        settings.budget,
        settings.num_trials,
        short_cost,
        promotion_cost,
        num_full=None if settings.num_full == "auto" else settings.num_full,
        num_confirm=None if settings.num_confirm == "auto" else settings.num_confirm,
    )
    is_full = [t.grant is None or t.grant >= max_t for t in trials]
    learn_full = learn_short = search_short = confirmed = short_running = 0
    for trial, full in zip(trials, is_full, strict=True):
        useful = trial.running or trial.completed
        if trial.phase is Phase.LEARN and full and trial.charged:
            learn_full += useful
        elif not trial.charged:
            learn_short += 1
            learn_full += trial.completed
        elif trial.phase is Phase.LEARN:
            learn_short += 1
        elif trial.phase is Phase.SEARCH:
            search_short += 1
        else:
            confirmed += 1
        short_running += trial.running and not full
    return Situation(
        max_t=max_t,
        short_t=short_t,
        short_cost=short_cost,
        promotion_cost=promotion_cost,
        money=ledger(trials, settings.budget, max_t),
        plan=plan,
        endless=settings.budget is None,
        trials_left=math.inf if settings.num_trials is None else settings.num_trials - sum(t.charged for t in trials),
        learn_short=learn_short,
        learn_full=learn_full,
        search_short=search_short,
        confirmed=confirmed,
        short_running=short_running,
    )
