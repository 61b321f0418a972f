"""Deleting the checkpoints of short runs that no promotion will resume any more."""

from __future__ import annotations

import logging
from typing import Any

from ray import tune

logger = logging.getLogger(__name__)


class PruneCheckpoints(tune.Callback):  # type: ignore[misc]
    """A Tune callback: `RunConfig(callbacks=[PruneCheckpoints(task.max_steps)])`.

    The checkpoint of a short run (one whose config has fewer `steps_key` steps than `max_steps`) is deleted when
    the trial that resumed it has completed, and all that are left when the experiment ends. Full runs keep theirs.
    """

    def __init__(self, max_steps: int, steps_key: str = "max_steps", resume_key: str = "resume_from") -> None:
        self._max_steps = max_steps
        self._steps_key = steps_key
        self._resume_key = resume_key

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        source = trial.config.get(self._resume_key)
        if source:
            self._delete(source)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        for trial in trials:
            steps = trial.config.get(self._steps_key)
            if steps is not None and steps < self._max_steps and trial.checkpoint is not None:
                self._delete(trial.checkpoint)

    def _delete(self, checkpoint: Any) -> None:
        from pyarrow.fs import FileType

        from jobs_ray.lm.resume import RUN_FILE, location

        filesystem, path = location(checkpoint)
        try:
            # never anything but a checkpoint of ours
            if filesystem.get_file_info(f"{path}/{RUN_FILE}").type == FileType.File:
                filesystem.delete_dir(path)
                logger.debug("deleted %s", path)
        except OSError as error:  # a full bucket is a nuisance, an exception here would end the search
            logger.warning("could not delete the checkpoint %s: %s", path, error)
