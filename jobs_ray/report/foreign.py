"""An experiment of another searcher (or of none) as a report, as far as Ray's files tell: curves, best, failures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jobs_ray.report import ray_folder
from jobs_ray.report.experiment import Report, Row, leaves, varied
from jobs_ray.report.inferred_space import encoded, infer_space
from jobs_ray.report.objects import filled
from jobs_ray.space.base import is_number
from jobs_ray.trials import TrialStatus

if TYPE_CHECKING:
    import pyarrow.fs

_OURS = b'"format": "jobs-ray-searcher"'
_HEAD = 200  # bytes of a searcher's state that name its format
_MINIMISED = (
    *("loss", "error", "perplexity", "ppl", "nll", "cross_entropy", "bpb", "bits_per"),
    *("mse", "mae", "rmse", "cost", "regret"),
)
_RAYS = ("time", "iterations", "pid", "training_iteration", "episodes", "warmup_time", "config/")
_CLOCKS = ("training_iteration", "time_total_s")  # of what Ray adds, what may serve as progress


def is_foreign(filesystem: pyarrow.fs.FileSystem, folder: str) -> bool:
    """Whether Ray wrote an experiment here in which no JoBSSearcher took part.

    A searcher's state that is neither ours nor a pickle belongs to nobody: it is damaged, and not called another's.
    """
    import pyarrow.fs

    from jobs_ray.tune.results import PICKLE

    files = [info for info in filesystem.get_file_info(pyarrow.fs.FileSelector(folder)) if info.is_file]
    states = [info for info in files if info.base_name.startswith("searcher-state-")]
    heads = []
    for info in states:
        if ray_folder.is_own(filesystem, folder, info):
            with filesystem.open_input_stream(info.path) as stream:
                heads.append(stream.read(_HEAD))
    if any(_OURS in head for head in heads) or not all(head.startswith(PICKLE) for head in heads):
        return False
    return bool(ray_folder.read(filesystem, folder).trials)


def collect_foreign(
    filesystem: pyarrow.fs.FileSystem, folder: str, metric: str | None, mode: str | None, time_attr: str | None
) -> Report:
    """Costs in runs as long as the longest that did not diverge.

    Raises ValueError when nothing tells which metric to show, or its mode.
    """
    experiment = ray_folder.located(filesystem, folder, ray_folder.read(filesystem, folder))
    reported = {name: list(ray_folder.results(filesystem, trial)) for name, trial in experiment.trials.items()}
    metric = metric or experiment.metric or _only_metric(reported)
    told, mode, time_attr = mode is not None, mode or _mode_of(metric), time_attr or "training_iteration"
    for option, name, more in (("--metric", metric, ()), ("--time-attr", time_attr, _CLOCKS)):
        if any(reported.values()) and not any(
            is_number(_at(line, name)) for lines in reported.values() for line in lines
        ):
            names = ", ".join(sorted(_reported(reported, more))) or "none"
            raise ValueError(f"no trial reported {name!r} as a number; {option} is one of: {names}")
    seen = {name: _read(lines, metric, time_attr) for name, lines in reported.items()}
    # one that diverged and went on tells nothing: the others may have been stopped at their goal
    ended = [found.last_t for found in seen.values() if found.curve and not found.diverged]
    longest = max(ended or (found.last_t for found in seen.values()), default=0.0)
    trials = [
        replace(trial, config=filled(_without_number(trial.config), (reported[name] or [{}])[-1].get("config")))
        for name, trial in experiment.trials.items()
    ]
    configs = [trial.config for trial in trials]
    space, mixtures = infer_space(configs)
    rows = tuple(
        _row(filesystem, trial, seen[trial.trial_id], longest, () if space is None else encoded(space, trial.config))
        for trial in trials
    )
    spent = sum(row.charged for row in rows)
    return Report(
        folder=folder,
        metric=metric,
        mode=mode,
        time_attr=time_attr,
        plan=None,
        budget={"total": None, "spent": spent, "committed": 0.0, "by_phase": {}},
        num_samples=None,
        trials=rows,
        quality=None,
        left_out=None,
        recommendation=None,
        mixtures=mixtures,
        searched=varied({} if space is None else {block.name: block for block in space.blocks}, configs),
        searcher=ray_folder.searcher_of(filesystem, folder),
        space=space,
        mode_is_told=told,
        wall_s=experiment.wall_s,
        pauses=experiment.pauses,
        repeats=experiment.repeats,
    )


@dataclass(frozen=True)
class _Read:
    """A trial's finite values as (t, value), the times of the others, and the last time, reported with any or none."""

    curve: tuple[tuple[float, float], ...]
    failed_at: tuple[float, ...]
    last_t: float

    @property
    def diverged(self) -> bool:
        last = self.curve[-1][0] if self.curve else 0.0
        return bool(self.failed_at) and self.failed_at[-1] > last


