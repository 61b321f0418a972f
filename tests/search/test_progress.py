"""Where a search stands."""

from __future__ import annotations

import pytest
from core_runs import loss, make, train

from jobs_ray import Suggestion


@pytest.mark.parametrize(("every", "short_t"), [(1.0, 25.0), (10.0, 20.0), (30.0, 30.0), (40.0, 40.0), (400.0, 25.0)])
def test_an_automatic_short_run_ends_where_trials_report(every: float, short_t: float) -> None:
    """An eighth of 200 is 25; 400: a report beyond the end of a run tells nothing."""
    optimizer = make(max_t=200.0, budget=8.0)
    first = optimizer.ask("a")
    assert isinstance(first, Suggestion)
    assert first.steps == 25.0
    train(optimizer, "a", first.config, loss, every=every, end=200.0)
    second = optimizer.ask("b")
    assert isinstance(second, Suggestion)
    assert second.steps == short_t


def test_a_short_length_that_was_given_is_kept_between_two_reports() -> None:
    optimizer = make(max_t=200.0, budget=8.0, short_t=25.0)
    first = optimizer.ask("a")
    assert isinstance(first, Suggestion)
    train(optimizer, "a", first.config, loss, every=10.0, end=200.0)
    second = optimizer.ask("b")
    assert isinstance(second, Suggestion)
    assert second.steps == 25.0
