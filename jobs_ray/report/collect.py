"""What an experiment found, read from its folder: the data behind `jobs-ray report`.

`collect` needs nothing but the folder that Ray Tune wrote, also long after the process that ran it is gone. The tables
are made in `report_tables.py`, the figures in `report_html.py`; neither computes anything but what it shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs_ray.models.prediction import CrossValidation
from jobs_ray.report.predictions import Predicted, predictions
from jobs_ray.space import Mixture
from jobs_ray.trials import Phase, Trial, TrialStatus

if TYPE_CHECKING:
    import pyarrow.fs

    from jobs_ray.search.optimizer import JoBSOptimizer, Recommendation

_ERROR_BYTES = 65536  # of the end of an error.txt


@dataclass(frozen=True)
class Row:
    """One trial. `curve`: (t, value) pairs in the user's sign; `charged`: full-run equivalents.

    `predicted`: of a full run from its first `short_t` steps, of any other trial from all it reported.
    `superseded`: a later trial went on with this configuration. `reason`: why it failed, if known.
    """

    trial_id: str
    config: Mapping[str, Any]
    phase: Phase
    status: TrialStatus
    full: bool
    last_t: float
    curve: tuple[tuple[float, float], ...]
    failed_at: tuple[float, ...]
    final: float | None
    predicted: Predicted | None
    charged: float
    promotes: str | None
    resumed: bool
    superseded: bool
    observed: bool
    reason: str | None = None

    @property
    def estimate(self) -> float | None:
        """The best that is known of its final value: confirmed, else predicted, else None."""
        if self.final is not None:
            return self.final
        return None if self.predicted is None else self.predicted.mean


@dataclass(frozen=True)
class Report:
    """An experiment. Times in units of `time_attr`, costs in full-run equivalents, values in the user's sign.

    `quality`, `left_out`: the predictor's accuracy, as in `report_predictions.Predictions`.
    `mixtures`: paths of the mixture parameters; `searched`: of everything that the search varied.
    """

    folder: str
    metric: str
    mode: str
    time_attr: str
    plan: Mapping[str, Any] | None
    budget: Mapping[str, Any]
    num_samples: int | None
    trials: tuple[Row, ...]
    quality: CrossValidation | None
    left_out: CrossValidation | None
    recommendation: Recommendation | None
    mixtures: tuple[str, ...]
    searched: frozenset[str]

    @property
    def sign(self) -> float:
        return 1.0 if self.mode == "max" else -1.0

    def best_first(self) -> list[Row]:
        """Every configuration once: the confirmed and predicted ones by their estimate, best first."""
        rows = [row for row in self.trials if not row.superseded and row.estimate is not None]
        return sorted(rows, key=lambda row: -self.sign * (row.estimate or 0.0))


def collect(folder: str | os.PathLike[str]) -> Report:
    """Reads an experiment's folder (a path or a URI).

    Raises FileNotFoundError when it does not exist or holds no searcher state, StateError when the state is damaged
    or not one of JoBSSearcher, ImportError without ray.
    """
    from jobs_ray.tune.results import load_session, locate

    filesystem, path = locate(folder)
    if filesystem.get_file_info(path).type.name != "Directory":
        raise FileNotFoundError(f"{path} is no folder; expected the folder of an experiment that Ray Tune wrote")
    session = load_session(folder)
    core = session.core
    summary = session.report()
    predicted = predictions(core)
    configs = {row["trial_id"]: row["config"] for row in summary["trials"]}
    failed = [t.trial_id for t in core.trials.values() if t.status is TrialStatus.FAILED]
    reasons = _reasons(filesystem, path, failed)
    charged = {row["trial_id"]: float(row["charged"]) for row in summary["trials"]}
    superseded = {t.promotes for t in core.trials.values() if t.curve.value and t.status is not TrialStatus.FAILED}
    rows = tuple(
        _row(
            trial, configs[name], core, predicted.trials.get(name), charged[name], name in superseded, reasons.get(name)
        )
        for name, trial in core.trials.items()
    )
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
        searched=_searched(session.space.core, configs.values()),
    )


def leaves(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """`(path, value)` of everything in a nested configuration; paths join keys by "/"."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from leaves(value, f"{path}/{key}" if path else str(key))
    else:
        yield path, config


def _row(
    trial: Trial,
    config: Mapping[str, Any],
    core: JoBSOptimizer,
    predicted: Predicted | None,
    charged: float,
    superseded: bool,
    reason: str | None,
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
    )


def _searched(parameters: Mapping[str, Any], configs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Paths of what the search varied: its parameters, and (parts of chosen options) whatever differs."""
    seen: dict[str, set[str]] = {}
    for config in configs:
        for path, value in leaves(config):
            seen.setdefault(path, set()).add(repr(value))
    count = max((len(values) for values in seen.values()), default=0)
    return frozenset(
        path
        for path, values in seen.items()
        if len(values) > 1 or count <= 1 or any(path == p or path.startswith(f"{p}/") for p in parameters)
    )


def _own_reason(trial: Trial) -> str | None:
    if trial.curve.ends_failed:
        return f"reported no finite value at t = {trial.curve.last_t:g}"
    return None if trial.curve.value else "ended before its first report"


def _reasons(filesystem: pyarrow.fs.FileSystem, folder: str, failed: Sequence[str]) -> dict[str, str]:
    """The last line of each failed trial's `error.txt`, which Ray writes into the trial's own folder."""
    import pyarrow.fs

    from jobs_ray.tune.results import is_own_file

    if not failed:
        return {}
    found: dict[str, str] = {}
    for info in filesystem.get_file_info(pyarrow.fs.FileSelector(folder)):
        name = next((name for name in failed if name in info.base_name), None)
        if name is None or info.type is not pyarrow.fs.FileType.Directory:
            continue
        error = filesystem.get_file_info(f"{info.path}/error.txt")
        if is_own_file(filesystem, folder, error) and error.size:
            with filesystem.open_input_file(error.path) as file:
                file.seek(max(error.size - _ERROR_BYTES, 0))
                text = file.read(_ERROR_BYTES).decode("utf-8", "replace")
            if lines := [line.strip() for line in text.splitlines() if line.strip()]:
                found[name] = lines[-1]
    return found
