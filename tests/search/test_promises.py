"""What a search promises, and expects to cost: never more than it has, and what it has seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_runs import MAX_T, loss, make, search, train

from jobs_ray import Decision, JoBSOptimizer, Phase, Real, Suggestion
from jobs_ray.models.prediction import CrossValidation, LastValuePredictor
from jobs_ray.search.promotion import is_promotable, promotable
from jobs_ray.trials import LearningCurve, Trial, TrialStatus


class TellsNothing(LastValuePredictor):
    """Says of itself, from a moment on, that prefixes tell nothing, so short runs are lengthened."""

    bad = False

    def fit(self, features: Any, curves: Any, max_t: float) -> TellsNothing:
        return self

    def cross_validate(self, t: float) -> CrossValidation:
        return CrossValidation(t=t, n=8, rmse=1.0, r2=-1.0 if TellsNothing.bad else 0.9, coverage=0.0)


def observe(optimizer: JoBSOptimizer) -> None:
    """Three full runs, so that the predictor stands."""
    for i in range(3):
        config = optimizer.space.decode(optimizer.space.sample(1, np.random.default_rng(i))[0])
        optimizer.add_observation(config, [(t, loss(config, t)) for t in range(1, 13)], complete=True)


def test_running_short_runs_are_lengthened_only_by_what_the_budget_has() -> None:
    TellsNothing.bad = False
    optimizer = make(budget=3.5, num_confirm=0, predictor=TellsNothing())
    observe(optimizer)
    names: list[str] = []
    while isinstance(asked := optimizer.ask(f"t{len(names)}"), Suggestion):  # all that the budget pays for, at once
        names.append(f"t{len(names)}")
        optimizer.report(names[-1], 1.0, loss(asked.config, 1.0))
    granted = [optimizer.trials[name].grant for name in names]
    assert optimizer.budget.left < 2.0 / MAX_T
    TellsNothing.bad = True
    for t in range(1, 13):
        for name in names:
            trial = optimizer.trials[name]
            if trial.running and optimizer.report(name, t, loss(trial.config, t)) is Decision.STOP:
                optimizer.tell(name)
            assert optimizer.budget.committed <= 3.5 + 1e-9
    assert [optimizer.trials[name].grant for name in names] == granted


def test_a_short_run_goes_on_to_the_end_only_if_the_budget_has_that() -> None:
    """A trial that was started anew has used up what was kept for a confirmation."""
    optimizer = make(budget=6.0, predictor=LastValuePredictor(), short_t=2.0)
    observe(optimizer)
    name = ""
    while not (name and optimizer.trials[name].phase is Phase.SEARCH):
        if name:
            train(optimizer, name, optimizer.trials[name].config, lambda config, t: 9.0 + loss(config, t))
        name = f"t{len(optimizer.trials)}"
        assert isinstance(optimizer.ask(name), Suggestion)
    others = [f"other{i}" for i in range(20) if isinstance(optimizer.ask(f"other{i}"), Suggestion)]
    for restarted in others * 11:
        if optimizer.budget.left > 9.5 / MAX_T:
            assert optimizer.report(restarted, 1.0, 9.0, restarted=True) is Decision.CONTINUE
    assert optimizer.budget.left < 9.5 / MAX_T
    assert optimizer.report(name, 1.0, 1.0) is Decision.CONTINUE
    assert optimizer.report(name, 2.0, 0.001) is Decision.STOP  # the best of all by far
    assert optimizer.budget.committed <= 6.0 + 1e-9


@pytest.mark.parametrize("num_trials", [6, 20])
def test_with_several_in_flight_the_last_of_a_number_of_trials_confirms_all_the_same(num_trials: int) -> None:
    asked = search(make(budget=None, num_trials=num_trials, predictor=LastValuePredictor()), workers=4)
    assert len(asked) == num_trials
    assert asked[-1].phase is Phase.CONFIRM


def test_an_observation_of_a_final_alone_does_not_make_every_run_a_whole_one() -> None:
    """`add_evaluated_point` gives such ones: one value, at max_t."""
    optimizer = make()
    config = optimizer.space.decode(optimizer.space.sample(1, np.random.default_rng(0))[0])
    optimizer.add_observation(config, [(MAX_T, loss(config, MAX_T))], complete=True)
    with_it, without = optimizer.ask("a"), make().ask("a")
    assert isinstance(with_it, Suggestion)
    assert isinstance(without, Suggestion)
    assert with_it.steps == without.steps
    assert with_it.steps is not None
    assert with_it.steps < MAX_T


def test_a_prediction_follows_the_curve_as_it_grows() -> None:
    """No full run has ended meanwhile."""
    optimizer = JoBSOptimizer(
        {"x": Real(0.0, 1.0)}, mode="min", max_t=12, budget=6, seed=0, predictor=LastValuePredictor()
    )
    for i in range(3):
        optimizer.add_observation({"x": 0.1 * i}, [(t, 2.0 / t + i) for t in range(1, 13)], complete=True)
    optimizer.ask("a")
    optimizer.amend("a", grant=12.0)
    for t in (1, 2, 3):
        optimizer.report("a", t, 5.0 - t)
        optimizer.propose()
        found = optimizer.prediction("a")
        assert found is not None
        assert found.mean[0] == pytest.approx(5.0 - t)


def test_an_extended_run_that_was_stopped_is_not_promoted() -> None:
    curve = LearningCurve((1.0, 2.0), (1.0, 1.0))
    search, confirm = (
        Trial("a", {}, (0.5,), p, 12.0, TrialStatus.STOPPED, curve) for p in (Phase.SEARCH, Phase.CONFIRM)
    )
    assert promotable([search]) == [search]
    assert promotable([confirm]) == []
    assert not is_promotable(confirm, [confirm])


def test_a_promotion_is_expected_to_cost_what_its_short_run_did() -> None:
    optimizer = JoBSOptimizer(
        {"x": Real(0.0, 1.0)}, mode="min", max_t=10, budget=1000, seed=0, short_t=2, cost_unit="s"
    )
    for name, rate in (("dear", 9.0), ("cheap", 1.0)):
        optimizer.accept(name, Suggestion({"x": 0.5 if name == "dear" else 0.4}, Phase.LEARN, 2.0))
        for t in (1, 2):
            optimizer.report(name, t, 1.0, rate * t)
        optimizer.tell(name)
    before = optimizer.budget.committed
    optimizer.accept("full", Suggestion({"x": 0.5}, Phase.CONFIRM, 10.0, promotes="dear"))
    assert optimizer.budget.committed - before == pytest.approx(90.0)


def test_a_promotion_is_expected_to_go_on_costing_what_it_costs_itself() -> None:
    optimizer = JoBSOptimizer(
        {"x": Real(0.0, 1.0)}, mode="min", max_t=10, budget=1000, seed=0, short_t=2, cost_unit="s"
    )
    optimizer.accept("short", Suggestion({"x": 0.5}, Phase.LEARN, 2.0))
    for t in (1, 2):
        optimizer.report("short", t, 1.0, 9.0 * t)
    optimizer.tell("short")
    optimizer.accept("full", Suggestion({"x": 0.5}, Phase.CONFIRM, 10.0, promotes="short"))
    optimizer.report("full", 1, 1.0, 4.0)  # on another machine
    assert optimizer.budget.committed - optimizer.budget.spent == pytest.approx(9 * 4.0)


def lockstep(budget: float, workers: int, max_t: int = 40) -> JoBSOptimizer:
    """A noisy accuracy that rises for every configuration; all trials in flight report in step."""
    rng = np.random.default_rng(1)
    space = {"x": Real(0, 1), "y": Real(0, 1)}
    optimizer = JoBSOptimizer(space, mode="max", max_t=max_t, budget=budget, seed=1)
    flying: dict[str, int] = {}
    while True:
        name = f"t{len(optimizer.trials)}"
        if len(flying) < workers and isinstance(optimizer.ask(name), Suggestion):
            flying[name] = 0
            continue
        if not flying:
            return optimizer
        for name in list(flying):
            flying[name] += 1
            rising = 0.5 + 0.1 * optimizer.trials[name].config["x"] * (1 - np.exp(-flying[name] / 10))
            if optimizer.report(name, flying[name], rising + 0.05 * rng.standard_normal()) is Decision.STOP:
                optimizer.tell(name)
                del flying[name]


@pytest.mark.parametrize(("budget", "workers"), [(3.0, 8), (4.0, 16)])
def test_something_is_confirmed_however_noisy(budget: float, workers: int) -> None:
    """Short runs in flight were lengthened with the money that LEARN's promotion was to cost; and a promotion was
    stopped as diverged at 38 of its 40 steps."""
    found = lockstep(budget, workers).recommendation()
    assert found is not None
    assert found.confirmed


def test_a_short_run_whose_first_report_came_late_is_promoted_with_what_is_left() -> None:
    """It costs less to go on with it than is usual; .96 of the budget was left, and nothing confirmed."""
    optimizer = JoBSOptimizer(
        {"x": Real(0, 1)}, mode="min", max_t=1000, budget=1.0, short_t=1.0, resume=True, seed=0, extend=False
    )
    while isinstance(optimizer.ask(name := f"t{len(optimizer.trials)}"), Suggestion):
        t = optimizer.trials[name].start
        while optimizer.report(name, t := t + 40.0, 1.0 + 1.0 / t) is Decision.CONTINUE and t < 1000:
            pass
        optimizer.note_checkpoint(name, t)
        optimizer.tell(name)
    found = optimizer.recommendation()
    assert found is not None
    assert found.confirmed
    assert optimizer.budget_spent <= 1.0 + 1e-9
