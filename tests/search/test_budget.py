"""The ledger by hand, the paper's N*, and the split of the budget as properties: tuned shares are not asserted."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples

from jobs_ray.models.cost import InFullRuns
from jobs_ray.search.budget import (
    Allocation,
    Budget,
    allocate,
    first_short_t,
    ledger,
    optimal_num_full,
)
from jobs_ray.trials import LearningCurve, Phase, Trial, TrialStatus, TrialTable

MANY = examples(100)


def trial(*times: float, **kwargs: Any) -> Trial:
    curve = LearningCurve(tuple(times), tuple(1.0 for _ in times))
    return Trial(
        **({"trial_id": "a", "config": {}, "x": (), "phase": Phase.LEARN, "grant": 5.0, "curve": curve} | kwargs)
    )


def table(trials: list[Trial]) -> TrialTable:
    return TrialTable(replace(trial, trial_id=str(i)) for i, trial in enumerate(trials))


def walked(trials: list[Trial], max_t: float | None) -> tuple[float, float]:
    """The oracle: spent and committed, trial by trial."""
    spent = committed = 0.0
    for one in (t for t in trials if t.charged):
        cost = one.steps / max_t if max_t else float(bool(one.curve.last_t))
        outstanding = one.outstanding(max_t) / max_t if max_t else 1.0 - cost
        spent += cost
        committed += cost + (outstanding if one.running else 0.0)
    return spent, committed


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_by_hand() -> None:
    """max_t 10: .3 running (and .2 it may still take), .5 stopped, .2 failed after .4 wasted, .5 of a resumed one."""
    trials = [
        trial(1.0, 2.0, 3.0),
        trial(5.0, status=TrialStatus.STOPPED),
        trial(2.0, status=TrialStatus.FAILED, wasted=4.0),
        trial(5.0, 10.0, start=5.0, grant=10.0, status=TrialStatus.COMPLETED),
        trial(10.0, charged=False, status=TrialStatus.COMPLETED),
    ]
    money = ledger(table(trials), 4.0, InFullRuns(10.0))
    assert money.spent == pytest.approx(0.3 + 0.5 + 0.6 + 0.5)
    assert money.committed == pytest.approx(money.spent + 0.2)
    assert money.left == pytest.approx(4.0 - money.committed)


def test_an_overrun_is_charged() -> None:
    assert ledger(table([trial(7.0, status=TrialStatus.STOPPED)]), 4.0, InFullRuns(10.0)).spent == pytest.approx(0.7)
    assert trial(7.0).outstanding(10.0) == 0.0


@pytest.mark.parametrize(
    ("running", "expected"),
    [(trial(), 5.0), (trial(2.0), 3.0), (trial(grant=None), 10.0), (trial(4.0, start=4.0, grant=10.0), 6.0)],
)
def test_what_a_running_trial_may_still_take(running: Trial, expected: float) -> None:
    assert running.outstanding(10.0) == expected


def test_failed_reports_are_charged() -> None:
    failed = replace(trial(), curve=LearningCurve((1.0,), (2.0,), (2.0,)), status=TrialStatus.FAILED)
    assert ledger(table([failed]), None, InFullRuns(10.0)).spent == pytest.approx(0.2)


def test_without_a_length_every_trial_counts_one() -> None:
    money = ledger(table([trial(3.0, status=TrialStatus.STOPPED), trial(grant=None)]), 5.0, None)
    assert (money.spent, money.committed) == (1.0, 2.0)


@MANY
@given(
    st.lists(
        st.builds(
            trial,
            st.sampled_from([1.0, 3.0, 8.0]),
            status=st.sampled_from(TrialStatus),
            grant=st.sampled_from([None, 5.0, 10.0]),
            start=st.sampled_from([0.0, 1.0]),
            wasted=st.sampled_from([0.0, 2.0]),
            charged=st.booleans(),
        )
    ),
    st.sampled_from([None, 10.0]),
)
def test_the_ledger_agrees_with_a_walk_over_all_trials(trials: list[Trial], max_t: float | None) -> None:
    money = ledger(table(trials), 4.0, InFullRuns(max_t) if max_t else None)
    assert (money.spent, money.committed) == pytest.approx(walked(trials, max_t))


def test_a_budget_affords_exactly_what_is_left() -> None:
    tenths = Budget(1.0, 0.0, sum([0.1] * 9))
    assert tenths.affords(0.1)
    assert not tenths.affords(0.11)
    assert Budget(None, 5.0, 5.0).affords(1e9)
    assert Budget(1.0, 2.0, 2.0).left == 0.0


# -- the paper's bound ------------------------------------------------------------------------------------------------


@MANY
@given(
    budget=st.integers(1, 60),
    short_cost=st.floats(0.02, 0.9),
    dim=st.integers(1, 40),
    weight=st.floats(0.1, 10.0),
)
def test_n_star_minimises_the_bound(budget: int, short_cost: float, dim: int, weight: float) -> None:
    found = optimal_num_full(budget, short_cost, dim, predictor=weight)
    assert 1 <= found <= budget

    def bound(n: int) -> float:
        short = (budget - n) / short_cost
        search = math.sqrt(dim * math.log(1 + short) / short) if short > 0 else math.inf
        return search + weight / math.sqrt(n)

    assert bound(found) <= min(bound(n) for n in range(1, budget + 1)) * (1 + 1e-12)


def test_n_star_grows_with_the_budget_and_with_what_the_predictor_lacks() -> None:
    by_budget = [optimal_num_full(c, 0.16, 19) for c in (5, 10, 20, 40, 80)]
    assert by_budget == sorted(by_budget)
    assert by_budget[0] < by_budget[-1]
    by_weight = [optimal_num_full(40, 0.16, 19, predictor=w) for w in (0.3, 1.0, 3.0)]
    assert by_weight == sorted(by_weight)
    assert by_weight[0] < by_weight[-1]


@pytest.mark.parametrize("wrong", [(0.5, 0.1, 3), (10.0, 0.0, 3), (10.0, 1.0, 3), (10.0, 0.1, 0)])
def test_n_star_of_nonsense_is_refused(wrong: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="expected budget"):
        optimal_num_full(*wrong)


# -- the split --------------------------------------------------------------------------------------------------------


def cost(plan: Allocation, short: float, promotion: float, full: float) -> float:
    return (plan.learn_short + plan.search_short) * short + plan.confirm * promotion + plan.learn_full * full


@MANY
@given(
    budget=st.floats(1.0, 200.0),
    short=st.floats(0.01, 0.5),
    resume=st.booleans(),
    num_confirm=st.one_of(st.none(), st.integers(0, 30)),
)
def test_the_adaptive_plan_is_affordable_and_confirms(
    budget: float, short: float, resume: bool, num_confirm: int | None
) -> None:
    promotion = 1.0 - short if resume else 1.0
    plan = allocate(budget, None, short, promotion, num_confirm=num_confirm)
    assert min(vars(plan).values()) >= 0
    assert plan.learn_full >= 1
    assert plan.learn_short >= 1
    minimal = short + promotion  # one short run and its promotion, whatever the budget
    assert cost(plan, short, promotion, promotion) <= max(budget, minimal) + 1e-6
    if num_confirm is not None:
        assert plan.confirm <= num_confirm
    left = budget - plan.learn_full * promotion - plan.learn_short * short
    if num_confirm is None and left >= promotion:
        assert plan.confirm >= 1


@MANY
@given(budget=st.floats(1.0, 100.0), short=st.floats(0.01, 0.5), num_full=st.integers(1, 20))
def test_the_two_phases_of_the_paper_spend_first_on_full_runs(budget: float, short: float, num_full: int) -> None:
    plan = allocate(budget, None, short, 1.0, num_full=num_full)
    assert plan.learn_short == 0
    assert plan.learn_full == min(num_full, math.floor(budget + 1e-9))
    assert cost(plan, short, 1.0, 1.0) <= budget + 1e-6


@MANY
@given(num_trials=st.integers(1, 300), short=st.floats(0.01, 0.5))
def test_without_a_budget_the_unit_is_the_trial(num_trials: int, short: float) -> None:
    plan = allocate(None, num_trials, short, 1.0)
    assert sum(vars(plan).values()) <= max(num_trials, 2)
    assert plan.learn_full >= 1


@MANY
@example(budget=3.0, num_trials=12, short=0.125, num_confirm=None)  # just enough: half of them were given to LEARN
@given(
    budget=st.floats(2.0, 60.0), num_trials=st.integers(4, 300), short=st.floats(0.02, 0.5),
    num_confirm=st.none() | st.integers(0, 20),
)  # fmt: skip
def test_trials_that_do_not_suffice_are_taken_from_search_first(
    budget: float, num_trials: int, short: float, num_confirm: int | None
) -> None:
    whole = allocate(budget, None, short, 1.0 - short, num_confirm=num_confirm)
    plan = allocate(budget, num_trials, short, 1.0 - short, num_confirm=num_confirm)
    assert min(vars(plan).values()) >= 0
    assert all(part <= vars(whole)[name] for name, part in vars(plan).items())
    if whole.trials <= num_trials:
        assert plan == whole
    else:
        assert plan.trials == num_trials
        assert plan.confirm == whole.confirm or plan.confirm >= plan.search_short


def test_no_room_for_short_runs_is_no_error() -> None:
    plan = allocate(10.0, None, 1.0, 1.0)
    assert min(vars(plan).values()) >= 0
    assert cost(plan, 1.0, 1.0, 1.0) <= 10.0


@MANY
@given(search_short=st.integers(0, 100), confirm=st.integers(0, 30))
def test_confirmations_fall_due_evenly_and_all_of_them(search_short: int, confirm: int) -> None:
    plan = Allocation(8, 3, search_short, confirm)
    due = [plan.due(done) for done in range(search_short + 1)]
    assert due == sorted(due)
    assert due[-1] == confirm
    if search_short:
        assert due[0] == 0
        steps = [b - a for a, b in itertools.pairwise(due)]
        assert max(steps) - min(steps) <= 1


@MANY
@given(max_t=st.floats(0.01, 1e6), budget=st.one_of(st.none(), st.floats(1.0, 100.0)))
def test_a_short_run_is_shorter_than_a_full_one(max_t: float, budget: float | None) -> None:
    assert 0 < first_short_t(max_t, budget) < max_t


def test_short_runs_grow_with_the_budget() -> None:
    assert first_short_t(24.0, 5.0) < first_short_t(24.0, 40.0)


def test_a_large_budget_is_not_spent_on_random_runs() -> None:
    plan = allocate(1e6, None, 0.1, 1.0)
    assert plan.learn_short == 64
    assert plan.learn_full == 1
    assert plan.confirm > 1000
    assert allocate(40.0, None, 0.1, 1.0).learn_short == 40
