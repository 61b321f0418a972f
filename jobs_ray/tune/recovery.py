"""What a restore goes on from when the searcher's newest state is damaged or gone.

Ray swallows an error in `restore` and starts the experiment anew, over the old one (ray/tune/execution/
tune_controller.py, `__init__`). So an older state is used, or, without any, Ray's own files: the space is in the state
of its SearchGenerator, metric and mode in the Tuner's, the trials and all they reported in theirs. Ray has unpickled
these files a moment before.

Where it is one of Ray's own files that cannot be read (it copies them to the storage in place, so that `kill -9` may
leave half of one), Ray starts anew without asking us: one trial, which knows nothing of the others. That is refused.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.fs
from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.search import Searcher, SearchGenerator

from jobs_ray.trials import StateError
from jobs_ray.tune import statefile
from jobs_ray.tune.domains import TuneSpace

if TYPE_CHECKING:
    from jobs_ray.tune.session import Session

logger = logging.getLogger(__name__)

PATTERN = Searcher.CKPT_FILE_TMPL.format("*")
"""Of the names of the searcher's states in an experiment's folder."""


@dataclass(frozen=True)
class Setup:
    """What Ray knows of an experiment; None where it does not."""

    space: Mapping[str, Any] | None = None
    metric: str | None = None
    mode: str | None = None
    num_samples: int | None = None


_REMEDY = (
    "While the driver's machine has not been started anew, a whole copy of the file that Ray's log names is perhaps in "
    "/tmp/ray/session_*/artifacts/*/{name}/driver_artifacts there: copy it over the one in the experiment's folder, "
    "and Tuner.restore works. Else another experiment goes on from the state of the search{if_whole}, with what is "
    "left of the budget: searcher = JoBSSearcher(); searcher.restore({state!r}) (from a bucket: a copy of it), then "
    "tune.Tuner(..., param_space=<the same one>, tune_config=tune.TuneConfig(search_alg=searcher, ...)) of another name"
)
NOT_RESTORED = (
    "If this is a Tuner.restore, Ray could not restore the experiment (its log says why), and would start it anew. "
    + _REMEDY.format(
        name="<its name>",
        if_whole=", if a file of it is whole (where the storage was full, it may be empty)",
        state="<the folder>/searcher-state-<the newest>.pkl",
    )
)


def states(folder: str) -> Iterator[str]:
    """Paths of the states in the folder that can be read, the newest first; what cannot is said."""
    return (path for path, _ in _readable(folder))


def _readable(folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in sorted(Path(folder).glob(PATTERN), reverse=True):  # the names hold the date, one a session
        try:
            session = statefile.load(path)
        except (StateError, OSError) as error:
            logger.error("%s; it is left aside", error)
            continue
        yield str(path), session


def refuse_to_start_anew(trials: Sequence[Any], search_id: str) -> None:
    """Raises StateError where the folder of these trials holds a state of this search, which nobody has restored; and
    where there are none: an experiment that was restored before is taken for finished then, and asks for nothing.
    """
    if not trials and sys.exc_info()[1] is None:  # the error that ends a run says more
        raise StateError(NOT_RESTORED)
    storage = trials[0].storage if trials else None
    if storage is None:
        return
    for path, owner in _saved(storage):
        if owner == search_id:
            raise StateError(
                f"Ray could not restore the experiment in {storage.experiment_fs_path} (its log says why), and "
                "would start it anew. " + _REMEDY.format(name=storage.experiment_dir_name, if_whole="", state=path)
            )


def of_others(trials: Sequence[Any], session: Session) -> Iterator[str]:
    """What is to be said where a search begins, with these trials, in a folder that holds another one's state."""
    storage = trials[0].storage
    if storage is None or session.restored:
        return
    try:
        found = [path for path, owner in _saved(storage) if owner not in (None, session.settings.search_id)]
    except Exception as error:  # each kind of storage has its own; a line is not worth an experiment
        logger.warning("the folder of the experiment could not be looked at for an older one's state (%r)", error)
        return
    if found:
        yield (
            f"this is a new search in the folder of an older one ({found[0]}): recommend() and jobs-ray report will "
            "show the new one only. To go on with the old one: Tuner.restore; for a new one, another name is safer"
        )


