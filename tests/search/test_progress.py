"""Where a search stands."""

from __future__ import annotations

import pytest
from core_runs import loss, make, train

from jobs_ray import Suggestion


@pytest.mark.parametrize(
    ("given", "every", "short_t"),
    [
        ("auto", 1.0, 25.0),
        ("auto", 10.0, 30.0),
        ("auto", 30.0, 30.0),
        ("auto", 40.0, 40.0),
        ("auto", 400.0, 25.0),  # a report beyond the end of a run tells nothing
        (25.0, 10.0, 25.0),  # one that was given is kept between two reports
    ],
)
def test_an_automatic_short_run_ends_where_trials_report(given: float | str, every: float, short_t: float) -> None:
    """An eighth of 200 is 25."""
    optimizer = make(max_t=200.0, budget=8.0, short_t=given)
    first = optimizer.ask("a")
    assert isinstance(first, Suggestion)
    assert first.steps == 25.0
    train(optimizer, "a", first.config, loss, every=every, end=200.0)
    second = optimizer.ask("b")
    assert isinstance(second, Suggestion)
    assert second.steps == short_t
