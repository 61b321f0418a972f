"""JoBSCallback: what the optimiser knows, in every result and on the terminal.

Ray adds it to each run by itself (see run_context.py); `RunConfig(callbacks=[JoBSCallback()])` does the same by hand.
It comes before Ray's loggers, so the values it adds to a result appear in Tune's table, TensorBoard, CSV and JSON.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from ray.tune import Callback
from ray.tune.utils import flatten_dict

from jobs_ray.search.optimizer import Decision, Phase
from jobs_ray.search.progress import JUDGED
from jobs_ray.trials import TrialStatus
from jobs_ray.tune import preflight, recovery, run_context
from jobs_ray.tune.live import LiveLine, standing
from jobs_ray.tune.predictions import Predictions
from jobs_ray.tune.searcher import JoBSSearcher

_PHASES = list(Phase)


class JoBSCallback(Callback):  # type: ignore[misc]  # ray.tune is not typed
    """Adds `jobs/phase`, `jobs/predicted`, `jobs/predicted_std` and `jobs/budget_spent` to each result.

    TensorBoard shows numbers only, so `jobs/phase_number` (0 learn, 1 search, 2 confirm) repeats the phase. Prints
    the plan at the start, one line at each phase change, where the search stands now and then (not with `verbose=0`),
    and the recommendation at the end, unless `quiet`.
    """

    def __init__(self, searcher: JoBSSearcher | None = None, quiet: bool = False) -> None:
        run_context.dismiss_callback()
        self._given = searcher
        self._quiet = quiet
        self._forget()

    def _forget(self) -> None:
        self._run: run_context.RunContext | None = None
        self._phase: Phase | None = None
        self._first_trial: str | None = None
        self._checked = self._doubted = False
        self._cut_said = self._short_said = False
        self._live: LiveLine | None = None
        self._predictions = Predictions()
        self._error: float | None = None
        self._since, self._before = time.monotonic(), 0.0

    @property
    def searcher(self) -> JoBSSearcher | None:
        """The run's searcher, once known; None in runs without one and when another callback is at work."""
        if self._run is None:
            return None
        found = [each for each in (self._run.searcher, self._given) if isinstance(each, JoBSSearcher)]
        # the given one, or what it is a copy of, under Ray Client (else the other one's run could not begin)
        return next((each for each in found if each.settings.search_id == found[-1].settings.search_id), None)

    def setup(self, stop: Any = None, num_samples: int | None = None, **info: Any) -> None:
        """Joins the run that is being set up."""
        self._forget()
        self._run = run_context.callback_joins(self)
        if self._run is not None:
            self._run.learn(num_samples, stop)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Shows the searcher Ray's trials, before it is asked for the next one."""
        searcher = self.searcher
        if searcher is None:
            return
        searcher.see(trials)  # also an empty list: it is the live one
        if not (searcher.started and trials):
            return
        if self._phase is None:
            self._phase = searcher.session.core.phase
            self._print(_plan(searcher))
            warnings = preflight.warnings_before_training(
                trials[0],
                # a Repeater does not hand the limit on
                max_concurrency=searcher.max_concurrency if searcher.repeats == 1 else searcher.repeats,
                stopped_by_us=searcher.can_stop and searcher.settings.steps_key is None,
            )
            for line in (*_limits(searcher), *warnings, *recovery.of_others(trials, searcher.session)):
                self._print(f"JoBS: {line}")
            self._since, self._before = time.monotonic(), searcher.session.core.budget_spent
        elif searcher.session.core.phase is not self._phase:
            self._phase = searcher.session.core.phase
            self._print(_phase_line(searcher))
        if self._run is not None and self._run.verbosity and not self._quiet:
            self._live = self._live or LiveLine()
            for_s = time.monotonic() - self._since
            self._live.update(
                lambda: standing(searcher.session, self._predictions.known, self._error, for_s, self._before)
            )

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Adds the values in place (Ray allows it: tune_controller.py, `_process_trial_result`)."""
        searcher = self.searcher
        if searcher is None:
            return
        session = searcher.session
        # a result that ends its trial (done, a stopper) reaches the searcher only after this; recording is idempotent
        flat = flatten_dict(result)
        decision = session.record(trial.trial_id, flat)
        # nothing acts on the prediction of a run that nobody can stop
        found = self._predictions.of(session, trial.trial_id) if searcher.can_stop else None
        phase = session.phase_of(trial.trial_id)
        result["jobs/phase"] = phase.value
        result["jobs/phase_number"] = _PHASES.index(phase)
        # always all keys: the CSV logger takes its columns from the first result
        result["jobs/predicted"], result["jobs/predicted_std"] = found or (None, None)  # Tune shows NaN, but no None
        result["jobs/budget_spent"] = session.core.budget_spent
        self._check_first_trial(searcher, trial.trial_id, decision is Decision.STOP)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Says once that others cut trials short, and that the predictor, by its own account, predicts nothing."""
        searcher = self.searcher
        ended = None if searcher is None else searcher.session.core.trials.get(trial.trial_id)
        if searcher is None or ended is None:
            return
        max_t, reached = searcher.settings.max_t, ended.curve.last_t
        in_order = ended.own_end and ended.status is not TrialStatus.FAILED
        if max_t is not None and in_order and reached < (ended.grant or max_t) and not self._short_said:
            self._short_said = True
            self._print(f"JoBS: {preflight.ended_early(reached, ended.grant or max_t, max_t)}")
        if not searcher.can_stop:
            full = searcher.session.core.max_t or 0.0
            if ended.status is TrialStatus.STOPPED and not self._cut_said:
                self._cut_said = True
                self._print(f"JoBS: {preflight.cut_short(ended.curve.last_t, full, searcher.settings.max_t is None)}")
            return
        if not ended.completed:  # only a full run changes the answer, and asking takes milliseconds
            return
        quality = searcher.session.core.predictor_quality(fit=False)
        self._error = self._error if quality is None else quality["rmse"]
        if self._doubted:
            return
        if quality is not None and quality["n"] >= JUDGED and quality["r2"] <= 0.0:
            self._doubted = True
            self._print(f"JoBS: {preflight.no_prediction(quality)}")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Prints the recommendation. Raises StateError where there was an experiment to restore, and Ray could not."""
        searcher, run = self.searcher, self._run
        if self._live is not None:
            self._live.close()
        try:
            if searcher is not None and searcher.rescue(trials) and trials:
                self._print(_end_line(searcher))
        finally:
            if run is not None:
                run_context.run_ends(run)
            run_context.dismiss_callback()  # a searcher may have been unpickled since
            self._forget()

    def __getstate__(self) -> dict[str, Any]:
        # pickled with the Tuner, together with the searcher that it may have been given
        return {"_given": self._given, "_quiet": self._quiet}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _check_first_trial(self, searcher: JoBSSearcher, trial_id: str, stopped: bool) -> None:
        """Once: do the first trial's reports fit the plan? All of them, also those from before a restore."""
        session = searcher.session
        if self._checked or not searcher.can_stop or self._first_trial not in (None, trial_id):
            return
        if trial_id not in session.live:  # it has ended for us, and stops at its first report
            return
        self._first_trial = trial_id
        curve, plan = session.core.trials[trial_id].curve, session.core.plan(fit=False)
        if plan is None or not curve.last_t:
            return
        self._checked = stopped or curve.last_t >= plan["short_t"]
        if self._checked:
            times, metric = sorted((*curve.t, *curve.failed_at)), str(searcher.metric)
            if len(times) > 1 and times[-2] >= plan["short_t"]:  # it goes on after a restore, and was past it before
                return
            for line in preflight.warnings_at_short_t(plan["short_t"], times, bool(curve.t), metric):
                self._print(f"JoBS: {line}")

    def _print(self, text: str) -> None:
        if not self._quiet:
            print(text, flush=True)


