"""Reports made by hand, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jobs_ray.report.experiment import Report, Row
from jobs_ray.report.figures import Figure, figures
from jobs_ray.report.predictions import Predicted
from jobs_ray.search.settings import Recommendation
from jobs_ray.space import SearchSpace
from jobs_ray.trials import Phase, TrialStatus
from jobs_ray.tune.domains import TuneSpace


def row(name: str, final: float | None = None, **fields: Any) -> Row:
    """A trial of LEARN: a full run that came to `final`, or one without a report. Fields override."""
    fields = {
        "config": {"x": name}, "phase": Phase.LEARN, "full": final is not None, "last_t": 8.0, "failed_at": (),
        "status": TrialStatus.STOPPED if final is None else TrialStatus.COMPLETED,
        "curve": () if final is None else ((1.0, final + 1), (8.0, final)), "predicted": None, "charged": 1.0,
        "promotes": None, "resumed": False, "superseded": False, "observed": False,
    } | fields  # fmt: skip
    return Row(trial_id=name, final=final, **fields)


def report(*rows: Row, **fields: Any) -> Report:
    """An experiment that minimises `loss` over `x`. Fields override."""
    fields = {
        "folder": "/made", "metric": "loss", "mode": "min", "time_attr": "t", "plan": None, "num_samples": None,
        "budget": {"total": None, "spent": float(len(rows)), "committed": 0.0, "by_phase": {}}, "quality": None,
        "left_out": None, "recommendation": None, "mixtures": (), "searched": frozenset({"x"}),
    } | fields  # fmt: skip
    return Report(trials=rows, **fields)


def best_of(trial: Row) -> Recommendation:
    """This full run is the recommendation."""
    assert trial.final is not None
    return Recommendation(dict(trial.config), trial.final, 0.0, True, trial.trial_id)


def predicted(mean: float, stddev: float = 0.01) -> Predicted:
    """Its interval is not symmetric."""
    return Predicted(mean, stddev, mean - 2 * stddev, mean + 3 * stddev)


def made(param_space: Mapping[str, Any], value: Callable[[Any], float], n: int = 16, **fields: Any) -> Report:
    """A search of `n` full runs, each of which came to `value(config)`."""
    user = TuneSpace(param_space)
    space = SearchSpace(user.core)
    rows = []
    for number, x in enumerate(space.sample(n, np.random.default_rng(0))):
        config = user.ray_config(space.decode(x))
        final, phase = value(config), Phase.LEARN if number < n // 2 else Phase.SEARCH
        rows.append(row(f"t{number}", final, config=config, phase=phase, curve=((1.0, final),), last_t=1.0, x=tuple(x)))
    return report(*rows, **{"searched": frozenset(), "space": space} | fields)


def drawn(report: Report) -> dict[str, Figure]:
    return {found.name: found for found in figures(report)}
