"""What an experiment found, read from its folder: the data behind `jobs-ray report`.

`collect` needs nothing but the folder that Ray Tune wrote, also long after the process that ran it is gone. Tables,
pages and files are made from what it returns, and compute nothing but what they show.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jobs_ray.report import ray_folder
from jobs_ray.report.experiment import Report, Row, varied
from jobs_ray.report.foreign import collect_foreign, is_foreign
from jobs_ray.report.predictions import Predicted, predictions
from jobs_ray.space import Mixture
from jobs_ray.trials import Trial, TrialStatus

if TYPE_CHECKING:
    from jobs_ray.search.optimizer import JoBSOptimizer


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
    session = load_session(folder)
    core = session.core
    summary = session.report()
    predicted = predictions(core)
    configs = {row["trial_id"]: row["config"] for row in summary["trials"]}
    failed = [t.trial_id for t in core.trials.values() if t.status is TrialStatus.FAILED]
    reasons = {
        name: reason
        for name, place in ray_folder.folders_of(filesystem, path, failed).items()
        if (reason := ray_folder.last_error(filesystem, place))
    }
    charged = {row["trial_id"]: float(row["charged"]) for row in summary["trials"]}
    superseded = {t.promotes for t in core.trials.values() if t.curve.value and t.status is not TrialStatus.FAILED}
    times = ray_folder.read(filesystem, path).trials
    rows = tuple(
        _row(
            trial,
            configs[name],
            core,
            predicted.trials.get(name),
            charged[name],
            name in superseded,
            reasons.get(name),
            times.get(name),
        )
        for name, trial in core.trials.items()
    )
    given = session.settings.points_to_evaluate
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
        recommendation=session.recommendation(),
        mixtures=tuple(name for name, parameter in session.space.core.items() if isinstance(parameter, Mixture)),
        searched=varied(session.space.core, configs.values()),
        default=tuple(row.trial_id for row in rows if given and _is_point(given[0], row.config)),
        space=core.space,
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
    return Row(
        trial_id=trial.trial_id,
        config=config,
        phase=trial.phase,
        status=trial.status,
        full=trial.completed if not trial.charged else trial.grant is None or max_t is None or trial.grant >= max_t,
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


def _is_point(point: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a configuration is a point to evaluate, which may leave parameters out and give weights of any sum."""
    for key, value in point.items():
        there = config.get(key)
        if isinstance(value, Mapping):
            if not (isinstance(there, Mapping) and _is_point(_shares(value), _shares(there))):
                return False
        elif isinstance(value, float) and isinstance(there, float):
            if not math.isclose(value, there, rel_tol=1e-6, abs_tol=1e-9):
                return False
        elif value != there:
            return False
    return True


def _shares(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Numbers as shares of their sum, the way weights of a mixture are meant; anything else as it is."""
    numbers = [v for v in values.values() if isinstance(v, int | float) and not isinstance(v, bool) and v >= 0]
    total = sum(numbers)
    return {k: v / total for k, v in values.items()} if len(numbers) == len(values) and total > 0 else values


def _own_reason(trial: Trial) -> str | None:
    if trial.curve.ends_failed:
        return f"reported no finite value at t = {trial.curve.last_t:g}"
    return None if trial.curve.value else "ended before its first report"
