from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.data import to_config
from benchmarks.protocol import FINISHED, Decision, Phase, Suggestion
from benchmarks.simulate import Problem, pool_problem, simulate


def flat_problem(noise=0.0):
    """Configuration {"v": x} has the curve x + 1 / t and the regret x."""
    t = np.arange(1.0, 26.0)
    return Problem("flat", "eval_loss", lambda c: c["v"] + 1 / t, lambda c: c["v"], noise, None, 1.0)


class Script:
    """Asks from a list of (steps, resume_from); stops trials at the t given in `stop_at`."""

    def __init__(self, plan, stop_at=None):
        self.plan, self.stop_at, self.log, self.told = list(plan), stop_at or {}, [], []

    def ask(self, trial_id):
        if not self.plan:
            return FINISHED
        steps, resume = self.plan.pop(0)
        return Suggestion({"v": 0.5}, Phase.SEARCH, steps, resume)

    def report(self, trial_id, t, value):
        self.log.append((trial_id, t, value))
        return Decision.STOP if t >= self.stop_at.get(trial_id, 99) else Decision.CONTINUE

    def tell(self, trial_id, error=False):
        self.told.append(trial_id)

    def recommendation(self):
        return SimpleNamespace(config={"v": 0.25}) if self.told else None


def test_charges_by_hand():
    # two in flight: a short run of 2 and a full one stopped at 3; then the short run is resumed from 2 to 5
    script = Script([(2.0, None), (None, None), (5.0, "trial-0")], {"trial-1": 3})
    trace = simulate(script, flat_problem(), 10, parallel=2, every=0)
    assert [(name, t) for name, t, _ in script.log] == [
        ("trial-0", 1), ("trial-1", 1), ("trial-0", 2), ("trial-1", 2),
        ("trial-1", 3),
        ("trial-2", 3), ("trial-2", 4), ("trial-2", 5),
    ]  # fmt: skip
    assert script.told == ["trial-0", "trial-1", "trial-2"]
    assert trace.spent == pytest.approx(8 / 25)
    assert (trace.trials, trace.full_runs, trace.regret) == (3, 0, 0.25)
    assert trace.points[0] == (pytest.approx(2 / 25), 1.0)  # nothing recommended yet: the fallback


def test_a_dear_configuration_is_charged_more_and_a_method_that_counts_costs_is_told():
    script = Script([(2.0, None)] * 2)
    told = []
    script.settings = SimpleNamespace(cost_unit="runs")
    report = script.report
    script.report = lambda name, t, value, cost: told.append(cost) or report(name, t, value)
    problem = replace(flat_problem(), step_cost=lambda config: 2.5)
    trace = simulate(script, problem, 3, parallel=1)
    assert trace.spent == pytest.approx(4 * 2.5 / problem.max_t)
    assert told == pytest.approx([2.5 / problem.max_t, 5.0 / problem.max_t] * 2)


def test_values_are_the_curve_and_noise_is_seeded():
    def values(noise, seed):
        script = Script([(3.0, None)])
        simulate(script, flat_problem(noise), 1, seed=seed)
        return [v for _, _, v in script.log]

    np.testing.assert_allclose(values(0, 0), [1.5, 1.0, 0.5 + 1 / 3])
    assert values(0.1, 1) == values(0.1, 1)
    assert values(0.1, 1) != values(0.1, 2)


def test_training_stops_when_the_budget_is_spent():
    script = Script([(None, None)] * 9)
    trace = simulate(script, flat_problem(), 1.2, parallel=4)
    assert len(script.log) == 30
    assert trace.spent == pytest.approx(1.2)
    assert trace.full_runs == 0


def test_a_report_that_is_no_number_ends_its_trial_as_an_error():
    script, told = Script([(5.0, None)]), []
    script.tell = lambda name, error=False: told.append((name, error))
    trace = simulate(script, replace(flat_problem(), curve=lambda c: np.array([1.0, np.nan, *[1.0] * 23])), 1)
    assert told == [("trial-0", True)]
    assert trace.spent == pytest.approx(2 / 25)


@pytest.mark.parametrize(("grant", "reports"), [(4.0, 4), (None, 2), (99.0, 25)])
def test_a_trial_that_is_let_go_on_is_trained_on(grant, reports):
    script = Script([(2.0, None)])
    script.trials = {"trial-0": SimpleNamespace(grant=grant)}
    simulate(script, flat_problem(), 1)
    assert len(script.log) == reports


def test_parallel_bounds_the_trials_in_flight():
    script = Script([(2.0, None)] * 5)
    simulate(script, flat_problem(), 5, parallel=2)
    assert [name for name, _, _ in script.log[:4]] == ["trial-0", "trial-1"] * 2


def test_waiting_for_nothing_is_an_error():
    script = Script([])
    script.ask = lambda trial_id: None
    with pytest.raises(RuntimeError, match="nothing in flight"):
        simulate(script, flat_problem(), 1)


@pytest.mark.parametrize(("metric", "best"), [("eval_loss", np.argmin), ("performance", np.argmax)])
def test_pool(tasks, metric, best):
    problem = pool_problem(tasks[0], metric)
    finals = tasks[0].curves(metric)[:, -1]
    i = int(best(finals))
    assert problem.regret(problem.candidates[i]) == 0
    assert all(problem.regret(c) >= 0 for c in problem.candidates)
    np.testing.assert_array_equal(problem.curve(problem.candidates[7]), tasks[0].curves(metric)[7])
    foreign = to_config(tasks[1].rows[0])
    with pytest.raises(ValueError, match="configuration of the table"):
        problem.curve(foreign)
