"""When a trial has trained enough, beyond what the optimiser says of a value: it was told its steps, is between two
evaluations, or gets nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jobs_ray.search.optimizer import Decision
from jobs_ray.tune.pulse import PATIENCE, mark_of

if TYPE_CHECKING:
    from jobs_ray.tune.session import Session


def past_its_steps(session: Session, trial_id: str, t: float) -> Decision:
    """A trial that was told its steps ends by itself, in order; it is stopped only if it diverged or goes on."""
    trial = session.core.trials.get(trial_id)
    if trial is None or not trial.running or trial.grant is None or trial.curve.ends_failed:
        return Decision.STOP
    return Decision.STOP if t > trial.grant else Decision.CONTINUE


def between(session: Session, trial_id: str, t: float) -> Decision:
    """At a report of a live trial that lacks the metric, as of those that evaluate now and then: STOP with what it was
    granted, once there is a value to judge it by, and at the end of a full run."""
    trial, max_t = session.core.trials[trial_id], session.core.max_t
    whole = max_t is not None and t >= max_t
    enough = trial.grant is not None and t >= trial.grant and bool(trial.curve.value)
    return Decision.STOP if whole or enough else Decision.CONTINUE


def last_value_stands(session: Session, trial_id: str) -> None:
    """A trial ends that has trained on since its last value: it is charged for that, and the value is its last one."""
    t, trial = session.between.get(trial_id, 0.0), session.core.trials.get(trial_id)
    if trial is not None and trial.curve.value and t > trial.curve.last_t:
        session.core.report(trial_id, t, session.core.settings.sign * trial.curve.value[-1], fit=False)


def stands_still(session: Session, trial_id: str, result: Mapping[str, Any], t: float) -> str | None:
    """Why a trial should not go on for ever."""
    idle = 0 if (mark := mark_of(result)) is None else session.pulse.report(trial_id, mark, t)
    name, trial, max_t = session.settings.time_attr, session.core.trials[trial_id], session.core.max_t
    if idle >= PATIENCE:
        return f"{idle} reports in a row brought {name!r} no further than {trial.curve.last_t:g}"
    if max_t is not None and trial.wasted >= max_t:
        return f"{name!r} went back again and again: {trial.wasted:g} steps, a whole run, were trained and lost"
    return None
