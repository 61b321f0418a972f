"""Where a search stands."""

from __future__ import annotations

import numpy as np
import pytest
from core_runs import MAX_T, SPACE, loss, make, search, train

from jobs_ray import Suggestion
from jobs_ray.space import SearchSpace


@pytest.mark.parametrize(
    ("given", "every", "short_t"),
    [
        ("auto", 1.0, 25.0),
        ("auto", 10.0, 30.0),
        ("auto", 30.0, 30.0),
        ("auto", 40.0, 40.0),
        ("auto", 200.0, 200.0),  # nothing can be stopped before a run's end
        ("auto", 400.0, 200.0),
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


def after_short_runs(crossing: bool, runs: int = 8, **settings: object) -> float | None:
    """Length of the next short run, after `runs` of three reports each of which the better half cross, or not."""
    optimizer = make(**{"max_t": 24.0, "budget": 10.0, "extend": False, **settings})
    for i in range(runs):
        suggestion = optimizer.ask(f"r{i}")
        assert isinstance(suggestion, Suggestion)
        end = 3.0 if i < runs // 2 else 4.0  # either half may be the better one
        for t in (1.0, 2.0, 3.0):
            own = i % (runs // 2) * 0.1
            optimizer.report(f"r{i}", t, end + own + (3.0 - t) * (1.0 - (2.0 * own if crossing else 0.0)))
        optimizer.tell(f"r{i}")
    following = optimizer.ask("next")
    assert isinstance(following, Suggestion)
    return following.steps


@pytest.mark.parametrize(
    ("settings", "crossing", "steps"),
    [
        ({}, True, 6.0),
        ({}, False, 3.0),
        ({"short_t": 3.0}, True, 3.0),  # as given
        ({"mode": "max"}, True, 6.0),
        ({"max_t": 16.0, "budget": 11.0}, True, 3.0),  # twice as long were more than a third of a run
    ],
)
def test_short_runs_are_doubled_while_the_better_half_change_ranks(
    settings: dict[str, object], crossing: bool, steps: float
) -> None:
    assert after_short_runs(crossing, **settings) == steps


def test_a_few_runs_say_nothing_of_ranks() -> None:
    assert after_short_runs(True, runs=6) == 3.0


def test_the_only_trial_is_a_full_run() -> None:
    """Unless the caller says how long it is to be."""
    assert [s.steps for s in search(make(budget=None, num_trials=1, short_t=2.0))] == [2.0]
    optimizer = make(budget=None, num_trials=1)
    assert [s.steps for s in search(optimizer)] == [MAX_T]
    found = optimizer.recommendation()
    assert found is not None
    assert found.confirmed


@pytest.mark.parametrize("failed", [False, True])
def test_an_observation_that_failed_is_no_short_run_of_learn(failed: bool) -> None:
    optimizer = make(budget=10.0)
    plan = optimizer.plan()
    assert plan is not None
    for _ in range(plan["learn_short"]):
        config = SearchSpace(SPACE).decode(SearchSpace(SPACE).sample(1, np.random.default_rng(0))[0])
        optimizer.add_observation(config, [] if failed else [(1.0, 2.0)], complete=False)
    first = optimizer.ask("a")
    assert isinstance(first, Suggestion)
    assert first.steps == (2.0 if failed else MAX_T)


@pytest.mark.parametrize("max_t", [1.0, 12.0])
@pytest.mark.parametrize("budget", [3.0, 3.5])
@pytest.mark.parametrize("workers", [1, 4, 16])
def test_trials_that_report_at_their_end_only_do_not_overspend(max_t: float, budget: float, workers: int) -> None:
    """Until one has reported, a short run may well cost as much as a full one."""
    optimizer = make(max_t=max_t, budget=budget)
    search(optimizer, workers=workers, every=max_t, end=max_t)
    assert optimizer.budget_spent == 3.0


def test_one_trial_that_lost_its_first_reports_makes_no_others_longer() -> None:
    optimizer = make()
    for trial_id in ("a", "b"):
        assert isinstance(optimizer.ask(trial_id), Suggestion)
    optimizer.report("a", 9.0, 1.0)
    assert optimizer.plan()["short_t"] == 9.0  # type: ignore[index]
    optimizer.report("b", 1.0, 1.0)
    assert optimizer.plan()["short_t"] == 2.0  # type: ignore[index]


def test_a_trial_that_reported_late_is_not_led_on_by_longer_short_runs() -> None:
    """It stands at the new length already; what it costs to the next report, the end of the run, nobody has kept."""
    optimizer = make(budget=10.0)
    search(optimizer, workers=8, every=6.0)
    short = [t for t in optimizer.trials.values() if t.grant is not None and t.grant < MAX_T]
    assert short
    assert {t.curve.last_t for t in short} == {6.0}
    assert optimizer.budget_spent <= 10.0


@pytest.mark.parametrize("budget", [2.0, 3.0, 4.0])
def test_trials_that_were_lost_without_a_value_are_spent_before_the_others_report(budget: float) -> None:
    optimizer = make(budget=budget)
    assert isinstance(optimizer.ask("lost"), Suggestion)
    optimizer.report("lost", MAX_T, None)
    optimizer.tell("lost")
    search(optimizer, workers=16, every=MAX_T)
    assert optimizer.budget_spent == budget


@pytest.mark.parametrize("budget", [2.0, 3.0, 4.0])
def test_when_an_observation_reported_says_nothing_of_trials_that_resume_it(budget: float) -> None:
    optimizer = make(budget=budget, resume=True)
    space = SearchSpace(SPACE)
    for x in space.sample(12, np.random.default_rng(0)):
        optimizer.add_observation(space.decode(x), [(1.0, 2.0), (2.0, 1.9)], complete=False)
    live: dict[str, Suggestion] = {}
    while isinstance(asked := optimizer.ask(f"t{len(optimizer.trials)}"), Suggestion) or live:
        if isinstance(asked, Suggestion):
            live[f"t{len(optimizer.trials) - 1}"] = asked
            continue
        for name, suggestion in live.items():  # all at once, at the end
            optimizer.report(name, MAX_T, loss(suggestion.config, MAX_T))
            optimizer.tell(name)
        live.clear()
    assert optimizer.budget_spent <= budget