def _row(
    filesystem: pyarrow.fs.FileSystem,
    trial: ray_folder.RayTrial,
    read: _Read,
    longest: float,
    x: tuple[float, ...],
) -> Row:
    raised, running = trial.status == "ERROR", trial.status not in ("ERROR", "TERMINATED")
    curve, last = read.curve, read.last_t
    failed = raised or (read.diverged and not running)
    full = bool(curve) and last >= longest and not failed and not running
    reason = ray_folder.last_error(filesystem, trial.folder) if raised else None
    if failed and reason is None and read.diverged:
        reason = f"reported no finite value at t = {read.failed_at[-1]:g}"
    ended = TrialStatus.COMPLETED if full else TrialStatus.STOPPED
    return Row(
        trial_id=trial.trial_id,
        config=trial.config,
        phase=None,
        status=TrialStatus.FAILED if failed else TrialStatus.RUNNING if running else ended,
        full=full,
        last_t=last,
        curve=curve,
        failed_at=read.failed_at,
        final=curve[-1][1] if full else None,
        predicted=None,
        charged=last / longest if longest else 0.0,
        promotes=None,
        resumed=False,
        superseded=False,
        observed=False,
        reason=reason,
        x=x,
        started=trial.started,
        ended=trial.ended,
    )


def _read(lines: list[Mapping[str, Any]], metric: str, time_attr: str) -> _Read:
    """Of two reports at one `t` the later one counts, as of a trial that was started anew."""
    found: dict[float, float] = {}
    last = 0.0
    for line in lines:
        t, value = _at(line, time_attr), _at(line, metric)
        if is_number(t) and t > 0:
            last = max(last, float(t))
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[float(t)] = float(value)
    points = sorted(found.items())
    finite = tuple((t, value) for t, value in points if math.isfinite(value))
    return _Read(finite, tuple(t for t, value in points if not math.isfinite(value)), last)


def _without_number(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != ray_folder.REPEAT}


def _at(line: Mapping[str, Any], key: str) -> Any:
    """Ray nests what it writes: the metric `a/b` stands under `a`, then `b`."""
    node: Any = line.get(key)
    if node is None and "/" in key:
        node = line
        for part in key.split("/"):
            node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _only_metric(reported: Mapping[str, list[Mapping[str, Any]]]) -> str:
    keys = _reported(reported)
    if len(keys) == 1:
        return keys.pop()
    raise ValueError(
        "the experiment does not say which metric it optimised (numbers reported: "
        f"{', '.join(sorted(keys)) or 'none'}); give one: --metric NAME"
    )


def _reported(reported: Mapping[str, list[Mapping[str, Any]]], more: Iterable[str] = ()) -> set[str]:
    """Names of the numbers in each trial's last result; of those that Ray adds only `more`."""
    return {
        path
        for lines in reported.values()
        for line in lines[-1:]
        for path, value in leaves(line)
        if is_number(value) and (path in more or not path.startswith(_RAYS))
    }


def _mode_of(metric: str) -> str:
    """Losses are minimised and accuracies maximised; whoever means it otherwise says so."""
    return "min" if any(word in metric.lower() for word in _MINIMISED) else "max"