def _saved(storage: Any) -> Iterator[tuple[str, Any]]:
    """Path in the storage and `search_id` of each state in an experiment's folder, the newest first; what cannot be
    read is said. Raises what the storage raises where the folder cannot be listed.
    """
    filesystem = storage.storage_filesystem
    infos = filesystem.get_file_info(pyarrow.fs.FileSelector(storage.experiment_fs_path, allow_not_found=True))
    for info in sorted(infos, key=lambda info: info.base_name, reverse=True):
        if info.type is not pyarrow.fs.FileType.File or not fnmatch.fnmatch(info.base_name, PATTERN):
            continue
        try:
            with filesystem.open_input_stream(info.path) as stream:
                settings = statefile.loads(stream.readall(), "it").get("settings")
        except (StateError, OSError) as error:
            logger.error("%s cannot be read (%s); it is left aside", info.path, error)
            continue
        yield info.path, settings.get("search_id") if isinstance(settings, Mapping) else None


def setup(folder: str) -> Setup:
    """From Ray's own files in an experiment's folder."""
    found = _newest(folder, SearchGenerator.CKPT_FILE_TMPL.format("*"))
    experiment = found.get("experiment") if isinstance(found, Mapping) else None
    spec: Mapping[str, Any] = {} if experiment is None else experiment.spec
    tuner = _newest(folder, "tuner.pkl")
    config = tuner.get("_tune_config") if isinstance(tuner, Mapping) else None
    return Setup(
        space=spec.get("config") or None,
        metric=getattr(config, "metric", None),
        mode=getattr(config, "mode", None),
        num_samples=spec.get("num_samples"),
    )


def unfinished(folder: str, state: str | None = None) -> set[str]:
    """Ids of trials that had not come to their end, by Ray's newest snapshot that can be read. It alone tells: with
    `Tuner.restore(resume_unfinished=False)` Ray calls them TERMINATED, as if they had come to their end.

    state: what the search goes on from; None: nothing. Where it is not the newest one, or nothing, also those that an
    older session's snapshot calls so, and that have reported nothing since: a later state may have known of their end.
    """
    paths = sorted(Path(folder).glob("experiment_state-*.json"))
    by_all = state is None or Path(state).name != max(path.name for path in Path(folder).glob(PATTERN))
    snapshots = (found for path in (paths if by_all else reversed(paths)) if (found := _snapshot(path, by_all)))
    left: dict[str, float | None] = {}  # when they last reported
    for trials in snapshots if by_all else itertools.islice(snapshots, 1):
        for name, status, reported in trials:
            if status not in (Trial.ERROR, Trial.TERMINATED) or (name in left and left[name] == reported):
                left[name] = reported
            else:
                left.pop(name, None)
    return set(left)


def _snapshot(path: Path, with_times: bool) -> list[tuple[str, str, float | None]]:
    """Of a session of Ray's: id and status of its trials, and when they last reported (None without `with_times`)."""
    try:
        saved = [(json.loads(trial), more) for trial, more in json.loads(path.read_bytes())["trial_data"]]
        times = [json.loads(more)["last_result_time"] if with_times else None for _, more in saved]
        return [(trial["trial_id"], trial["status"], at) for (trial, _), at in zip(saved, times, strict=True)]
    except (OSError, ValueError, KeyError, TypeError) as error:  # half a file
        logger.error("%s cannot be read (%r)", path, error)
        return []


def warn_of_other_domains(given: TuneSpace | None, known: TuneSpace) -> None:
    """Where a restored search goes on in its own space, though it was given another one just now."""
    if given is None or given.core == known.core:
        return
    names = [name for name in {**known.core, **given.core} if known.core.get(name) != given.core.get(name)]
    logger.warning(
        "the search goes on in the space that it began in: another domain of %s has no effect. For another space begin "
        "another experiment, and tell its searcher what this one has seen (searcher.add_evaluated_trials)",
        ", ".join(map(repr, names)),
    )


def write(storage: Any, template: str, text: str) -> None:
    """Beside Ray's own files in the storage of an experiment, as a new session's; said where that cannot be."""
    name = template.format(datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))  # as Ray names a session
    path = f"{storage.experiment_fs_path}/{name}"
    try:
        with storage.storage_filesystem.open_output_stream(path) as file:
            file.write(text.encode())
    except OSError as error:
        logger.error("the state of the search, built anew, could not be saved as %s (%s)", path, error)


def _newest(folder: str, pattern: str) -> Any:
    paths = sorted(Path(folder).glob(pattern))
    if not paths:
        return None
    try:
        return cloudpickle.loads(paths[-1].read_bytes())
    except Exception as error:  # a pickle can raise anything
        logger.error("%s cannot be read (%r)", paths[-1], error)
        return None
