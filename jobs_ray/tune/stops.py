"""When a trial has trained enough, beyond what the optimiser says of a value: told its steps, or getting nowhere."""

from __future__ import annotations

from jobs_ray.search.optimizer import Decision
from jobs_ray.trials import Trial
from jobs_ray.tune.pulse import PATIENCE


def past_its_steps(trial: Trial | None, t: float) -> Decision:
    """A trial that was told its steps ends by itself, in order; it is stopped only if it diverged or goes on."""
    if trial is None or not trial.running or trial.grant is None or trial.curve.ends_failed:
        return Decision.STOP
    return Decision.STOP if t > trial.grant else Decision.CONTINUE


def stands_still(trial: Trial, max_t: float | None, time_attr: str, idle: int) -> str | None:
    """Why a trial should not go on for ever. idle: its reports in a row whose time did not advance."""
    if idle >= PATIENCE:
        return f"{idle} reports in a row brought {time_attr!r} no further than {trial.curve.last_t:g}"
    if max_t is not None and trial.wasted >= max_t:
        return f"{time_attr!r} went back again and again: {trial.wasted:g} steps, a whole run, were trained and lost"
    return None