def _plan(searcher: JoBSSearcher) -> str:
    core = searcher.session.core
    plan, total, unit = core.plan(fit=False), core.budget.total, core.settings.unit
    if searcher.repeats > 1:
        return f"JoBS: {preflight.repeated(searcher.repeats)}"
    if not searcher.can_stop:
        return (
            "JoBS: every trial runs to its own end, or to where another scheduler stops it; scheduler=JoBSScheduler() "
            "in tune.TuneConfig would stop most of them early and spend the budget on more configurations"
        )
    if plan is None and core.max_t is not None:
        return f"JoBS plan: the first short runs show what a run costs in {unit}"
    if plan is None:
        return "JoBS plan: the first trials run to their own end, to learn how long a full run is (or set max_t)"
    return (
        f"JoBS plan: {plan['learn_short']} short runs to t={plan['short_t']:g}, full runs (t={plan['max_t']:g}): "
        f"{plan['learn_full']}; then about {plan['search_short']} short runs, confirmations: {plan['confirm']}"
        + ("" if total is None else f"; budget {total:g} {unit}")
    )


def _limits(searcher: JoBSSearcher) -> Iterator[str]:
    core = searcher.session.core
    plan, budget, most = core.plan(), core.budget.total, searcher.session.num_samples
    trials = None if budget is None or core.settings.cost_unit else math.ceil(budget)
    if plan is not None and searcher.can_stop:
        trials = sum(plan[key] for key in ("learn_short", "learn_full", "search_short", "confirm"))
    if budget is not None and most is not None and trials is not None and most < trials:
        yield preflight.few_samples(most, budget, core.settings.unit)
    if budget is not None and core.max_t is None:
        yield preflight.no_length(budget)
    if (grid := core.space.grid) is not None and min(filter(None, (trials, most)), default=math.inf) > len(grid):
        yield preflight.small_space(len(grid))


def _phase_line(searcher: JoBSSearcher) -> str:
    core = searcher.session.core
    return f"JoBS: phase {core.phase.value} from trial {len(core.trials)} on, {_spent(searcher)}"


def _end_line(searcher: JoBSSearcher) -> str:
    found, count = searcher.recommendation(), len(searcher.session.core.trials)
    if found is None:
        why = f" ({verdict})" if (verdict := searcher.session.failures.verdict) else ""
        return f"JoBS: no trial reported a usable {searcher.metric!r}; nothing to recommend{why}"
    basis = found.basis(searcher.session.core.max_t, searcher.settings.time_attr)
    spread = f" +- {found.stddev:.2g}" if found.stddev else ""
    return (
        f"JoBS: {count} trials, {_spent(searcher)}; recommended ({basis}): "
        f"{searcher.metric} = {found.mean:.6g}{spread} with {found.config}"
    )


def _spent(searcher: JoBSSearcher) -> str:
    core, budget = searcher.session.core, searcher.session.core.budget
    of = "" if budget.total is None else f"of {budget.total:g} "
    return f"{budget.spent:.3g} {of}{core.settings.unit} spent"
