"""What Ray Tune itself wrote into an experiment's folder: its trials, when they ran, what they reported, their errors.

The folder is not trusted. Nothing is unpickled, files are read up to a limit, and links that lead out are not followed,
neither those of files nor those of whole trials.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs_ray.report.objects import pickles_named

if TYPE_CHECKING:
    import pyarrow.fs

_ERROR_BYTES = 2**16  # of the end of an error.txt
_STATE_BYTES = 2**30
_RESULT_BYTES = 2**28  # of one trial's result.json
_DIGITS = 300
_STATE = "experiment_state-"

REPEAT = "__trial_index__"
"""What a Repeater adds to each configuration: the number of its repetition."""


@dataclass(frozen=True)
class RayTrial:
    """One trial as Ray saved it. `started`, `ended`: seconds since 1970 (its start; its last report), if known."""

    trial_id: str
    status: str
    config: Mapping[str, Any]
    folder: str
    started: float | None
    ended: float | None


@dataclass(frozen=True)
class RayExperiment:
    """The newest `experiment_state-*.json`; empty where there is none that can be read.

    `began`: when the driver that wrote it started, seconds since 1970. `pauses`: when no driver lived.
    """

    metric: str | None = None
    trials: Mapping[str, RayTrial] = field(default_factory=dict)
    began: float | None = None
    pauses: tuple[tuple[float, float], ...] = ()

    @property
    def wall_s(self) -> float | None:
        """Seconds from the first trial's start to the last report, without those in which no driver lived."""
        if self.started is None or self.ended is None:
            return None
        return lived_s(self.started, self.ended, self.pauses)

    @property
    def repeats(self) -> int:
        """Trials of each configuration: more than one behind a Repeater, which numbers them."""
        numbers = [trial.config.get(REPEAT) for trial in self.trials.values()]
        return 1 + max((number for number in numbers if isinstance(number, int)), default=0)

    @property
    def started(self) -> float | None:
        """The first trial's start, seconds since 1970."""
        return min((trial.started for trial in self.trials.values() if trial.started is not None), default=None)

    @property
    def ended(self) -> float | None:
        """The last report, seconds since 1970."""
        return max((trial.ended for trial in self.trials.values() if trial.ended is not None), default=None)


def read(filesystem: pyarrow.fs.FileSystem, folder: str) -> RayExperiment:
    """Ray's own state of the experiment. Raises nothing for a file that is damaged: it is passed over."""
    sessions = list(_sessions(filesystem, folder))
    if not sessions:
        return RayExperiment()
    newest = sessions[0]
    pauses: list[tuple[float, float]] = []
    first, last = newest.started or math.inf, newest.ended or 0.0
    for later, earlier in itertools.pairwise(sessions):
        began, ended = later.began, earlier.ended
        # what lies outside is no pause: the folder held another experiment before, or nothing was reported since
        if began is not None and ended is not None and first <= ended < began < last:
            began = min(began, pauses[-1][0]) if pauses else began  # a driver in between may have reported nothing
            if ended < began:
                pauses.append((ended, began))
    return replace(newest, pauses=tuple(pauses))


