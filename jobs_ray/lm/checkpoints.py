"""Which checkpoints of a search are kept: those of full runs, and of the short runs that may still be promoted."""

from __future__ import annotations

import logging
import math
from typing import Any

from ray import tune

from jobs_ray.lm.task import Task

logger = logging.getLogger(__name__)


def run_config(task: Task, *, keep: int = 10, metric: str = "eval_loss", mode: str = "min", **settings: Any) -> Any:
    """A `tune.RunConfig` for searches over `task`: one checkpoint a trial, and `PruneCheckpoints`.

    keep, metric, mode: of PruneCheckpoints. settings: of RunConfig; its `callbacks` are added to ours, and a
    `checkpoint_config` replaces ours.
    """
    settings.setdefault("checkpoint_config", tune.CheckpointConfig(num_to_keep=1))
    prune = PruneCheckpoints(task.max_steps, task.steps_key, task.resume_key, keep=keep, metric=metric, mode=mode)
    return tune.RunConfig(**settings | {"callbacks": [*(settings.get("callbacks") or []), prune]})


class PruneCheckpoints(tune.Callback):  # type: ignore[misc]
    """A Tune callback: `RunConfig(callbacks=[PruneCheckpoints(task.max_steps)])`.

    Of a short run (one whose config has fewer `steps_key` steps than `max_steps`) the checkpoint is deleted when the
    trial that resumed it has ended; when `keep` other short runs that wait for a promotion have a better last
    `metric`; and in any case when the experiment ends, unless it was interrupted with trials in flight: those that
    restore it go on from them. Full runs keep theirs. A short run that has lost its checkpoint is promoted only while
    the budget has a whole run left, and is then trained from the start.
    """

    def __init__(
        self,
        max_steps: int,
        steps_key: str = "max_steps",
        resume_key: str = "resume_from",
        *,
        keep: int = 10,
        metric: str = "eval_loss",
        mode: str = "min",
    ) -> None:
        if keep < 1 or mode not in ("min", "max"):
            raise ValueError(f"keep must be at least 1 and mode 'min' or 'max', got keep={keep}, mode={mode!r}")
        self._max_steps = max_steps
        self._steps_key = steps_key
        self._resume_key = resume_key
        self._keep = keep
        self._metric = metric
        self._sign = 1.0 if mode == "min" else -1.0
        self._deleted: set[str] = set()  # paths
        self._in_flight: set[str] = set()

    def setup(self, *args: Any, **info: Any) -> None:
        self._in_flight.clear()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._in_flight.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trials, trial)  # of a promotion that failed: it is not tried again

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Ray calls this after Ctrl-C and an error of its own, too, and has called every running trial terminated by
        then: only that nobody was told of their ends gives them away."""
        if self._in_flight or not all(trial.is_finished() for trial in trials):
            return
        for trial in trials:
            self._delete_of(trial)

    def _ended(self, trials: list[Any], trial: Any) -> None:
        self._in_flight.discard(trial.trial_id)
        source = trial.config.get(self._resume_key)
        if source:
            self._delete(source)
        in_use = {_path(t.config.get(self._resume_key)) for t in trials if not t.is_finished()}
        gone = in_use | self._deleted
        waiting = [
            t for t in trials
            if self._is_short(t) and t.is_finished() and t.checkpoint is not None
            and _path(t.checkpoint) not in gone
        ]  # fmt: skip
        for late in sorted(waiting, key=self._rank)[self._keep :]:
            self._delete_of(late)

    def _rank(self, trial: Any) -> float:
        value = (trial.last_result or {}).get(self._metric)
        return self._sign * value if isinstance(value, int | float) and math.isfinite(value) else math.inf

    def _is_short(self, trial: Any) -> bool:
        steps = trial.config.get(self._steps_key)
        return steps is not None and steps < self._max_steps

    def _delete_of(self, trial: Any) -> None:
        if self._is_short(trial) and trial.checkpoint is not None and _path(trial.checkpoint) not in self._deleted:
            self._delete(trial.checkpoint)

    def _delete(self, checkpoint: Any) -> None:
        from pyarrow.fs import FileType

        from jobs_ray.lm.resume import RUN_FILE, location

        self._deleted.add(str(_path(checkpoint)))
        filesystem, path = location(checkpoint)
        try:
            # never anything but a checkpoint of ours
            if filesystem.get_file_info(f"{path}/{RUN_FILE}").type == FileType.File:
                filesystem.delete_dir(path)
                logger.debug("deleted %s", path)
        except OSError as error:  # a full bucket is a nuisance, an exception here would end the search
            logger.warning("could not delete the checkpoint %s: %s", path, error)


def _path(checkpoint: Any) -> str | None:
    """On its file system; of an address that nobody can read, the address."""
    from jobs_ray.lm.resume import location

    if not checkpoint:
        return None
    try:
        return location(checkpoint)[1]
    except (OSError, ValueError, NotImplementedError):
        return str(checkpoint)
