"""One search as Ray's trials see it: the optimiser, its space, and what Ray's trial ids and results mean to it.

Picklable and without Ray's objects, so that a searcher can carry it through pickling, saving and restoring.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jobs_ray.search.optimizer import Decision, JoBSOptimizer, Phase, Recommendation, Suggestion
from jobs_ray.trials import StateError
from jobs_ray.tune import checkpoints
from jobs_ray.tune.codec import from_json, to_json
from jobs_ray.tune.domains import TuneSpace
from jobs_ray.tune.result_reader import TRAINING_ITERATION, Reader, Resume
from jobs_ray.tune.settings import Settings

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
        predictor: Any,
    ) -> None:
        self.settings = settings
        self.space = space
        self.metric = metric
        self.mode = mode
        self.num_samples = num_samples
        self.core: JoBSOptimizer = settings.optimizer(space, mode, num_samples, predictor)
        self.reader = Reader(metric, settings.time_attr)
        self.live: set[str] = set()
        self.handed_out = 0
        self.ended = 0
        self._checkpoints: dict[str, tuple[str, float]] = {}  # of Ray Train runs: path and t
        # node and process of each trial's last report; None: of a driver that is gone
        self._workers: dict[str, tuple[Any, Any] | None] = {}

    # ---- trials

    def hand_out(self, trial_id: str, suggestion: Suggestion, trials: Sequence[Any]) -> dict[str, Any]:
        """Registers a suggestion; the trainable's config. `trials`: Ray's, for the checkpoint to resume from."""
        self.adopt(trial_id, suggestion)
        config = self.space.ray_config(suggestion.config)
        settings = self.settings
        if settings.steps_key is not None:
            steps = suggestion.steps if suggestion.steps is not None else settings.max_t
            assert steps is not None  # Settings: steps_key needs max_t
            if settings.time_attr == TRAINING_ITERATION:
                steps = math.ceil(steps)  # iterations are whole: half a step is a step
            config[settings.steps_key] = int(steps) if steps == int(steps) else steps
        if settings.resume_key is not None:
            config[settings.resume_key] = self._resume(trial_id, suggestion.resume_from, trials)
        return config

    def adopt(self, trial_id: str, suggestion: Suggestion) -> None:
        """Registers a trial as handed out; also one that only Ray knew."""
        self.core.accept(trial_id, suggestion)
        self.live.add(trial_id)
        self.handed_out += 1

    def forget(self, trial_id: str) -> None:
        """Undoes a hand-out that Ray does not know of."""
        self.core.forget(trial_id)
        self.live.discard(trial_id)
        self.handed_out += 1  # what is being computed in the background is not for this state

    def record(self, trial_id: str, result: Mapping[str, Any]) -> Decision:
        """Records one report, whoever brings it, any number of times; STOP: the trial has trained enough."""
        reading = self.reading(trial_id, result)
        if reading is None:
            return Decision.CONTINUE
        if found := self.reader.checkpoint(trial_id, result):
            self._checkpoints[trial_id] = found
        decision = self.core.report(trial_id, *reading, restarted=self._restarted(trial_id, result), fit=False)
        if decision is Decision.STOP and self.settings.steps_key is not None:
            return self._past_its_steps(trial_id, reading[0])
        return decision

    def _restarted(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether this is the first report of another process than the trial's last one."""
        if trial_id not in self.live or result.get("pid") is None:
            return False
        worker = (result.get("node_ip"), result["pid"])
        before = self._workers.get(trial_id, worker)
        self._workers[trial_id] = worker
        return before != worker

    def reading(self, trial_id: str, result: Mapping[str, Any]) -> tuple[float, float | None] | None:
        """Absolute time and value of a report; None if it has no time."""
        t = self.reader.time(trial_id, result)
        return None if t is None else (t, self.reader.value(trial_id, result))

    def end(self, trial_id: str, error: bool) -> None:
        """The trial is over; unknown and repeated ids are harmless."""
        self.core.tell(trial_id, error=error)
        if trial_id in self.live:
            self.live.discard(trial_id)
            self._workers.pop(trial_id, None)
            self.ended += 1

    def phase_of(self, trial_id: str) -> Phase:
        """The phase of a trial; the present one for trials that are not ours."""
        trial = self.core.trials.get(trial_id)
        return self.core.phase if trial is None else trial.phase

    def _past_its_steps(self, trial_id: str, t: float) -> Decision:
        """A trial that was told its steps ends by itself, in order; it is stopped only if it diverged or goes on."""
        trial = self.core.trials.get(trial_id)
        if trial is None or not trial.running or trial.grant is None or trial.curve.ends_failed:
            return Decision.STOP
        return Decision.STOP if t > trial.grant else Decision.CONTINUE

    def _resume(self, trial_id: str, source: str | None, trials: Sequence[Any]) -> str | None:
        """The checkpoint that the promotion of `source` goes on from; None, and the ledger told, if it left none."""
        if source is None:
            return None
        found = checkpoints.of_trial(trials, source, self.settings.time_attr)
        if found is None and source in self._checkpoints:
            found = self._checkpoints[source] if checkpoints.still_there(self._checkpoints[source][0]) else None
        if found is None:
            logger.info("trial %s left no checkpoint: its promotion is a whole run", source)
            self.core.decline_resume(trial_id)
            return None
        path, start = found
        self.reader.resumes[trial_id] = Resume(start)
        return path

    # ---- answers, in the user's terms

    def recommendation(self) -> Recommendation | None:
        """What to train; None while nothing was observed."""
        found = self.core.recommendation()
        return found and dataclasses.replace(found, config=self.space.ray_config(found.config))

    def report(self) -> dict[str, Any]:
        """The optimiser's summary with the configurations as the trainable got them."""
        summary = self.core.summary()
        for row in [*summary["trials"], *filter(None, [summary.get("recommendation")])]:
            row["config"] = self.space.ray_config(row["config"])
        return summary

    # ---- saved state

    def state(self) -> dict[str, Any]:
        """Plain JSON data, for `restored`. The predictor is not part of it."""
        return {
            "settings": self.settings.to_json(),
            "metric": self.metric,
            "mode": self.mode,
            "num_samples": self.num_samples,
            "space": to_json(self.space.source),
            "optimizer": self.core.state_dict(),
            "resumes": {i: [r.start, r.relative] for i, r in self.reader.resumes.items()},
            "checkpoints": {i: list(found) for i, found in self._checkpoints.items()},
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any], predictor: Any) -> Session:
        """The session of a saved state. Raises StateError when it is damaged."""
        try:
            settings = Settings.from_json(state["settings"])
            space = settings.translate(from_json(state["space"]))
            session = cls(settings, space, state["metric"], state["mode"], state["num_samples"], predictor)
            resumes = {i: Resume(start, relative) for i, (start, relative) in state["resumes"].items()}
            session.reader.resumes.update(resumes)
            session._checkpoints.update({i: (path, t) for i, (path, t) in state["checkpoints"].items()})
            optimizer = state["optimizer"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError(f"the saved state is damaged ({error!r}); restore an older copy of it") from error
        session.core.load_state_dict(optimizer)
        session.live = {trial_id for trial_id, trial in session.core.trials.items() if trial.running}
        session._workers = dict.fromkeys(session.live)
        return session
