"""What an experiment found, read from its folder: the data behind `jobs-ray report`.

`collect` needs nothing but the folder that Ray Tune wrote, also long after the process that ran it is gone. Tables,
pages and files are made from what it returns, and compute nothing but what they show.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs_ray.report import ray_folder
from jobs_ray.report.experiment import Report, Row, varied
from jobs_ray.report.figure_style import at
from jobs_ray.report.foreign import collect_foreign, is_foreign
from jobs_ray.report.predictions import Predicted, predictions
from jobs_ray.space import Mixture
from jobs_ray.trials import StateError, Trial, TrialStatus

if TYPE_CHECKING:
    import pyarrow.fs

    from jobs_ray.search.optimizer import JoBSOptimizer
    from jobs_ray.tune.session import Session

_SAME = 1e-9  # of the unit cube: parts like 2 / 6 make weights that differ in the last bits


def collect(
    folder: str | os.PathLike[str], metric: str | None = None, mode: str | None = None, time_attr: str | None = None
) -> Report:
    """Reads an experiment's folder (a path or a URI).

    metric, mode, time_attr: for a folder of another searcher, which does not say all of them.

    Raises FileNotFoundError when it does not exist or holds no experiment, StateError when the state is damaged,
    ValueError when nothing tells which metric to show, ImportError without ray.
    """
    from jobs_ray.tune.results import load_session, locate

    filesystem, path = locate(folder)
    if is_foreign(filesystem, path):
        return collect_foreign(filesystem, path, metric, mode, time_attr)
    with sound(path):
        return _collect(filesystem, path, load_session(folder))


@contextmanager
def sound(folder: str) -> Iterator[None]:
    """Raises StateError where a saved number cannot be reckoned with: a budget of 1e308, which nothing checks."""
    try:
        yield
    except ArithmeticError as error:
        raise StateError(f"the state saved in {folder} is damaged ({error!r}); restore an older copy of it") from error


def _collect(filesystem: pyarrow.fs.FileSystem, path: str, session: Session) -> Report:
    from jobs_ray.tune.placeholders import named, path_of

    core = session.core
    summary = session.report()
    predicted = predictions(core)
    trials = core.trials
    configs = {row["trial_id"]: named(row["config"], trials[row["trial_id"]].config) for row in summary["trials"]}
    failed = [t.trial_id for t in trials.values() if t.status is TrialStatus.FAILED]
    reasons = {
        name: reason
        for name, place in ray_folder.folders_of(filesystem, path, failed).items()
        if (reason := ray_folder.last_error(filesystem, place))
    }
    charged = {row["trial_id"]: float(row["charged"]) for row in summary["trials"]}
    superseded = {t.promotes for t in trials.values() if t.curve.value and t.status is not TrialStatus.FAILED}
    rays = ray_folder.read(filesystem, path)
    rows = tuple(
        _row(
            trial,
            configs[name],
            core,
            predicted.trials.get(name),
            charged[name],
            name in superseded,
            reasons.get(name),
            rays.trials.get(name),
        )
        for name, trial in trials.items()
    )
    charged_trials = [trial for trial in trials.values() if trial.charged]
    found = session.recommendation()
    if found is not None:
        found = dataclasses.replace(found, config=named(found.config, trials[found.trial_id].config))
    return Report(
        folder=path,
        metric=session.metric,
        mode=session.mode,
        time_attr=session.settings.time_attr,
        plan=summary["plan"],
        budget=summary["budget"],
        num_samples=session.num_samples,
        trials=rows,
        quality=predicted.own,
        left_out=predicted.left_out,
        recommendation=found,
        mixtures=tuple(dict.fromkeys(path_of(n) for n, p in session.space.core.items() if isinstance(p, Mixture))),
        searched=varied(session.space.core, configs.values()),
        default=_default(session),
        space=core.space,
        stops=not charged_trials or any(_is_short(trial, core.max_t) for trial in charged_trials),
        wall_s=rays.wall_s,
        pauses=rays.pauses,
        repeats=rays.repeats,
    )


def _row(
    trial: Trial,
    config: Mapping[str, Any],
    core: JoBSOptimizer,
    predicted: Predicted | None,
    charged: float,
    superseded: bool,
    reason: str | None,
    times: ray_folder.RayTrial | None,
) -> Row:
    sign, curve, max_t = core.settings.sign, trial.curve, core.max_t
    if trial.status is TrialStatus.FAILED and reason is None:
        reason = _own_reason(trial)
    full = trial.completed
    if trial.charged:  # stopped before its end: by another scheduler, or a stopper
        full = not _is_short(trial, max_t) and trial.status is not TrialStatus.STOPPED
    return Row(
        trial_id=trial.trial_id,
        config=config,
        phase=trial.phase,
        status=trial.status,
        full=full,
        last_t=curve.last_t,
        curve=tuple((t, sign * value) for t, value in zip(curve.t, curve.value, strict=True)),
        failed_at=curve.failed_at,
        final=None if trial.final is None else sign * trial.final,
        predicted=predicted,
        charged=charged,
        promotes=trial.promotes,
        resumed=trial.start > 0,
        superseded=superseded,
        observed=not trial.charged,
        reason=reason,
        x=trial.x,
        started=times.started if times else None,
        ended=times.ended if times else None,
    )


def _is_short(trial: Trial, max_t: float | None) -> bool:
    """Whether the search gave it less than a full run."""
    return trial.grant is not None and max_t is not None and trial.grant < max_t


def _default(session: Session) -> tuple[str, ...]:
    """Ids of the trials of the first point to evaluate, which may leave parameters out and give weights of any sum."""
    if not session.settings.points_to_evaluate:
        return ()
    point = session.settings.points_to_evaluate[0]
    given = session.space.core_config(point, lenient=True)
    # objects are not read: which option of theirs the point has is not known, nor what belongs to that option
    choices = [name for name in given if _holds_unread(at(point, name))]
    unread = tuple(f"{name}[" for name in choices)
    blocks = [
        block
        for block in session.core.space.blocks
        if block.name in given and block.name not in choices and not block.name.startswith(unread)
    ]
    wanted = [weight for block in blocks for weight in block.parameter.encode(given[block.name])]
    columns = [i for block in blocks for i in range(block.columns.start, block.columns.stop)]
    trials = list(session.core.trials.values())
    X = np.array([trial.x for trial in trials]).reshape(len(trials), session.core.space.dim)
    fits = np.isclose(X[:, columns], wanted, rtol=0.0, atol=_SAME).all(axis=1)
    # others may share what a point says by chance, but points are tried first: of those, the first is the point's
    first = next((x for trial, x, fit in zip(trials, X, fits, strict=True) if fit and trial.charged), None)
    if first is None:
        return ()
    alike = np.isclose(X, first, rtol=0.0, atol=_SAME).all(axis=1)
    return tuple(trial.trial_id for trial, same in zip(trials, alike, strict=True) if same)


def _holds_unread(node: Any) -> bool:
    from jobs_ray.tune.codec import NotRead

    if isinstance(node, Mapping):
        node = list(node.values())
    return isinstance(node, NotRead) or (isinstance(node, list | tuple) and any(map(_holds_unread, node)))


def _own_reason(trial: Trial) -> str | None:
    if trial.curve.ends_failed:
        return f"reported no finite value at t = {trial.curve.last_t:g}"
    return None if trial.curve.value else "ended before its first report"