def _sessions(filesystem: pyarrow.fs.FileSystem, folder: str) -> Iterator[RayExperiment]:
    """What each driver wrote last, the newest first: whoever restores an experiment begins a file of his own."""
    names = (info for info in _files(filesystem, folder) if info.base_name.startswith(_STATE))
    for info in sorted(names, key=lambda info: str(info.base_name), reverse=True):  # the names hold the date
        if info.size > _STATE_BYTES:
            continue
        with filesystem.open_input_file(info.path) as file:
            content = file.read()
        try:
            data = _loads(content)
            trials = [_trial(_loads(static), _loads(running)) for static, running in data["trial_data"]]
            metric = data["runner_data"].get("_metric")
            began = _seconds(data.get("stats", {}).get("start_time"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        yield RayExperiment(metric if isinstance(metric, str) else None, {t.trial_id: t for t in trials}, began)


def searcher_of(filesystem: pyarrow.fs.FileSystem, folder: str) -> str:
    """What chose the configurations, as the names in its saved state tell; the pickle is looked at, not loaded."""
    import pickletools

    for info in _files(filesystem, folder):
        if info.base_name.startswith("searcher-state-") and info.size <= _STATE_BYTES:
            with filesystem.open_input_file(info.path) as file:
                content = file.read()
            try:
                texts = {str(argument) for _, argument, _ in pickletools.genops(content) if isinstance(argument, str)}
            except ValueError:  # no pickle, or cut off
                continue
            roots = {text.split(".")[0] for text in texts} | {text.split(" ")[0].split(".")[0] for text in texts}
            for module, name in _LIBRARIES.items():
                if module in roots:
                    return name
            return "a searcher that is not known here"
        if info.base_name.startswith("basic-variant-state-"):
            return "Ray Tune's random or grid search"
    return "an unknown searcher"


_LIBRARIES = {
    "optuna": "OptunaSearch",
    "hyperopt": "HyperOptSearch",
    "ax": "AxSearch",
    "bayes_opt": "BayesOptSearch",
    "ConfigSpace": "TuneBOHB",
    "hpbandster": "TuneBOHB",
    "nevergrad": "NevergradSearch",
    "zoopt": "ZOOptSearch",
    "hebo": "HEBOSearch",
}


def results(filesystem: pyarrow.fs.FileSystem, trial: RayTrial) -> Iterator[Mapping[str, Any]]:
    """What a trial reported, one mapping a line of its `result.json`; a damaged line is passed over."""
    info = filesystem.get_file_info(f"{trial.folder}/result.json")
    if not (is_own(filesystem, trial.folder, info) and info.size <= _RESULT_BYTES):
        return
    with filesystem.open_input_file(info.path) as file:
        lines = file.read().splitlines()
    for line in lines:
        try:
            found = _loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found


def last_error(filesystem: pyarrow.fs.FileSystem, folder: str) -> str | None:
    """The last line of the `error.txt` that Ray writes into a failed trial's own folder."""
    info = filesystem.get_file_info(f"{folder}/error.txt")
    if not (is_own(filesystem, folder, info) and info.size):
        return None
    with filesystem.open_input_file(info.path) as file:
        file.seek(max(info.size - _ERROR_BYTES, 0))
        text = file.read(_ERROR_BYTES).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None


def located(filesystem: pyarrow.fs.FileSystem, folder: str, experiment: RayExperiment) -> RayExperiment:
    """The experiment with the trials' folders that are there, as paths of `filesystem`."""
    there = {info.base_name: info.path for info in _folders(filesystem, folder)}
    trials = {
        name: replace(trial, folder=there[trial.folder])
        for name, trial in experiment.trials.items()
        if trial.folder in there
    }
    return replace(experiment, trials=trials)


def folders_of(filesystem: pyarrow.fs.FileSystem, folder: str, trial_ids: Sequence[str]) -> dict[str, str]:
    """The folders whose names hold these ids: also where Ray's state is gone."""
    found: dict[str, str] = {}
    if trial_ids:
        for info in _folders(filesystem, folder):
            name = next((name for name in trial_ids if name in info.base_name), None)
            if name is not None:
                found[name] = info.path
    return found


def _folders(filesystem: pyarrow.fs.FileSystem, folder: str) -> Iterator[Any]:
    import pyarrow.fs

    local, inside = isinstance(filesystem, pyarrow.fs.LocalFileSystem), Path(folder).resolve()
    for info in filesystem.get_file_info(pyarrow.fs.FileSelector(folder)):
        own = not local or Path(info.path).resolve().is_relative_to(inside)
        if own and info.type is pyarrow.fs.FileType.Directory:
            yield info


def lived_s(start: float, end: float, pauses: Sequence[tuple[float, float]]) -> float:
    """Seconds between the two without the pauses, which lie apart from each other."""
    return max(end - start - sum(max(min(end, b) - max(start, a), 0.0) for a, b in pauses), 0.0)


def _trial(static: Mapping[str, Any], running: Mapping[str, Any]) -> RayTrial:
    last = running.get("last_result") or {}
    started, ended = _seconds(running.get("start_time")), _seconds(last.get("timestamp"))
    return RayTrial(
        trial_id=str(static["trial_id"]),
        status=str(static["status"]),
        config=pickles_named(static["config"]) if isinstance(static["config"], dict) else {},
        folder=os.path.basename(str(static["relative_logdir"])),
        started=started,
        ended=ended if ended is None or started is None else max(ended, started),  # Ray keeps whole seconds of the one
    )


def _loads(text: str | bytes) -> Any:
    """JSON; an integer that no float holds (a folder may hold anything) becomes an infinity, as a float would."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < _DIGITS else float(digits))


def _seconds(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and 0 < value < 1e11 else None


def _files(filesystem: pyarrow.fs.FileSystem, folder: str) -> list[Any]:
    import pyarrow.fs

    found = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
    return [info for info in found if is_own(filesystem, folder, info)]


def is_own(filesystem: pyarrow.fs.FileSystem, folder: str, info: Any) -> bool:
    from jobs_ray.tune.results import is_own_file

    return is_own_file(filesystem, folder, info)
