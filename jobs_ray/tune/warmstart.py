"""Observations from elsewhere: Ray's `add_evaluated_point` and `add_evaluated_trials`. They cost no budget."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune import ExperimentAnalysis
from ray.tune.experiment import Trial

from jobs_ray.tune.result_reader import as_number

if TYPE_CHECKING:
    from jobs_ray.tune.session import Session

logger = logging.getLogger(__name__)

_FULL = 0.9  # of the longest: seconds, say, are never the same


def add_point(
    session: Session,
    parameters: Mapping[str, Any],
    value: float | None,
    partial: bool,
    intermediate_values: Sequence[float] | None,
) -> None:
    """One configuration with its final value, or (`partial`: pruned or failed) what was seen of its curve."""
    config = own_config(session, parameters)
    if intermediate_values:
        curve = [(float(i), v) for i, v in enumerate(intermediate_values, start=1)]
        if not partial and value is not None:
            curve[-1] = (curve[-1][0], value)
    elif partial or value is None:
        logger.info("an evaluated point without its final value or intermediate values teaches nothing")
        return
    else:
        curve = [(float(session.settings.max_t or 1), value)]
    session.core.add_observation(config, curve, complete=not partial)


def add_trials(session: Session, trials_or_analysis: Any, metric: str) -> None:
    """Trials of another experiment; of an ExperimentAnalysis whole curves, else the last report of each.

    Raises TypeError for anything else, SpaceError for a trial of another search space.
    """
    if isinstance(trials_or_analysis, Trial):
        trials_or_analysis = [trials_or_analysis]
    if isinstance(trials_or_analysis, ExperimentAnalysis):
        frames = trials_or_analysis.trial_dataframes
        trials = trials_or_analysis.trials
    elif isinstance(trials_or_analysis, list | tuple):
        frames, trials = {}, trials_or_analysis
    else:
        raise TypeError(
            f"add_evaluated_trials got a {type(trials_or_analysis).__name__}; "
            "expected a Trial, a list of Trials or an ExperimentAnalysis"
        )
    time_attr, max_t = session.settings.time_attr, session.settings.max_t
    curves = [list(_curve(frames.get(t.trial_id), t.last_result, time_attr, metric)) for t in trials]
    # of trials that another scheduler has cut, only about the longest ones came to their end
    full = _FULL * max((curve[-1][0] for curve in curves if curve), default=0.0) if max_t is None else max_t
    for trial, curve in zip(trials, curves, strict=True):
        if curve:
            complete = trial.status == Trial.TERMINATED and curve[-1][0] >= full
            session.core.add_observation(own_config(session, trial.config), curve, complete=complete)
    if not any(curves):
        logger.warning("none of the %d trials reported %r; nothing was added", len(trials), metric)


def own_config(session: Session, config: Mapping[str, Any]) -> dict[str, Any]:
    """The core's view of a trainable's config, without what others put into it (Repeater, steps_key)."""
    source = session.space.source
    return session.space.core_config({key: config[key] for key in config if key in source})


def _curve(frame: Any, last_result: Mapping[str, Any], time_attr: str, metric: str) -> Iterator[tuple[float, float]]:
    rows = [last_result] if frame is None else frame.to_dict("records")
    last = 0.0
    for row in rows:
        t, value = as_number(row.get(time_attr)), as_number(row.get(metric))
        if t is not None and value is not None and t > last:
            last = t
            yield t, value
