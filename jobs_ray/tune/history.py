"""What trials have reported, from the files of Ray's JSON logger: also of trials that Ray has thrown away.

The driver writes a trial's results into its staging folder and copies that to the storage now and then, so after
`kill -9` the first, if this machine still has it, knows more. Its last line may be half a line.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs
from ray.air.constants import EXPR_RESULT_FILE
from ray.tune.result import TRAINING_ITERATION, TRIAL_ID
from ray.tune.utils import flatten_dict

logger = logging.getLogger(__name__)


def of_trial(trial: Any) -> list[dict[str, Any]]:
    """All reports of one of Ray's trials, or at least the last one."""
    storage = trial.storage
    # a trial that starts anew under another id still has the old one's storage, until it has a folder of its own
    if storage is None or trial.relative_logdir is None:
        found: list[dict[str, Any]] = []
    else:
        local = pyarrow.fs.LocalFileSystem()
        found = max(
            _read(local, storage.trial_driver_staging_path),
            _read(storage.storage_filesystem, storage.trial_fs_path),
            key=len,
        )
    last = flatten_dict(trial.last_result)  # of a trial that never reported: its configuration
    return found or ([last] if TRAINING_ITERATION in last else [])


def of_id(trial_id: str, storage: Any) -> list[dict[str, Any]]:
    """All reports of a trial that Ray does not hold any more; `storage`: another trial's, of the same experiment."""
    local = pyarrow.fs.LocalFileSystem()
    roots = (
        (local, storage.experiment_driver_staging_path),
        (storage.storage_filesystem, storage.experiment_fs_path),
    )
    folders = ((filesystem, path) for filesystem, root in roots for path in _folders(filesystem, root, trial_id))
    found = (_read(filesystem, path) for filesystem, path in folders)
    # a promotion's folder may hold the id of its short run, too, in its name
    own = ([result for result in results if result.get(TRIAL_ID, trial_id) == trial_id] for results in found)
    return max(own, key=len, default=[])


def _folders(filesystem: pyarrow.fs.FileSystem, root: str, trial_id: str) -> Iterator[str]:
    """Folders with the trial's id in their name."""
    selector = pyarrow.fs.FileSelector(root, allow_not_found=True)
    try:
        infos = filesystem.get_file_info(selector)
    except OSError as error:  # raised in Ray's loop, it would end the experiment
        logger.error("%s cannot be read (%s): what trial %s reported last is perhaps not known", root, error, trial_id)
        return
    for info in infos:
        if info.type is pyarrow.fs.FileType.Directory and trial_id in info.base_name:
            yield info.path


def _read(filesystem: pyarrow.fs.FileSystem, folder: str) -> list[dict[str, Any]]:
    """The whole lines of a result file; nothing if there is none."""
    results: list[dict[str, Any]] = []
    try:
        with filesystem.open_input_stream(Path(folder, EXPR_RESULT_FILE).as_posix()) as file:
            lines = file.readall().decode("utf-8").splitlines()
        for line in lines:
            results.append(flatten_dict(json.loads(line)))
    except (OSError, ValueError):  # not synced yet, or cut short by the kill: what came before is whole
        return results
    return results
