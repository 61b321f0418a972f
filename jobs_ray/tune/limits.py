"""How much a run may take, where that is known late: by a second `fit()`, or behind a Repeater, which makes several of
Ray's trials of each configuration and tells us of the first one and of their mean only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jobs_ray.search.optimizer import Decision

if TYPE_CHECKING:
    from jobs_ray.tune.session import Session


def end_of(told: int | None, known: int | None) -> int | None:
    """Trials of a run, as Ray tells; None: no end of them. Where it has told nothing, what was `known`."""
    if told is None:
        return known
    return told if 0 < told < 2**31 else None  # -1 arrives as sys.maxsize


def expect(session: Session, told: int | None) -> None:
    """A run begins that takes so many trials more, as Ray tells: those that are known already are none of them."""
    for trial_id in list(session.live):  # an earlier run was ended in their midst, by a time budget, say
        session.core.amend(trial_id, silent=True)  # given up: its last value is no final one
        session.end(trial_id, error=False, own_end=False)
    if told is None:
        return
    num_samples, known = end_of(told, None), sum(trial.charged for trial in session.core.trials.values())
    session.num_samples = None if num_samples is None else known * session.repeats + num_samples
    repeat(session, session.repeats)


def repeat(session: Session, times: int) -> None:
    """Each configuration is so many trials, so a budget buys fewer. Raises ValueError where it buys not even one."""
    budget, num_samples, session.repeats = session.settings.budget, session.num_samples, times
    if budget is not None and session.settings.cost_attr is None and budget < times:
        raise ValueError(
            f"budget is {budget:g} full runs, but Repeater(repeat={times}) trains each configuration {times} times; "
            f"give at least {times}"
        )
    session.core.settings = dataclasses.replace(
        session.core.settings,
        budget=None if budget is None else budget / times,
        num_trials=None if num_samples is None else max(num_samples // times, 1),
    )


def whole(session: Session, trial_id: str, result: Mapping[str, Any]) -> Decision:
    """Of any of a Repeater's trials, whose mean is of full runs: STOP at the end of one."""
    t, max_t = session.reader.time(trial_id, result), session.settings.max_t
    return Decision.STOP if t is not None and max_t is not None and t >= max_t else Decision.CONTINUE


def with_time(session: Session, trial_id: str, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """A trial's last result; of a Repeater's, which is the mean of the metric alone, with the time of the first one."""
    if set(result) != {session.metric}:
        return result
    trial = session.core.trials.get(trial_id)
    reached = trial.curve.last_t if trial else 0.0
    return {**result, session.settings.time_attr: reached or session.settings.max_t or 1}
