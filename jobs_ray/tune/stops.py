"""When a trial has trained enough, beyond what the optimiser says of a value: it was told its steps, is between two
evaluations, or gets nowhere."""

from __future__ import annotations

from jobs_ray.search.optimizer import Decision, JoBSOptimizer
from jobs_ray.trials import Trial
from jobs_ray.tune.pulse import PATIENCE


def past_its_steps(trial: Trial | None, t: float) -> Decision:
    """A trial that was told its steps ends by itself, in order; it is stopped only if it diverged or goes on."""
    if trial is None or not trial.running or trial.grant is None or trial.curve.ends_failed:
        return Decision.STOP
    return Decision.STOP if t > trial.grant else Decision.CONTINUE


def between(trial: Trial, t: float, max_t: float | None) -> Decision:
    """At a report of a live trial that lacks the metric, as of those that evaluate now and then: STOP with what it was
    granted, once there is a value to judge it by, and at the end of a full run."""
    whole = max_t is not None and t >= max_t
    enough = trial.grant is not None and t >= trial.grant and bool(trial.curve.value)
    return Decision.STOP if whole or enough else Decision.CONTINUE


def let_last_value_stand(core: JoBSOptimizer, trial_id: str, t: float) -> None:
    """A trial ends that has trained on to `t` since its last value: it is charged for that, and the value stands."""
    trial = core.trials.get(trial_id)
    if trial is not None and trial.curve.value and t > trial.curve.last_t:
        core.report(trial_id, t, core.settings.sign * trial.curve.value[-1], fit=False)


def stands_still(trial: Trial, max_t: float | None, time_attr: str, idle: int) -> str | None:
    """Why a trial should not go on for ever. idle: its reports in a row whose time did not advance."""
    if idle >= PATIENCE:
        return f"{idle} reports in a row brought {time_attr!r} no further than {trial.curve.last_t:g}"
    if max_t is not None and trial.wasted >= max_t:
        return f"{time_attr!r} went back again and again: {trial.wasted:g} steps, a whole run, were trained and lost"
    return None
