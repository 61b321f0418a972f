"""Where a short run left its last checkpoint, and at which t: for promotions that resume.

Function and class trainables hand their checkpoints to Tune, which keeps them with the Trial; a Ray Train run
inside a trial uploads its own and only puts the path into the result (ray.tune.integration.ray_train).

A trainable is handed a plain path where the storage is a local (or mounted) file system. A path in any other storage
says nothing without its file system, so there the trainable is handed Ray's `Checkpoint`, which carries both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyarrow.fs import FileType, LocalFileSystem
from ray.tune import Checkpoint
from ray.tune.utils import flatten_dict

from jobs_ray.tune.result_reader import as_number


def of_trial(trials: Iterable[Any], trial_id: str, time_attr: str) -> tuple[str | Checkpoint, float] | None:
    """The last checkpoint that Tune holds for `trial_id` and its reported time; None if it is gone."""
    for trial in trials:
        if trial.trial_id == trial_id:
            latest = trial.latest_checkpoint_result
            if latest is None or not _exists(latest.checkpoint):
                return None
            t = as_number(flatten_dict(latest.metrics or {}).get(time_attr))
            return None if t is None else (_handed_out(latest.checkpoint), t)
    return None


def of_train_run(trials: Iterable[Any], path: str) -> str | Checkpoint | None:
    """The checkpoint at a path that Ray Train reported; None if it is gone.

    It lies in the experiment's storage, which every trial knows; without one, on this machine's file system.
    """
    storage = next((trial.storage for trial in trials if trial.storage is not None), None)
    found = Checkpoint(path, LocalFileSystem() if storage is None else storage.storage_filesystem)
    return _handed_out(found) if _exists(found) else None


def _handed_out(checkpoint: Any) -> str | Checkpoint:
    return checkpoint.path if isinstance(checkpoint.filesystem, LocalFileSystem) else checkpoint


def _exists(checkpoint: Any) -> bool:
    # `num_to_keep` and users delete checkpoints: ask the file system, not Tune's books
    try:
        return bool(checkpoint.filesystem.get_file_info(checkpoint.path).type != FileType.NotFound)
    except OSError:
        return False
