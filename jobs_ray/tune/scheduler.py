"""JoBSScheduler: stops a trial when the optimiser has seen enough of it. It holds no state of its own.

Ray neither saves nor restores a scheduler, so every question goes to the searcher, which it finds through the
controller. It never pauses: a promoted configuration is a new trial.
"""

from __future__ import annotations

import itertools
import logging
import os
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search.repeater import Repeater

from jobs_ray.search.optimizer import Decision
from jobs_ray.tune import limits, preflight, run_context, stragglers
from jobs_ray.tune.searcher import JoBSSearcher

logger = logging.getLogger(__name__)

_CLEANUP = "TUNE_FORCE_TRIAL_CLEANUP_S"
_LAST_WORDS_S = 10.0  # for a process that hangs to end by itself, once told to


class JoBSScheduler(FIFOScheduler):  # type: ignore[misc]  # ray.tune is not typed
    """First in, first out; a trial ends when the JoBSSearcher of the same run says so.

    Raises TypeError at the first trial if the run's search_alg is not a JoBSSearcher, and ValueError if actors
    are reused by a function trainable, or a class without `save_checkpoint` is to be saved at its end.
    """

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Takes any metric and mode: only the searcher uses them."""
        run_context.scheduler_joins(self, metric, mode, spec.get("num_samples"))
        return bool(super().set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Refuses what cannot work, before the first trial trains."""
        searcher = find_searcher(tune_controller)
        if searcher.repeats > 1:
            limits.repeat(searcher.session, searcher.repeats)
        run_context.join_callbacks(tune_controller)
        preflight.refuse_reused_function_actors(tune_controller, trial)
        preflight.refuse_missing_save(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP when the optimiser says so."""
        searcher = find_searcher(tune_controller)
        if searcher.repeats > 1:
            decision = limits.whole(searcher.session, trial.trial_id, result)
        else:
            decision = searcher.record(trial.trial_id, result)
        return str(TrialScheduler.STOP if decision is Decision.STOP else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The oldest pending trial whose own actor is not starting yet, else the oldest.

        Ray gives the chosen trial an actor that waits for reuse, and ends the one that was starting for it. With trials
        shorter than a start each end of a trial would undo a start, and the slot be lost to the experiment.
        """
        searcher = find_searcher(tune_controller)
        searcher.see(tune_controller.get_trials())
        if searcher.settings.trial_timeout_s is not None:
            for trial in list(tune_controller.get_live_trials()):
                if stragglers.overdue(searcher.session, trial.trial_id):
                    logger.warning("trial %s is ended: no report for %g s", trial, searcher.settings.trial_timeout_s)
                    # no end of its own, so its last value is no final one
                    searcher.session.core.amend(trial.trial_id, silent=True)
                    _stop_for_good(tune_controller, trial)
        # Ray's version walks all trials at every step: at 5,000 of them that is most of the loop's time
        pending = sum(trial.status == Trial.PENDING for trial in tune_controller.get_live_trials())
        newest_first = (t for t in reversed(tune_controller.get_trials()) if t.status == Trial.PENDING)
        oldest_first = list(itertools.islice(newest_first, pending))[::-1]
        starting = _starting(tune_controller) if pending > 1 else ()
        chosen = next((trial for trial in oldest_first if trial not in starting), next(iter(oldest_first), None))
        if chosen is None:  # paused by a scheduler around this one, as Ray's ResourceChangingScheduler
            return next((t for t in tune_controller.get_live_trials() if t.status == Trial.PAUSED), None)
        return chosen

    def debug_string(self) -> str:
        """For Tune's status display."""
        return "Using JoBS: short runs are stopped when the optimiser has seen enough."


def _stop_for_good(tune_controller: Any, trial: Trial) -> None:
    """Stops a trial that hangs. With `reuse_actors` Ray would give its process to the next one, which waits in vain,
    too, and costs nothing: the search would go on without end, and without a result. Nor is its place held until Ray
    kills what does not end when told to (600 s, unless the user has set a time). Where each place was lost to one that
    hung, those that followed were ended one by one, for none of them had started in time.
    """
    controller = run_context.unwrapped(tune_controller)
    actor = getattr(controller, "_trial_to_actor", {}).get(trial)
    reused = getattr(controller, "_reuse_actors", False)  # Ray asks for it within `stop_trial`
    controller._reuse_actors = False
    try:
        tune_controller.stop_trial(trial)
    finally:
        controller._reuse_actors = reused
    stopping: dict[Any, float] = getattr(controller, "_stopping_actors", {})
    ahead = getattr(controller, "_actor_cleanup_timeout", 0.0) - _LAST_WORDS_S
    if actor in stopping and ahead > 0.0 and _CLEANUP not in os.environ:  # Ray counts from here
        stopping[actor] -= ahead
        controller._earliest_stopping_actor = min(controller._earliest_stopping_actor, stopping[actor])


def _starting(tune_controller: Any) -> set[Trial]:
    """Trials whose actors hold their resources (one that waits for them would be a trial passed over for ever)."""
    # Ray shows a scheduler none of this; where a later Ray names it otherwise, the oldest trial is chosen
    controller = run_context.unwrapped(tune_controller)
    trial_of: dict[Any, Trial] = getattr(controller, "_actor_to_trial", {})
    live = getattr(getattr(controller, "_actor_manager", None), "live_actors", ())
    return {trial_of[actor] for actor in live if actor in trial_of}


def find_searcher(tune_controller: Any) -> JoBSSearcher:
    """The JoBSSearcher behind the wrappers of the controller's search algorithm. Raises TypeError without one.

    Behind a Repeater, which averages whole trials, none may be stopped early: the searcher is told how many they are.
    """
    searcher = tune_controller.search_alg
    repeats = 1
    while hasattr(searcher, "searcher"):
        searcher = searcher.searcher
        repeats *= searcher.repeat if isinstance(searcher, Repeater) else 1
    if isinstance(searcher, JoBSSearcher):
        searcher.repeats = repeats
        return searcher
    raise TypeError(
        f"JoBSScheduler asks a JoBSSearcher when to stop a trial, but search_alg is {type(searcher).__name__}; "
        "write\n"
        "    from jobs_ray import JoBSSearcher\n"
        "    tune.TuneConfig(..., search_alg=JoBSSearcher(), scheduler=JoBSScheduler())"
    )
