"""`recommend(results)`: what to train, from a ResultGrid or an experiment folder, also long after the run."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.fs
from ray.tune import ResultGrid

from jobs_ray.search.optimizer import Recommendation
from jobs_ray.trials import StateError
from jobs_ray.tune import placeholders, session_state, statefile
from jobs_ray.tune.session import Session
from jobs_ray.tune.settings import Replaced

logger = logging.getLogger(__name__)

_STATE_PREFIX, _STATE_SUFFIX = "searcher-state-", ".pkl"  # Ray's file name (Searcher.CKPT_FILE_TMPL)
PICKLE = b"\x80"
"""What a pickle begins with: the state of another searcher, as Ray's own write it."""

_LARGEST = 2**30  # bytes of a state: ten times what 10,000 trials of 100 reports take


def recommend(results: ResultGrid | str | os.PathLike[str]) -> Recommendation | None:
    """The recommendation of a finished, running or killed experiment; None while nothing was observed.

    `results`: what `Tuner.fit()` returned, or the path or URI of the experiment's folder. (Ray's own
    `get_best_result` compares short with full runs.) Raises FileNotFoundError when the folder holds no searcher
    state, StateError when it is not one of JoBSSearcher.

    Nothing is unpickled: from a folder, in the place of an object that JSON cannot hold stands `<object, not read>`, of
    a choice of such `<option 1 of optimizer>`, take it from your own param_space; a ResultGrid has it.
    """
    trials = results if isinstance(results, ResultGrid) else ()
    given = [SimpleNamespace(trial_id=(r.metrics or {}).get("trial_id"), config=r.config) for r in trials]
    session = load_session(results)
    found = session.recommendation(given)
    if found is None or isinstance(results, ResultGrid):
        return found
    return replace(found, config=placeholders.named(found.config, session.core.trials[found.trial_id].config))


def load_session(results: ResultGrid | str | os.PathLike[str]) -> Session:
    """The search as last saved in the experiment's folder. Raises as `recommend`.

    The folder is not trusted: nothing in it is unpickled, and links that lead out of it are not followed.
    """
    filesystem, folder = locate(results)
    selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
    found = {
        info.path: info
        for info in filesystem.get_file_info(selector)
        if info.base_name.startswith(_STATE_PREFIX) and info.base_name.endswith(_STATE_SUFFIX)
        and is_own_file(filesystem, folder, info)
    }  # fmt: skip
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no searcher state ({_STATE_PREFIX}*{_STATE_SUFFIX}); expected the folder of an "
            "experiment that ran with a JoBSSearcher (ResultGrid.experiment_path)"
        )
    errors = []
    for path in sorted(found, reverse=True):  # the names hold the date, one a session
        try:
            return _load(filesystem, found[path])
        except StateError as error:
            if path != min(found):
                logger.warning("%r; an older one is used", str(error))  # quoted: names of files may hold anything
            errors.append(error)
    raise errors[0]


def last_saved(filesystem: pyarrow.fs.FileSystem, folder: str) -> float:
    """Unix time of the newest state in the folder, by its file system's clock; 0 without one."""
    files = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
    return max(((info.mtime_ns or 0) / 1e9 for info in files if info.base_name.startswith(_STATE_PREFIX)), default=0.0)


def _load(filesystem: pyarrow.fs.FileSystem, info: pyarrow.fs.FileInfo) -> Session:
    newest = info.path
    if info.size > _LARGEST:
        raise StateError(f"{newest} has {info.size} bytes; a state has at most {_LARGEST}")
    with filesystem.open_input_stream(newest) as stream:
        data = stream.readall()
    if data.startswith(PICKLE):
        raise StateError(
            f"{newest} is not the state of a JoBSSearcher, but of another searcher: jobs-ray report shows it"
        )
    try:
        state = statefile.loads(data, "it")
    except StateError as error:
        raise StateError(f"{newest} is not the state of a JoBSSearcher: {error}") from error
    return session_state.from_state(state, Replaced())


def is_own_file(filesystem: pyarrow.fs.FileSystem, folder: str, info: pyarrow.fs.FileInfo) -> bool:
    """Whether it is a plain file (a pipe would never end) that lies in the folder and is no link out of it."""
    if info.type is not pyarrow.fs.FileType.File:
        return False
    local = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    return not local or Path(info.path).resolve().is_relative_to(Path(folder).resolve())


def locate(results: Any) -> tuple[pyarrow.fs.FileSystem, str]:
    """File system and path of an experiment. Raises FileNotFoundError where there is no folder."""
    if isinstance(results, ResultGrid):
        filesystem, folder = results.filesystem, results.experiment_path
    elif "://" in (text := os.fspath(results)):
        filesystem, folder = pyarrow.fs.FileSystem.from_uri(text)
    else:
        filesystem, folder = pyarrow.fs.LocalFileSystem(), str(Path(text).expanduser().absolute())
    if filesystem.get_file_info(folder).type is not pyarrow.fs.FileType.Directory:
        raise FileNotFoundError(f"{folder} is no folder; expected the folder of an experiment that Ray Tune wrote")
    return filesystem, folder
