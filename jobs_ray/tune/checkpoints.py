"""Where a short run left its last checkpoint, and at which t: for promotions that resume.

Function and class trainables hand their checkpoints to Tune, which keeps them with the Trial; a Ray Train run
inside a trial uploads its own and only puts the path into the result (ray.tune.integration.ray_train).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pyarrow.fs import FileType
from ray.tune.utils import flatten_dict

from jobs_ray.tune.result_reader import as_number


def of_trial(trials: Iterable[Any], trial_id: str, time_attr: str) -> tuple[str, float] | None:
    """Path and reported time of the last checkpoint that Tune holds for `trial_id`; None if it is gone."""
    for trial in trials:
        if trial.trial_id == trial_id:
            latest = trial.latest_checkpoint_result
            if latest is None or not _exists(latest.checkpoint):
                return None
            t = as_number(flatten_dict(latest.metrics or {}).get(time_attr))
            return None if t is None else (latest.checkpoint.path, t)
    return None


def still_there(path: str) -> bool:
    """Whether the path of a Ray Train checkpoint exists; paths in an object store cannot be looked up here."""
    return os.path.exists(path) if os.path.isabs(path) else True


def _exists(checkpoint: Any) -> bool:
    # `num_to_keep` and users delete checkpoints: ask the file system, not Tune's books
    try:
        return bool(checkpoint.filesystem.get_file_info(checkpoint.path).type != FileType.NotFound)
    except OSError:
        return False
