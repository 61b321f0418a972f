"""One search as Ray's trials see it: the optimiser, its space, and what Ray's trial ids and results mean to it.

Picklable and without Ray's objects, so that a searcher can carry it through pickling, saving and restoring.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from jobs_ray.search.optimizer import Decision, JoBSOptimizer, Phase, Recommendation, Suggestion
from jobs_ray.trials import TrialStatus
from jobs_ray.trials.records import SavedTrial
from jobs_ray.tune import checkpoints, placeholders, stops
from jobs_ray.tune.domains import TuneSpace
from jobs_ray.tune.failures import Failures
from jobs_ray.tune.pulse import Pulse, mark_of
from jobs_ray.tune.result_reader import TIMELESS, TRAINING_ITERATION, Reader, Reading, Resume
from jobs_ray.tune.settings import Replaced, Settings
from jobs_ray.tune.weights import plain

logger = logging.getLogger(__name__)


class Session:
    """`live`: ids handed out and not ended. `handed_out`, `ended`: counters, to tell a stale proposal.

    Raises SpaceError when a point to evaluate is not of the space, ValueError for settings that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        space: TuneSpace,
        metric: str,
        mode: str,
        num_samples: int | None,
        replaced: Replaced,
    ) -> None:
        self.settings = settings
        self.space = space
        self.metric = metric
        self.mode = mode
        self.num_samples = num_samples
        self.repeats = 1  # trials of Ray's for each of ours, behind a Repeater
        self.restored = False  # from a saved state
        self.core: JoBSOptimizer = settings.optimizer(space, mode, num_samples, replaced)
        self.reader = Reader(metric, settings.time_attr, settings.cost_attr)
        self.live: set[str] = set()
        self.handed_out = self.ended = 0
        self.failures, self.pulse = Failures(), Pulse()
        self.saved: dict[str, SavedTrial] = {}
        self.train_checkpoints: dict[str, tuple[str, float]] = {}  # of Ray Train runs: path and t
        self._went_on: dict[str, Any] = {}  # the last time that Ray passed on as not ending the trial
        self._stopped: set[str] = set()  # told to stop, and not ended yet
        self._latest: tuple[tuple[Any, ...], Decision] | None = None  # the report recorded last, and its answer
        self.marks: dict[str, tuple[Any, ...]] = {}  # the last report of each live trial, see `mark_of`
        # node and process of each live trial's last report; None: of a driver that is gone
        self._workers: dict[str, tuple[Any, Any] | None] = {}
        # ended trials that Ray's older snapshot trains again, and the mark of the last report, which was charged
        self.anyway: dict[str, tuple[Any, ...] | None] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # one pickled by an older version, in an experiment's tuner.pkl, lacks these
        self.__dict__.update({"repeats": 1, "restored": False} | state)

    # ---- trials

    def hand_out(self, trial_id: str, suggestion: Suggestion, trials: Sequence[Any]) -> dict[str, Any] | None:
        """Registers a suggestion; the trainable's config. `trials`: Ray's, for the checkpoint to resume from.

        None, and nothing registered: that checkpoint is gone, and the budget has not enough for a whole run; ask again.
        """
        checkpoint, source = None, suggestion.resume_from
        if source is not None:
            checkpoint, start = self._checkpoint(source, trials)
            if not self.core.note_checkpoint(source, start):
                return None
        self.adopt(trial_id, suggestion)
        config = self.space.ray_config(suggestion.config)
        if (settings := self.settings).steps_key is not None:
            steps = suggestion.steps if suggestion.steps is not None else settings.max_t
            assert steps is not None  # Settings: steps_key needs max_t
            if settings.time_attr == TRAINING_ITERATION:
                steps = math.ceil(steps)  # iterations are whole: half a step is a step
            config[settings.steps_key] = int(steps) if steps == int(steps) else steps
        if settings.resume_key is not None:
            config[settings.resume_key] = checkpoint
        return config

    def adopt(self, trial_id: str, suggestion: Suggestion) -> None:
        """Registers a trial as handed out; also one that only Ray knew."""
        self.core.accept(trial_id, suggestion)
        if suggestion.resume_from is not None:
            start, source = self.core.trials[trial_id].start, self.core.trials[suggestion.resume_from]
            self.reader.resumes[trial_id] = Resume(start, cost=source.meter.at(start))
        self.live.add(trial_id)
        self.pulse.start(trial_id)
        self.handed_out += 1

    def reopen(self, trial_ids: Collection[str]) -> None:
        """Ended trials that Ray runs again."""
        self.core.reopen(trial_ids)
        self.live.update(trial_ids)
        for trial_id in trial_ids:
            self.pulse.start(trial_id)
        self._workers.update(dict.fromkeys(trial_ids))
        self.handed_out += len(trial_ids)

    def went_down(self, trial_ids: Iterable[str]) -> None:
        """Trials that ran when the driver did; they may start anew."""
        self.live = set(trial_ids)
        self._workers = dict.fromkeys(self.live)
        for trial_id in self.live:
            self.pulse.start(trial_id)

    def forget(self, trial_id: str) -> None:
        """Undoes a hand-out that Ray does not know of; what is being computed in the background is stale then."""
        self.core.forget(trial_id)
        self.live.discard(trial_id)
        self.handed_out += 1

    def record(self, trial_id: str, result: Mapping[str, Any]) -> Decision:
        """Records one report, whoever brings it, any number of times; STOP: the trial has trained enough."""
        mark = mark_of(result)
        if trial_id in self.live and mark is not None:
            self.marks[trial_id] = mark
        reading = self.reading(trial_id, result)
        this = (trial_id, mark, reading, self.handed_out, self.ended)
        if mark is not None and self._latest is not None and this == self._latest[0]:
            return self._latest[1]  # scheduler, searcher and callback bring each result, one after the other
        decision = self._decision(trial_id, result, reading)
        self._latest = this, decision
        return decision

    def _decision(self, trial_id: str, result: Mapping[str, Any], reading: Reading | None) -> Decision:
        if reading is None:
            hopeless = trial_id in self.live and self.reader.timeless(trial_id) >= TIMELESS
            return Decision.STOP if hopeless else Decision.CONTINUE
        if found := self.reader.checkpoint(trial_id, result):
            self.train_checkpoints[trial_id] = found
        cost = self.reader.cost(trial_id, reading[0], result)
        decision = self.core.report(trial_id, *reading, cost, restarted=self._restarted(trial_id, result), fit=False)
        if decision is Decision.STOP and self.settings.steps_key is not None:
            decision = stops.past_its_steps(self.core.trials.get(trial_id), reading[0])
        if trial_id in self.live and (why := self._stands_still(trial_id, result, reading[0])):
            decision = Decision.STOP
            if trial_id not in self._stopped:
                logger.warning("trial %s is stopped: %s", trial_id, why)
        if decision is Decision.STOP and trial_id in self.live:
            self._stopped.add(trial_id)
        return decision

    def _stands_still(self, trial_id: str, result: Mapping[str, Any], t: float) -> str | None:
        idle = 0 if (mark := mark_of(result)) is None else self.pulse.report(trial_id, mark, t)
        return stops.stands_still(self.core.trials[trial_id], self.core.max_t, self.settings.time_attr, idle)

    def goes_on(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Ray told the searcher of this report, so it did not end the trial."""
        if trial_id in self.live:
            self._went_on[trial_id] = result.get(self.settings.time_attr)

    def own_end(self, trial_id: str, result: Mapping[str, Any] | None, scheduled: bool) -> bool | None:
        """Whether a trial with this last `result` ended by itself; None: we ended it. `scheduled`: nobody else could.

        Ray does not tell. But a function that returns has had its last report passed on as one to go on from, while
        the report at which a scheduler or a stopper ends a trial never is. A class that ends itself looks cut.
        """
        given_up = trial_id in self.core.trials and self.core.trials[trial_id].silent
        if scheduled and not given_up:
            return None if trial_id in self._stopped else True
        if given_up or not result or not result.get("done") or self._went_on.get(trial_id) is None:
            return False
        return bool(self._went_on[trial_id] == result.get(self.settings.time_attr))

    def _restarted(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether this is the first report of another process than the trial's last one; once ended, of any report."""
        if trial_id in self.anyway:  # the scheduler brings it, and then others once more
            before, self.anyway[trial_id] = self.anyway[trial_id], mark_of(result)
            return before != self.anyway[trial_id]
        if trial_id not in self.live or result.get("pid") is None:
            return False
        worker = (result.get("node_ip"), result["pid"])
        before = self._workers.get(trial_id, worker)
        self._workers[trial_id] = worker
        return before != worker

    def reading(self, trial_id: str, result: Mapping[str, Any]) -> Reading | None:
        """Absolute time and value of a report; None if it has no time."""
        t = self.reader.time(trial_id, result)
        return None if t is None else (t, self.reader.value(trial_id, result))

    def end(self, trial_id: str, error: bool, own_end: bool | None = None, why: str | None = None) -> None:
        """The trial is over; unknown and repeated ids are harmless. `own_end`: as `JoBSOptimizer.tell` takes it.

        why: the error, of a trial that raised one.
        """
        self.core.tell(trial_id, error=error, own_end=own_end)
        if trial_id in self.live:
            failed = self.core.trials[trial_id].status is TrialStatus.FAILED
            self.failures.ended(failed, why or self.reader.complaint(trial_id))
            self.live.discard(trial_id)
            self._stopped.discard(trial_id)
            self.pulse.drop(trial_id)
            for known in (self._workers, self._went_on, self.marks):
                known.pop(trial_id, None)
            self.ended += 1

    def phase_of(self, trial_id: str) -> Phase:
        """The phase of a trial; the present one for trials that are not ours."""
        trial = self.core.trials.get(trial_id)
        return self.core.phase if trial is None else trial.phase

    def _checkpoint(self, source: str, trials: Sequence[Any]) -> tuple[Any, float]:
        """The checkpoint that a promotion of `source` would go on from, and its t; None and 0 if it is gone."""
        found = checkpoints.of_trial(trials, source, self.settings.time_attr)
        if found is None and source in self.train_checkpoints:
            path, t = self.train_checkpoints[source]
            left = checkpoints.of_train_run(trials, path)
            found = None if left is None else (left, t)
        if found is None:
            logger.info("the checkpoint of trial %s is not there: its promotion would be a whole run", source)
        return found or (None, 0.0)

    # ---- answers, in the user's terms

    def recommendation(self, trials: Iterable[Any] = ()) -> Recommendation | None:
        """What to train; None while nothing was observed. `trials`: Ray's, or its results, for objects in the space."""
        if (found := self.core.recommendation()) is None:
            return None
        config = plain(self.space.ray_config(found.config))
        return dataclasses.replace(found, config=placeholders.resolved(config, found.trial_id, trials))

    def report(self) -> dict[str, Any]:
        """The optimiser's summary with the configurations as the trainable got them."""
        summary = self.core.summary()
        for row in [*summary["trials"], *filter(None, [summary.get("recommendation")])]:
            row["config"] = plain(self.space.ray_config(row["config"]))
        return summary
