"""What to do next: the adaptive rule of the three phases, as pure functions of settings, trials and ask-counter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from jobs_ray.models.cost import Costs, known_costs
from jobs_ray.models.fitting import ModelCache, fit_models, fit_predictor, predict
from jobs_ray.models.hooks import Hooks
from jobs_ray.models.prediction import Predictor
from jobs_ray.search.budget import TOLERANCE, Budget, ledger, unheard
from jobs_ray.search.divergence import diverges
from jobs_ray.search.generator import Action, CandidateGenerator
from jobs_ray.search.lookahead import Lookahead
from jobs_ray.search.progress import Progress, horizon, search_progress, short_length, trials_left
from jobs_ray.search.promotion import promotable, safest
from jobs_ray.search.settings import FINISHED, Settings, _Finished
from jobs_ray.space import Array, SearchSpace
from jobs_ray.trials import Phase, Trial, TrialStatus, TrialTable

_RANDOM_FULL = 4  # space-filling full runs before the surrogate, when trials cannot be stopped early
_OWN_END = 0.5  # a full run that ends by itself counts as complete from this share of max_t on
_BLIND = 8  # short runs before any cost is known: together they cost about one full run
# of a run; from there on a promotion is not stopped as diverged: the little that is left buys a final value. Regret on
# `diverging` (120 to 127; 5, 10, 20 full runs): .47, .31, .16 without it, .47, .32, .16 with .75, .51, .47, .16 with .5
_LATE = 0.75
_HOPELESS = 20  # trials in a row that end without any value: the trainable is broken, not the configuration


@dataclass(frozen=True)
class Policy:
    """The decision rule for one space. `points`: `m x d` to evaluate first; `candidates`: the only points allowed.

    No candidate is asked for twice: a repetition tells how noisy one value is, a promotion what another is worth in the
    end. When all were asked for, short runs are promoted, and what ended in an error is tried once more, while the
    budget lasts; then the search ends.
    """

    space: SearchSpace
    predictor: Predictor
    hooks: Hooks
    points: Array
    candidates: Array | None

    def decide(
        self,
        settings: Settings,
        trials: TrialTable,
        asked: int,
        cache: ModelCache,
        *,
        full: bool,
        quick: bool,
        ahead: Lookahead | None = None,
        peek: bool = False,
    ) -> Action | _Finished | None:
        """The next action; None: wait for a trial in flight. peek: of the right kind, but perhaps without a point."""
        wait = None if trials.running() else FINISHED
        if trials_left(settings, trials) <= 0:
            return FINISHED
        if _hopeless(trials):
            return wait
        max_t, costs = horizon(settings, trials), self.costs(settings, trials, cache, fit=not quick)
        generator = CandidateGenerator(
            self.space, self.predictor, self.hooks, self.points, self.candidates, settings.seed, max_t, trials, asked,
            cache, quick, costs if settings.cost_unit else None,
            None if self.hooks.surrogate or self.hooks.acquisition else ahead, peek,
        )  # fmt: skip
        short_t = math.inf if full or max_t is None else short_length(settings, trials, max_t, costs)
        whole = max_t is None or short_t >= max_t
        if settings.cost_unit and costs is None:
            begun = sum(trial.charged and (trial.running or trial.steps > 0) for trial in trials.values())
            blind = begun < (1 if whole else _BLIND)
            return (generator.new(Phase.LEARN, max_t if whole else short_t) if blind else None) or wait
        if max_t is None or costs is None or whole:
            money = ledger(trials, settings.budget, costs)
            learning = asked < max(_RANDOM_FULL, len(self.points))
            phase = Phase.LEARN if learning else Phase.SEARCH
            allowed = money.affords(costs.full if costs else 1.0)
            return (generator.new(phase, settings.max_t, money.left) if allowed else None) or wait
        begun, budget = unheard(trials), settings.budget or math.inf
        if begun and costs.spent(trials) + (begun + 1) * costs.full > budget + TOLERANCE:
            return wait  # perhaps none can be stopped before its end
        now = search_progress(self.space, self.predictor, settings, trials, max_t, costs, cache)
        return self._learn(now, generator, settings) or self._search(now, generator, settings) or wait

    def costs(self, settings: Settings, trials: TrialTable, cache: ModelCache, *, fit: bool = True) -> Costs | None:
        """What there is to go by; None: the length of a full run is not known, or no cost has been reported yet."""
        max_t, measured = horizon(settings, trials), settings.cost_unit is not None
        return None if max_t is None else known_costs(self.space, trials, max_t, cache, measured=measured, fit=fit)

    def budget(self, settings: Settings, trials: TrialTable, cache: ModelCache) -> Budget:
        """The ledger, by the models as last fitted. Costs that nobody has reported yet count nothing."""
        costs = self.costs(settings, trials, cache, fit=False)
        if costs is None and settings.cost_unit is not None:
            return Budget(settings.budget, 0.0, 0.0)
        return ledger(trials, settings.budget, costs)

    def _learn(self, now: Progress, generator: CandidateGenerator, settings: Settings) -> Action | None:
        """LEARN: random short runs, the best of them promoted; or, with `num_full`, random full runs."""
        plan, affords = now.plan, now.money.affords
        more_short = now.learn_short < plan.learn_short and not generator.used_up
        if more_short and affords(now.short_cost + now.promotion_cost):
            return generator.new(Phase.LEARN, now.short_t, now.money.left - now.promotion_cost)
        if now.learn_full >= plan.learn_full:
            return None
        if now.learn_awaited:  # a few of SEARCH's short runs come before: slots that wait cost money, too
            more = now.early < plan.early and now.short_allowed
            return generator.new(Phase.LEARN, now.short_t, now.most_short) if more else None
        # one whose first report came late costs less than usual, perhaps all that is left
        if settings.num_full == "auto" and (best := generator.best_short(now.affords_promotion)):
            return Action(Phase.LEARN, now.max_t, promotes=best.trial_id)
        return generator.new(Phase.LEARN, now.max_t, now.money.left) if affords(now.costs.full) else None

    def _search(self, now: Progress, generator: CandidateGenerator, settings: Settings) -> Action | None:
        """SEARCH and CONFIRM in turns; what is left at the end is spent on confirmations."""
        limited = settings.num_confirm != "auto"
        more_short = (
            now.short_allowed
            and not generator.used_up
            and (now.endless or limited or now.early + now.search_short < now.plan.search_short)
        )
        if now.learn_awaited:
            return None
        enough = settings.num_confirm != "auto" and now.confirmed >= settings.num_confirm
        due, over = now.confirmed < now.due, not (more_short or enough)
        held = now.held and (not generator.used_up or any(map(now.affords_promotion, promotable(generator.trials))))
        if held or (over and not due and now.short_running):  # they may be the best: what is left is for those
            due = over = False
        if due or over:
            if best := generator.best_short(now.affords_promotion):  # at its own price, not the plan's
                return Action(Phase.CONFIRM, now.max_t, promotes=best.trial_id)
            if now.short_running and not more_short:
                return None
            if not more_short and now.money.affords(now.costs.full):  # no short run can be promoted
                return generator.new(Phase.CONFIRM, now.max_t, now.money.left)
        most = math.inf if now.endless else now.most_short
        return generator.new(Phase.SEARCH, now.short_t, most) if more_short else None

    def after_report(
        self, settings: Settings, trial: Trial, trials: TrialTable, cache: ModelCache
    ) -> tuple[bool, float | None]:
        """(stop?, grant) after the latest report of `trial`."""
        curve, grant, max_t = trial.curve, trial.grant, horizon(settings, trials)
        failures = [t for t in curve.failed_at if not curve.t or t > curve.t[-1]]
        if len(failures) >= 2:  # one NaN may pass, two in a row mean a diverged run that only costs
            return True, grant
        # one whose length is not known goes on to its own end: stopped at the longest t seen, which may be its own, it
        # would make all others as short as itself
        known_end = settings.max_t is not None or grant is not None
        if max_t is not None and known_end and curve.last_t >= max_t:
            return True, grant
        if max_t is not None and trial.wasted >= max_t:  # a whole run was lost to restarts; what it has is no final
            return True, min(grant or max_t, curve.last_t) if curve.last_t < max_t else grant
        if grant is None or max_t is None:
            return False, grant
        if grant >= max_t and curve.last_t < _LATE * max_t and diverges(trial, trials, cache):
            return True, curve.last_t
        interval = curve.last_t - max([0.0, *(t for t in (*curve.t, *curve.failed_at) if t < curve.last_t)])
        if curve.last_t + (interval / 2.0 if grant < max_t else 0.0) < grant:
            return False, grant
        if not settings.extend or grant >= max_t or curve.ends_failed:
            return True, grant
        costs = self.costs(settings, trials, cache)
        if costs is None:
            return True, grant
        now = search_progress(self.space, self.predictor, settings, trials, max_t, costs, cache)
        more = now.short_t - max(grant, curve.last_t)  # less than to the next report: it stands where it was to end
        kept = (now.owed + max(now.plan.learn_full - now.learn_full, 0)) * now.promotion_cost  # else few are confirmed
        if more > interval / 2.0 and now.money.affords(costs.of(trial, more) + kept):  # short runs were lengthened
            return False, now.short_t
        if self._worth_confirming(now, trial, trials, cache):
            return False, max_t
        return True, grant

    def _worth_confirming(self, now: Progress, trial: Trial, trials: TrialTable, cache: ModelCache) -> bool:
        """A short run that looks best of all unconfirmed ones serves the next confirmation on the spot."""
        rest = now.costs.of(trial, now.max_t - trial.curve.last_t)
        if trial.phase is not Phase.SEARCH or now.confirmed > now.due or now.owed == 0 or not now.money.affords(rest):
            return False
        rows = cache.recall(trials)
        predictor = fit_predictor(self.space, rows, self.predictor, now.max_t, cache)
        if predictor is None:
            return False
        trial = next(t for t in reversed(rows) if t.trial_id == trial.trial_id)  # its curve denoised
        rivals = [t for t in promotable(rows) if t.trial_id != trial.trial_id]
        values = predict(self.space, [trial, *rivals], predictor, cache)
        own = values.pop(trial.trial_id, None)
        finals = [t.final for t in rows if t.final is not None]
        return own is not None and own[0] > max([*finals, *(mean for mean, _ in values.values())])

    def recommend(
        self, settings: Settings, trials: TrialTable, cache: ModelCache
    ) -> tuple[Trial, float, float | None] | None:
        """(trial, mean, stddev), maximised: the best confirmed, else the best predicted, else None.

        While nothing predicts: the best at a common time, with its last value, and no stddev.
        Tried: the confirmed one of the largest posterior mean, against the winner's curse. Of 48 searches with noisy
        reports or with a training seed each (families `noisy`, `seeds`, `accuracy`, `mixing_law5`) it chose another
        one in two, both times a worse one.
        """
        rows = cache.recall(trials)
        confirmed = [(t.final, t) for t in rows if t.final is not None]
        if confirmed:
            final, best = max(confirmed, key=lambda pair: pair[0])
            noise = cache.denoiser.fitted.variance(len(best.curve.value))
            return trials[best.trial_id], final, math.sqrt(noise)
        models = fit_models(self.space, rows, self.predictor, horizon(settings, trials), cache, self.hooks)
        if not models.values:
            return None
        known = safest(self.space, rows, [t for t in rows if t.trial_id in models.values])
        name = max((t.trial_id for t in known), key=lambda trial_id: models.values[trial_id][0])
        if fit_predictor(self.space, rows, self.predictor, horizon(settings, trials), cache) is None:
            return trials[name], trials[name].curve.value[-1], None
        return trials[name], *models.values[name]


def ending(settings: Settings, trial: Trial, longest: float | None, error: bool) -> TrialStatus:
    """What became of a trial that has ended. `longest`: the length of a full run, as set or learned."""
    if error or trial.curve.ends_failed or not trial.curve.value:
        return TrialStatus.FAILED
    if settings.max_t is None and trial.grant is None and not trial.silent:
        return TrialStatus.COMPLETED
    end = longest or math.inf
    full = trial.grant is None or trial.grant >= end
    reached = trial.curve.last_t >= end * (_OWN_END if full and not trial.silent else 1.0)  # silent: given up
    return TrialStatus.COMPLETED if reached else TrialStatus.STOPPED


def observed(trial: Trial, reports: Sequence[tuple[float, float | None]], *, complete: bool) -> Trial:
    """A trial of elsewhere, ended, with its reports `(t, maximised value)`, of which those up to t = 0 are left out, as
    they are of trials; `complete`: the last one is a final. ValueError: none is later."""
    if reports and not any(t > 0 for t, _ in reports):
        raise ValueError(f"an observation needs a report at t > 0, got {list(reports)!r}")
    for t, value in sorted(reports, key=lambda pair: pair[0]):
        trial = trial.report(t, value) if t > 0 else trial
    usable = bool(trial.curve.value) and not trial.curve.ends_failed
    done = TrialStatus.COMPLETED if complete else TrialStatus.STOPPED
    return replace(trial, status=done if usable else TrialStatus.FAILED)


def _hopeless(trials: TrialTable) -> bool:
    """Whether the last trials asked for, and the last ones that ended, never reported a value."""
    asked = list(islice(trials.newest(), _HOPELESS))
    ended = list(islice((t for t in trials.newest() if not t.running), _HOPELESS))
    return len(ended) == _HOPELESS and not any(t.curve.t for t in (*asked, *ended))
