"""JoBSSearcher: the optimiser as a Ray Tune searcher. It translates and delegates, nothing more.

    Ray calls                     in terms of the optimiser
    set_search_properties         the space, metric, mode and number of trials, before anything runs
    suggest                       propose (in the background), accept
    on_trial_result / _complete   report / tell (idempotent: the scheduler reports the same results first)
    save / restore                state_dict / load_state_dict

Nothing here may raise because of what a trial reported, and nothing unpicklable may be an attribute.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ray.tune.search.searcher import Searcher

from jobs_ray.models.late_import import import_models
from jobs_ray.search.optimizer import FINISHED, Decision, Recommendation, Suggestion
from jobs_ray.tune import failures, limits, reconcile, recovery, run_context, session_state, statefile, stragglers
from jobs_ray.tune import warmstart as warm
from jobs_ray.tune.background import Moment, Proposer
from jobs_ray.tune.begin import LOST, NOT_RESTORED, NOTHING, begin
from jobs_ray.tune.capacity import Capacity
from jobs_ray.tune.domains import TuneSpace
from jobs_ray.tune.result_reader import TRAINING_ITERATION
from jobs_ray.tune.session import Session
from jobs_ray.tune.settings import Replaced, Settings

if TYPE_CHECKING:
    from jobs_ray.models.hooks import AcquisitionHook, SurrogateHook
    from jobs_ray.models.prediction import Predictor

logger = logging.getLogger(__name__)


class JoBSSearcher(Searcher):  # type: ignore[misc]  # ray.tune is not typed
    """Joint search of data mixture and model configuration from short training runs (arXiv 2602.08351).

    Every argument is optional; space, metric, mode and the number of trials come from the Tuner.

    Args:
        space: dict of Ray Tune domains (or of the core's parameters), nested as the trainable's config.
        metric, mode: what to optimise, "min" or "max".
        max_t: time (in units of `time_attr`) of a full run.
        budget: what may be spent, in full runs, or in the unit of `cost_attr`; when it is spent, the search is over.
        short_t, num_full, num_confirm: parts of the plan; "auto" adapts them (docs/how-it-works.md).
        time_attr: the result key that holds the training progress.
        steps_key: config key that receives the time a trial is to train to, for trainables that end themselves.
        resume_key: config key that receives the checkpoint of the short run that is promoted, or None: its path, or
            Ray's `Checkpoint` (path and filesystem) where the storage is not a local file system.
        points_to_evaluate: configurations to try first; what they leave out is drawn, weights are normalised.
        predictor: replaces the predictor of final values.
        surrogate, acquisition: replace the model and the acquisition function by BoTorch ones of yours, see
            `jobs_ray.models.hooks` and examples/own_botorch_model.py.
        seed: makes the search repeatable.
        trial_timeout_s: JoBSScheduler ends a trial that has not reported for so long, or not even started; give it more
            than a start and the longest pause between two reports take.
        cost_attr: a result key that grows while a trial trains, as "time_total_s", tokens or dollars: `budget` is in
            that unit then, and what is likely to cost less for what it promises is preferred. Needs `max_t`. No trial
            is started whose predicted cost is more than is left; one that costs more than predicted overspends.

    Raises ValueError on settings that contradict each other.
    """

    _run: run_context.RunContext | None
    _trials: Sequence[Any]
    _watched: set[str]
    _undone: Collection[str] = ()  # trials not at their end when Ray saved them; read before it saves again
    _unpickled: bool

    def __init__(
        self,
        space: Mapping[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        *,
        max_t: float | None = None,
        budget: float | None = None,
        short_t: float | Literal["auto"] = "auto",
        num_full: int | Literal["auto"] = "auto",
        num_confirm: int | Literal["auto"] = "auto",
        time_attr: str = TRAINING_ITERATION,
        steps_key: str | None = None,
        resume_key: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        predictor: Predictor | None = None,
        surrogate: SurrogateHook | None = None,
        acquisition: AcquisitionHook | None = None,
        seed: int | None = None,
        trial_timeout_s: float | None = None,
        cost_attr: str | None = None,
    ) -> None:
        if isinstance(points_to_evaluate, Mapping):
            raise ValueError("points_to_evaluate is one configuration; expected a list of them: [{...}]")
        points = tuple(points_to_evaluate or ())
        self._settings = Settings(
            max_t, budget, short_t, num_full, num_confirm, time_attr, steps_key, resume_key, points, seed,
            trial_timeout_s, cost_attr, search_id=secrets.token_hex(8),
        )  # fmt: skip
        self._settings.check_objective(metric, mode)
        super().__init__(metric=metric, mode=mode)
        self._metric, self._mode = metric, mode
        self._replaced = Replaced(predictor, surrogate, acquisition)
        self._space_is_mine = space is not None
        self._space: TuneSpace | None = None if space is None else self._settings.translate(space)
        self._num_samples: int | None = None
        self._limit: int | None = None
        self._session: Session | None = None
        self._unreconciled = False
        self._start_runtime()

    # ---- before the run

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        """Takes what the Tuner knows. False when both it and the constructor define parameters."""
        import_models()  # Ray's loop does not run yet
        self._settings.check_objective(metric, mode)
        self._metric = self._settings.agree("metric", self._metric, metric)
        self._mode = self._settings.agree("mode", self._mode, mode)
        self._run = run_context.searcher_starts(self)
        self._num_samples = limits.end_of(spec.get("num_samples"), self._num_samples)
        translated = self._settings.translate(config)
        if self._session is not None:  # a second fit(), evaluated points, restored by hand
            limits.expect(self._session, spec.get("num_samples"))
        if self._space_is_mine:
            return not translated.core  # constants only: they are merged by Ray
        if self._session is not None:  # it goes on in the same space only
            return self._session.space.core == translated.core
        self._space = translated
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Notes the limit; True: `suggest` keeps it, and the ConcurrencyLimiter passes everything on.

        Its own books know neither trials that a restore starts anew nor those it ends, and it keeps their ends from us
        (its `batch=True` has no effect).
        """
        self._limit = max_concurrent
        return True

    def add_evaluated_point(
        self,
        parameters: Mapping[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: Sequence[float] | None = None,
    ) -> None:
        """Adds an observation from elsewhere, not charged to the budget. Raises SpaceError if it is foreign."""
        warm.add_point(self.session, parameters, value, error or pruned, intermediate_values)

    def add_evaluated_trials(self, trials_or_analysis: Any, metric: str) -> None:
        """Adds the trials of another experiment with their times (and, of an analysis, their curves)."""
        warm.add_trials(self.session, trials_or_analysis, metric)

    # ---- the run

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next configuration, None (ask again), or FINISHED."""
        self._refuse_to_start_anew(self._run is None and self._session is not None)  # nobody set us up
        session = self.session
        if session.failures.verdict is not None:
            if not session.live:  # else one of them may end in order, and FINISHED is for good
                logger.error("the search ends: %s", session.failures.verdict)
            return None if session.live else str(Searcher.FINISHED)
        propose, spare = self._proposer.next, self._spare()
        running = len(session.live) if self._scheduled else self._capacity.running(session.live, self._trials)
        if session.live and not self._capacity.free(running, self._limit, self._trials):
            if spare:
                self._prepare()
            return None
        while isinstance(proposal := propose(session.core, self._moment(), not session.live, spare), Suggestion):
            config = session.hand_out(trial_id, proposal, self._trials)
            if config is None:  # a promotion that would overspend: each time another one, until none is left
                continue
            if self._proposer.hurried and len(session.live) > 1:  # alone, it would be for trials of yesterday
                self._prepare()
            return config
        if proposal is None and not session.live:
            logger.error("the optimiser waits for trials, but none is running: the search ends here")
            proposal = FINISHED
        return str(Searcher.FINISHED) if proposal is FINISHED else None

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Records one report; the scheduler has recorded it already if there is one."""
        self.session.record(trial_id, result)
        self.session.goes_on(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Records the last report and ends the trial; unknown and repeated ids are harmless."""
        own_end = self.session.own_end(trial_id, result, self._scheduled)
        if own_end is False and result and self._run is not None:
            own_end = self._run.met(result)
        if result:
            self.session.record(trial_id, limits.with_time(self.session, trial_id, result))
        self.session.end(trial_id, error, own_end, failures.error_of(trial_id, self._trials) if error else None)
        self._prepare()

    def record(self, trial_id: str, result: Mapping[str, Any]) -> Decision:
        """For the scheduler: records one report and says whether the trial has trained enough."""
        return self.session.record(trial_id, result)

    def _prepare(self) -> None:
        most = self.session.num_samples
        if most is None or self.session.handed_out * self.repeats < most:
            self._proposer.prepare(self.session.core, self._moment(), self._spare())

    def _spare(self) -> int:
        return self._capacity.spare(len(self.session.live), self._trials, self._proposer.hurried)

    def _moment(self) -> Moment:
        return Moment(self.session.handed_out, self.session.ended, full=not self.can_stop)

    @property
    def can_stop(self) -> bool:
        """Whether anything ends a trial early: a JoBSScheduler, or the trainable itself by `steps_key`."""
        return self._scheduled or self._settings.steps_key is not None

    @property
    def _scheduled(self) -> bool:
        """Whether a JoBSScheduler is at work; then no other scheduler is."""
        return self._run is not None and self._run.scheduler is not None and self.repeats == 1

    def see(self, trials: Sequence[Any]) -> None:
        """The callback and the scheduler show Ray's trials (the live list): for checkpoints and free slots."""
        self._trials = trials
        self._refuse_to_start_anew(bool(trials))
        if self._unreconciled or (self._session is None and trials):  # Ray has lost its own state of the search
            self._unreconciled = True
            reconcile.with_ray(self.session, trials, self._undone, full=not self.can_stop, scheduled=self._scheduled)
            self._unreconciled = False
            self._watched = set(self.session.live)
        if self._watched:
            self._watched &= self.session.live
            for trial in trials:
                if trial.trial_id in self._watched:
                    reconcile.end_if_ended(self.session, trial)
        if self._session is not None:
            stragglers.note(self._session)

    def _refuse_to_start_anew(self, now: bool = True) -> None:
        """Raises StateError where Ray could not restore the experiment, and begins another or ends. now: it shows."""
        if self._run is None or self._run.over:  # with an empty param_space Ray has told us nothing
            self._run = run_context.searcher_joins(self)
            if self._session is not None and not (self._unreconciled or self._unpickled):
                limits.expect(self._session, self._run.num_samples)
        if self._unpickled and now:
            if self._trials or self._unreconciled or self._session is None:  # else none was shown, but asked for
                recovery.refuse_to_start_anew(self._trials, self._settings.search_id)
            self._unpickled = False

    # ---- what the user asks

    def recommendation(self) -> Recommendation | None:
        """What to train, with its (predicted) final value and whether a full run confirmed it."""
        return self.session.recommendation(self._trials)

    def report(self) -> dict[str, Any]:
        """Phases, budget ledger and every trial (config, phase, curve, prediction, final) as plain data."""
        return self.session.report()

    # ---- parts

    @property
    def settings(self) -> Settings:
        """As given to the constructor, or restored."""
        return self._settings

    @property
    def max_concurrency(self) -> int | None:
        """As a ConcurrencyLimiter told; None without one."""
        return self._limit

    @property
    def started(self) -> bool:
        """Whether there is a session: the search has been asked for something, or restored."""
        return self._session is not None or self._unreconciled

    @property
    def session(self) -> Session:
        """The search, built when first needed. Raises ValueError while space, metric or mode are unknown."""
        if self._session is None:
            if self._run is not None and self._space is not None:
                self._metric = self._settings.agree("metric", self._metric, self._run.metric)
                self._mode = self._settings.agree("mode", self._mode, self._run.mode)
                if self._num_samples is None and not self._unreconciled:  # at a restore Ray tells everybody 1
                    self._num_samples = limits.end_of(self._run.num_samples, self._num_samples)
            why = LOST if self._unreconciled else NOT_RESTORED if self._unpickled else NOTHING
            self._session = begin(
                self._settings, self._space, self._metric, self._mode, self._num_samples, self._replaced, why
            )
            self._metric = self._session.metric
        return self._session

    # ---- saved state

    def save(self, checkpoint_path: str) -> None:
        """Writes the state as versioned JSON (called by Ray every 10 s)."""
        if self._session is None and self._unreconciled:
            return  # built anew from nothing yet: a damaged state says more
        statefile.save(checkpoint_path, session_state.to_text(self.session))

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Ray's save. A disk that is full or read-only does not end the experiment: the old state stays."""
        self._refuse_to_start_anew()  # before anything is copied over the old one's files
        try:
            super().save_to_dir(checkpoint_dir, session_str)
        except OSError as error:
            logger.error("the state of the search could not be saved (%s); the older one stays till 10 s on", error)

    def restore(self, checkpoint_path: str) -> None:
        """Goes on from a saved state, which wins over what was set. Raises StateError, nothing changed."""
        import_models()
        session = session_state.from_state(statefile.load(checkpoint_path), self._replaced, trusted=True)  # as Ray's is
        recovery.warn_of_other_domains(self._space, session.space)
        self._session, self._settings, self._space = session, session.settings, session.space
        self._metric, self._mode, self._num_samples = session.metric, session.mode, session.num_samples
        self._start_runtime()
        self._run = run_context.searcher_joins(self)
        self._unreconciled = True

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Ray's restore: from the newest state that can be used, else from Ray's own trials. Raises nothing."""
        self._run, self._unreconciled, self._unpickled = run_context.searcher_joins(self), True, False
        for path in recovery.states(checkpoint_dir):
            self._undone = recovery.unfinished(checkpoint_dir, path)
            try:
                self.restore(path)
            except ValueError as error:  # of another space; a StateError is one, too
                logger.error("%s; it is left aside", error)
            else:
                return
        known, self._undone = recovery.setup(checkpoint_dir), recovery.unfinished(checkpoint_dir)
        logger.warning("no saved state of the search can be used: it is built anew from Ray's trials and their results")
        self._session, self._metric, self._mode = None, self._metric or known.metric, self._mode or known.mode
        self._num_samples = limits.end_of(known.num_samples, self._num_samples)
        if self._space is None and known.space is not None:
            self._space = self._settings.translate(known.space)

    def rescue(self, trials: Sequence[Any]) -> bool:
        """A finished experiment was restored, and its state is lost or old: Ray takes no step then, and has saved.

        Whether there is anything to tell of the search. Raises StateError where Ray was to restore it, and could not.
        """
        self._refuse_to_start_anew()
        if self._unreconciled and trials:
            try:
                self.see(trials)
            except ValueError as error:  # Ray's files do not tell the space either
                logger.error("the search cannot be built anew: %s", error)
                return False
            text = statefile.text(session_state.to_text(self.session))
            recovery.write(trials[0].storage, self.CKPT_FILE_TMPL, text)
        return self._session is not None

    def __getstate__(self) -> dict[str, Any]:
        runtime = ("_proposer", "_trials", "_run", "_capacity", "_watched", "_undone", "_unpickled")
        return {name: value for name, value in self.__dict__.items() if name not in runtime}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_replaced" not in state:  # pickled by 0.1.0, in an experiment's tuner.pkl
            self._replaced = Replaced(self.__dict__.pop("_predictor", None))
        self._start_runtime()
        self._unpickled = True  # most likely by Tuner.restore, and Ray will call `restore`
        run_context.searcher_is_unpickled()

    def _start_runtime(self) -> None:
        """What belongs to this process and is never pickled."""
        self._proposer, self._capacity = Proposer(), Capacity()
        self._trials = ()
        self._watched = set()  # live when restored: a wrapper may keep their ends to itself
        self._run, self._unpickled = None, False
        self.repeats = 1  # set by the scheduler: trials that a Repeater around it makes of each
