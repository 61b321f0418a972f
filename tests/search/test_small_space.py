"""A space of a few configurations, or a pool of candidates: none is asked for twice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from core_runs import MAX_T, search, train

from jobs_ray import FINISHED, Categorical, Integer, JoBSOptimizer, Phase, Real, Suggestion
from jobs_ray.search.lookahead import Lookahead

TWELVE: Mapping[str, Any] = {"a": Categorical("wxyz"), "b": Integer(1, 3)}


def loss(config: Mapping[str, Any], t: float) -> float:
    """Best at (y, 2)."""
    level = 1.0 + 0.3 * abs("wxyz".index(config["a"]) - 2) + 0.2 * abs(config["b"] - 2)
    return level * (1.0 + t**-0.5)


def point(config: Mapping[str, Any]) -> tuple[Any, ...]:
    return config["a"], config["b"]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    "limit", [{"budget": 10.0}, {"budget": 40.0}, {"num_trials": 60}, {"budget": 6.0, "num_full": 4}]
)
def test_no_configuration_twice_and_then_promotions(limit: dict[str, Any], workers: int) -> None:
    """Of 24 short runs with 10 full runs, 13 were of one configuration; with 20 it was 29 of 48."""
    optimizer = JoBSOptimizer(TWELVE, mode="min", max_t=MAX_T, seed=3, **limit)
    asked = search(optimizer, workers=workers, curve=loss)
    new = [point(s.config) for s in asked if s.promotes is None]
    promoted = [point(s.config) for s in asked if s.promotes is not None]
    assert len(set(new)) == len(new) <= 12
    assert len(set(promoted)) == len(promoted)
    assert optimizer.ask("one more") is FINISHED
    found = optimizer.recommendation()
    assert found is not None
    assert (found.confirmed, point(found.config)) == (True, ("y", 2))
    if limit.get("budget", math.inf) >= 24:  # there is money for all: each has been trained in full, once
        assert {point(t.config) for t in optimizer.trials.values() if t.final is not None} == set(new)
        assert len(new) == 12


def test_whole_runs_end_with_the_space() -> None:
    """Where nobody stops a trial."""
    optimizer = JoBSOptimizer(TWELVE, mode="min", max_t=MAX_T, num_trials=100, seed=0)
    seen = []
    while isinstance(asked := optimizer.ask(f"t{len(seen)}", full=True), Suggestion):
        train(optimizer, f"t{len(seen)}", asked.config, loss)
        seen.append(point(asked.config))
    assert len(seen) == len(set(seen)) == 12


def test_what_runs_is_waited_for_and_what_failed_is_tried_once_more() -> None:
    optimizer = JoBSOptimizer({"b": Integer(1, 3)}, mode="min", max_t=MAX_T, budget=8, seed=0)
    asked = [optimizer.ask(f"t{i}") for i in range(4)]
    assert asked[3] is None  # three run, and there is no fourth
    assert optimizer.next_kind() is None
    for i in range(3):
        optimizer.tell(f"t{i}", error=True)
    again = [optimizer.ask(f"u{i}") for i in range(4)]
    assert sorted(s.config["b"] for s in again if isinstance(s, Suggestion)) == [1, 2, 3]
    assert again[3] is None
    for i in range(3):
        optimizer.tell(f"u{i}", error=True)
    assert optimizer.ask("v") is FINISHED


def test_promotions_that_were_lost_are_tried_once_more() -> None:
    """Of 30 full runs 27 were left, and nothing confirmed."""
    optimizer, lost, number = JoBSOptimizer(TWELVE, mode="min", max_t=MAX_T, budget=30, seed=0), set(), 0
    while isinstance(asked := optimizer.ask(f"t{number}"), Suggestion):
        whole = asked.steps == MAX_T
        if whole and point(asked.config) not in lost:
            lost.add(point(asked.config))
            optimizer.tell(f"t{number}", error=True)
        else:
            train(optimizer, f"t{number}", asked.config, loss, start=optimizer.trials[f"t{number}"].start)
        number += 1
    found = optimizer.recommendation()
    assert found is not None
    assert (found.confirmed, point(found.config)) == (True, ("y", 2))
    assert len(lost) == 12


def test_observations_that_came_to_nothing_use_nothing_up() -> None:
    optimizer = JoBSOptimizer({"b": Integer(1, 3)}, mode="min", max_t=MAX_T, budget=8, seed=0)
    for b in (1, 2, 3):
        optimizer.add_observation({"b": b}, [(1.0, None)], complete=False)
    assert sorted(s.config["b"] for s in search(optimizer, curve=lambda c, t: c["b"] + 1 / t) if not s.promotes) == [
        1,
        2,
        3,
    ]


def test_given_points_outside_a_pool_are_tried_though_it_is_used_up() -> None:
    pool = [{"x": 0.1}, {"x": 0.2}]
    space = {"x": Real(0.0, 1.0)}
    optimizer = JoBSOptimizer(
        space, mode="min", max_t=MAX_T, budget=8, seed=0, candidates=pool, points_to_evaluate=[{"x": 0.5}]
    )
    for x in pool:
        optimizer.add_observation(x, [(1.0, 1.0)], complete=False)
    asked = optimizer.ask("a")
    assert isinstance(asked, Suggestion)
    assert asked.config == {"x": 0.5}


def test_a_chain_of_proposals_ends_with_the_space() -> None:
    optimizer = JoBSOptimizer(TWELVE, mode="min", max_t=MAX_T, budget=40, seed=0)
    for i in range(9):
        asked = optimizer.ask(f"t{i}")
        assert isinstance(asked, Suggestion)
        train(optimizer, f"t{i}", asked.config, loss)
    ahead, new = Lookahead(), []
    for i in range(20):
        asked = optimizer.propose(ahead=ahead)
        if not isinstance(asked, Suggestion):
            break
        optimizer.accept(f"u{i}", asked)
        new += [point(asked.config)] if asked.promotes is None else []
    before = {t.x for t in optimizer.trials.values() if t.trial_id.startswith("t")}
    assert len(set(new)) == len(new) == 12 - len(before)


def test_a_pool_is_used_up_the_same_way() -> None:
    pool = [{"x": 0.1 * i} for i in range(6)]
    optimizer = JoBSOptimizer({"x": Real(0.0, 1.0)}, mode="min", max_t=MAX_T, budget=40, seed=0, candidates=pool)
    asked = search(optimizer, curve=lambda config, t: (1.0 + abs(config["x"] - 0.3)) * (1.0 + t**-0.5))
    new = [s.config["x"] for s in asked if s.promotes is None]
    assert sorted(new) == [point["x"] for point in pool]
    assert optimizer.budget_spent <= 12.0
    assert [t.phase for t in optimizer.trials.values()].count(Phase.CONFIRM) >= 4
