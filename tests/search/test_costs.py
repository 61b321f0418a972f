"""A budget in what training costs: the ledger, what may be started, what is preferred, and what is unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from core_runs import MAX_T, as_json, loss, make, search
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from jobs_ray import FINISHED, Decision, JoBSOptimizer, Phase, Real, Suggestion
from jobs_ray.models.cost import Measured
from jobs_ray.trials import TrialStatus

MEAN = 5.0  # cost of a step of a middling configuration


def rate(config: Mapping[str, Any]) -> float:
    """Cost a step: eight times as much at the highest rank as at the lowest."""
    return MEAN * float((config["lora"]["r"] / 11.3) ** 0.43)


def costly(budget: float = 12.0, **kwargs: Any) -> JoBSOptimizer:
    """`budget` in mean full runs."""
    return make(**({"budget": budget * MAX_T * MEAN, "cost_unit": "seconds"} | kwargs))


def run(optimizer: JoBSOptimizer, name: str, config: Mapping[str, Any], every: float = 1.0) -> float:
    """Trains it until it is stopped; what it cost."""
    start = t = optimizer.trials[name].start
    while t < MAX_T:
        t += every
        if optimizer.report(name, t, loss(config, t), rate(config) * (t - start)) is Decision.STOP:
            break
    optimizer.tell(name)
    return rate(config) * (t - start)


def run_all(optimizer: JoBSOptimizer, prefix: str = "t") -> list[tuple[Suggestion, float]]:
    done = []
    for i in range(300):
        left = optimizer.budget.left
        answer = optimizer.ask(f"{prefix}{i}")
        if not isinstance(answer, Suggestion):
            assert answer is FINISHED
            return done
        paid = run(optimizer, f"{prefix}{i}", answer.config)
        done.append((answer, paid))
        if optimizer.trials[f"{prefix}{i}"].promotes:  # its own rate is known: no misprediction
            assert paid <= left + 1e-6
    raise AssertionError("no end")


@pytest.mark.parametrize("resume", [True, False])
def test_the_budget_is_spent_in_the_unit_of_the_costs(resume: bool) -> None:
    optimizer = costly(resume=resume)
    done = run_all(optimizer)
    total = optimizer.settings.budget
    assert total is not None
    assert optimizer.budget_spent == pytest.approx(sum(paid for _, paid in done))
    assert 0.8 * total < optimizer.budget_spent < 1.02 * total
    found, summary = optimizer.recommendation(), as_json(optimizer.summary())
    assert found is not None
    assert found.confirmed
    assert summary["budget"]["unit"] == "seconds"
    assert sum(summary["budget"]["by_phase"].values()) == pytest.approx(optimizer.budget_spent)
    assert sum(row["charged"] for row in summary["trials"]) == pytest.approx(optimizer.budget_spent)


def test_costs_are_predicted_from_the_configuration() -> None:
    optimizer = costly(20.0)
    run_all(optimizer)
    costs = optimizer.costs
    assert isinstance(costs, Measured)
    X = optimizer.space.sample(64, np.random.default_rng(5))
    true = np.array([rate(optimizer.space.decode(x)) for x in X])
    assert np.sqrt(np.mean(np.log(costs.at(X, 2.0) / (2.0 * true)) ** 2)) < 0.1
    assert np.std(np.log(true)) > 0.4


def test_equal_finals_at_an_eighth_of_the_cost_are_preferred() -> None:
    space = {"size": Real(0.0, 1.0), "x": Real(0.0, 1.0)}
    asked: dict[bool, list[float]] = {}
    for known in (False, True):
        options: dict[str, Any] = {"budget": 12.0 * MAX_T * 2.5, "cost_unit": "seconds"} if known else {"budget": 12.0}
        optimizer = JoBSOptimizer(space, mode="min", max_t=MAX_T, seed=0, **options)
        asked[known] = []
        for i in range(60):
            answer = optimizer.ask(f"t{i}")
            if not isinstance(answer, Suggestion):
                break
            config, phase = answer.config, answer.phase
            if phase is Phase.SEARCH:
                asked[known].append(config["size"])
            for t in range(1, int(MAX_T) + 1):
                value = (config["x"] - 0.3) ** 2 + 0.5 / t
                if optimizer.report(f"t{i}", t, value, t * 8.0 ** config["size"]) is Decision.STOP:
                    break
            optimizer.tell(f"t{i}")
    assert np.mean(asked[True]) < np.mean(asked[False]) - 0.1


def test_before_any_cost_is_known_eight_short_runs_are_started_and_no_more() -> None:
    optimizer = costly(3.0)
    answers = [optimizer.ask(f"t{i}") for i in range(12)]
    assert [isinstance(answer, Suggestion) for answer in answers] == [True] * 8 + [False] * 4
    assert {answer.steps for answer in answers if isinstance(answer, Suggestion)} == {2.0}
    assert optimizer.plan() is None
    assert (optimizer.budget.spent, optimizer.budget.committed) == (0.0, 0.0)
    optimizer.report("t0", 1.0, 2.0, MEAN)
    assert optimizer.plan() is not None
    assert optimizer.budget.spent == MEAN
    assert optimizer.budget.committed == pytest.approx(8 * 2 * MEAN)  # as the only one that is known


def test_full_runs_of_unknown_cost_are_started_one_by_one() -> None:
    optimizer = costly(3.0)
    assert isinstance(optimizer.ask("a", full=True), Suggestion)
    assert optimizer.ask("b", full=True) is None
    optimizer.report("a", 1.0, 2.0, MEAN)
    assert isinstance(optimizer.ask("c", full=True), Suggestion)


@pytest.mark.parametrize("cost", [None, math.nan, math.inf, -1.0, "much"])
def test_whoever_reports_no_cost_ends_the_search_early_and_does_not_train_for_nothing(cost: Any) -> None:
    optimizer = costly(3.0)
    for i in range(8):
        assert isinstance(optimizer.ask(f"t{i}"), Suggestion)
        optimizer.report(f"t{i}", 2.0, 2.0 + i, cost)
        optimizer.tell(f"t{i}")
    assert optimizer.ask("more") is FINISHED
    assert optimizer.recommendation() is not None


def test_a_trial_that_reports_no_cost_is_charged_what_the_others_cost() -> None:
    optimizer = costly(3.0)
    for name in "ab":
        optimizer.ask(name)
    optimizer.report("a", 2.0, 2.0, 2.0 * MEAN)
    optimizer.report("b", 2.0, 2.0)
    assert optimizer.budget.spent == pytest.approx(4.0 * MEAN)


def test_what_costs_more_than_is_left_is_not_started() -> None:
    """Rank 128 costs eight times rank 1; a full run of the mean would still be affordable."""
    optimizer = costly(4.0)
    run_all(optimizer)
    money, costs = optimizer.budget, optimizer.costs
    assert costs is not None
    assert optimizer.propose() is FINISHED
    assert money.left < costs.full * 1.5


def test_wrong_settings_say_what_is_expected() -> None:
    with pytest.raises(ValueError, match="max_t must be set with cost_unit"):
        make(cost_unit="seconds", max_t=None)
    with pytest.raises(ValueError, match="budget must be above 0 seconds"):
        make(cost_unit="seconds", budget=0)
    with pytest.raises(ValueError, match="cost_unit must be a name"):
        make(cost_unit="")
    assert make(cost_unit="dollars", budget=0.25).settings.unit == "dollars"


def test_a_state_keeps_the_costs_and_one_without_them_loads() -> None:
    optimizer = costly(6.0)
    for i in range(10):
        answer = optimizer.ask(f"t{i}")
        assert isinstance(answer, Suggestion)
        run(optimizer, f"t{i}", answer.config)
    state = as_json(optimizer.state_dict())
    fresh = costly(1.0)
    fresh.load_state_dict(state)
    assert fresh.budget == optimizer.budget
    assert fresh.propose() == optimizer.propose()
    plain = make()
    search(plain, most=4)
    old = as_json(plain.state_dict())
    del old["settings"]["cost_unit"]
    for record in old["trials"]:
        del record["meter"]
    again = make()
    again.load_state_dict(old)
    assert again.budget == plain.budget


OPERATIONS = ["ask", "ask", "report", "report", "report", "again", "restart", "error", "end", "reload"]


@examples(60)
@given(
    ops=st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 10**6)), min_size=5, max_size=50),
    resume=st.booleans(),
    counter=st.sampled_from(["process", "checkpoint"]),
)
def test_the_ledger_is_the_sum_of_what_was_paid(ops: list[tuple[str, int]], resume: bool, counter: str) -> None:
    """Against a book-keeper: any sequence of reports, restarts, promotions, errors and reloads."""
    optimizer = costly(6.0, resume=resume)
    paid: dict[str, float] = {}
    reading: dict[str, float] = {}
    at: dict[str, float] = {}
    for number, (op, n) in enumerate(ops):
        running = [name for name in paid if optimizer.trials[name].running]
        if op == "ask" or not running:
            name = f"t{number}"
            if isinstance(optimizer.ask(name), Suggestion):
                paid[name] = reading[name] = 0.0
                at[name] = optimizer.trials[name].start
            continue
        name = running[n % len(running)]
        trial = optimizer.trials[name]
        price, began = rate(trial.config), trial.start
        if op == "reload":
            state = as_json(optimizer.state_dict())
            optimizer = costly(2.0)
            optimizer.load_state_dict(state)
        elif op in ("error", "end"):
            optimizer.tell(name, error=op == "error")
        elif op == "again":
            if at[name] > began:
                optimizer.report(name, at[name], 1.0, reading[name])
        else:
            restarted = op == "restart" and at[name] > began
            if restarted:  # from the checkpoint of an earlier report, or anew
                at[name] = began + (n % int(at[name] - began + 1))
                reading[name] = 0.0 if counter == "process" else price * (at[name] - began)
            at[name], reading[name] = at[name] + 1.0, reading[name] + price
            paid[name] += price
            optimizer.report(name, at[name], 1.0 + n % 7, reading[name], restarted=restarted)
            assert optimizer.trials[name].start == began
        assert optimizer.budget_spent == pytest.approx(sum(paid.values()))
        assert optimizer.budget.committed >= optimizer.budget.spent
    for name, cost in paid.items():
        assert optimizer.trials[name].meter.cost == pytest.approx(cost)
        assert optimizer.trials[name].status in TrialStatus
