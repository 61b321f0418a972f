"""Rivals that are libraries: optuna and botorch are in the [bench] extra; the others are tested where they import."""

import numpy as np
import pytest

from benchmarks.box import Box
from benchmarks.methods import METHODS
from benchmarks.problems import make
from benchmarks.rivals_asked import Asked, Wish
from benchmarks.rivals_scheduled import Stopping
from benchmarks.simulate import Problem, simulate
from jobs_ray import Mixture, Real, SearchSpace


def test_box_draws_uniformly_from_the_simplex_and_within_every_bound():
    layout = make("mixing_law3", 0).drawn.layout
    box, space = Box(layout.space()), SearchSpace(layout.space())
    rng = np.random.default_rng(0)

    def draw():
        values = {}
        for d in box.dimensions:
            u = rng.random()
            if d.kind == "choice":
                values[d.name] = d.choices[rng.integers(len(d.choices))]
            elif d.kind == "int":
                values[d.name] = int(rng.integers(d.low, d.high + 1))
            else:
                values[d.name] = d.low * (d.high / d.low) ** u if d.log else d.low + u * (d.high - d.low)
        return box.config(values)

    configs = [draw() for _ in range(3000)]
    for config in configs[:50]:
        space.encode(config)  # raises on what the core does not accept
    weights = np.array([list(c["mixture"].values()) for c in configs])
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights.mean(0), 1 / 3, atol=0.02)
    np.testing.assert_allclose(weights.var(0), 2 / 9 / 4, atol=0.005)  # Dirichlet(1, 1, 1)


def test_box_keeps_bounds_and_scales():
    box = Box(make("mixing_law3", 0).drawn.layout.space())
    found = {
        d.name.removeprefix("model."): (d.kind, d.low, d.high, d.log) for d in box.dimensions if d.kind != "choice"
    }
    assert found["rank"] == ("int", 1, 128, True)
    assert found["lr"] == ("float", 1e-5, 1e-2, True)
    assert found["layers"] == ("int", 1, 32, False)


def test_box_refuses_what_it_cannot_express():
    with pytest.raises(ValueError, match="bounds of weights"):
        Box({"m": Mixture(["a", "b"], min=0.1)})


class Scripted(Asked):
    """Wishes for the given (u, goal) of a space with one dimension."""

    script: tuple[tuple[float, int], ...] = ()

    def __init__(self, problem, budget, seed):
        super().__init__(problem, budget, seed)
        self.todo, self.heard = list(self.script), []

    def wish(self):
        u, goal = self.todo.pop(0) if self.todo else (0.5, 25)
        return Wish(None, {"v": u}, goal)

    def told(self, wish, cost):
        self.heard.append((wish.values["v"], wish.goal, cost))


class OneNumber:
    def space(self, scope="all"):
        return {"v": Real(0.0, 1.0)}


def line(c):
    return c["v"] + 1 / np.arange(1.0, 26.0)


def test_longer_runs_resume_and_known_values_are_answered_from_memory():
    problem = Problem("line", "eval_loss", line, lambda c: c["v"], 0.0, None, 1.0, 25, OneNumber())
    rival = type("R", (Scripted,), {"script": ((0.2, 5), (0.2, 5), (0.3, 5), (0.2, 25))})(problem, 2, 0)
    trace = simulate(rival, problem, 2, parallel=1)
    assert trace.spent == pytest.approx(
        (5 + 5 + 20) / 25
    )  # the whole run that it wants next is too much for what is left
    assert rival.heard[:4] == [(0.2, 5, 0.4), (0.2, 5, 0.4), (0.3, 5, 0.5), (0.2, 25, pytest.approx(0.24))]
    assert rival.recommendation().config == {"v": 0.2}


def test_a_crash_costs_the_worst_seen_and_is_not_trained_longer_and_the_rest_pays_a_resumption():
    def curve(c):
        return np.where((np.arange(25) >= 3) & (c["v"] > 0.5), np.nan, line(c))

    problem = Problem("line", "eval_loss", curve, lambda c: c["v"], 0.0, None, 1.0, 25, OneNumber())
    rival = type("R", (Scripted,), {"script": ((0.2, 5), (0.9, 5), (0.9, 25), (0.2, 25))})(problem, 1.2, 0)
    trace = simulate(rival, problem, 1.2, parallel=1)
    assert rival.heard[:4] == [(0.2, 5, 0.4), (0.9, 5, 1.9), (0.9, 25, 1.9), (0.2, 25, pytest.approx(0.24))]
    assert trace.spent == pytest.approx((5 + 4 + 20) / 25)


@pytest.mark.parametrize("family", ["mixing_law3", "accuracy"])
def test_optuna_hears_the_metric_and_its_direction(family):
    problem = make(family, 0).problem
    rival = METHODS["optuna-tpe-sh"](problem, 5, 1)
    simulate(rival, problem, 5, seed=1)
    full = [run.last for run in rival.runs.values() if problem.max_t in run.values]
    assert rival.study.best_value == pytest.approx(problem.sign * max(full))


@pytest.mark.parametrize("method", ["optuna-tpe-hb", "optuna-tpe-sh", "optuna-gp", "botorch-ei", "botorch-ei-seq"])
def test_libraries_stay_within_the_budget_and_find_something(method):
    problem = make("diverging", 0).problem
    trace = simulate(METHODS[method](problem, 5, 1), problem, 5, seed=1)
    assert 4 < trace.spent <= 5
    assert trace.regret < 1.0


def test_regmix_trains_proxies_only_and_recommends_what_their_regression_predicts():
    problem = make("data_only", 0).problem
    rival = METHODS["regmix"](problem, 5, 1)
    trace = simulate(rival, problem, 5, seed=1)
    assert trace.spent == pytest.approx(5, abs=1 / 12)
    assert {max(run.values) for run in rival.runs.values()} == {2}
    found = rival.recommendation().config
    assert found not in [run.config for run in rival.runs.values()], "a prediction, not the luckiest proxy"
    assert trace.regret < 0.5


@pytest.mark.parametrize("method", ["jobs-under-asha", "optuna-under-asha", "random-under-asha"])
def test_searchers_under_asha_stay_within_the_budget(method):
    problem = make("mixing_law3", 0).problem
    rival = METHODS[method](problem, 4, 1)
    trace = simulate(rival, problem, 4, seed=1)
    assert 3 < trace.spent <= 4
    lengths = [max(run.values) for run in rival.runs.values()]
    assert set(lengths) <= {1, 4, 16, 25}
    assert {1, 25} <= set(lengths)
    assert trace.regret < 2.0


def test_a_rung_lets_the_best_quarter_pass():
    bracket = Stopping(25)
    assert [bracket.stops(1, value) for value in (1.0, 0.0, 2.0, 1.4, 1.6)] == [False, True, False, True, False]
    assert not bracket.stops(2, -9.0), "no rung"
    assert not bracket.stops(4, -9.0), "the first one there"
    assert not bracket.stops(25, -9.0), "the end is nobody's to stop"


def test_optuna_with_one_bracket_prunes_at_its_rungs_and_more_than_hyperband():
    problem = make("mixing_law3", 0).problem
    rival = METHODS["optuna-tpe-sh"](problem, 10, 1)
    simulate(rival, problem, 10, seed=1)
    lengths = [max(run.values) for run in rival.runs.values() if run.ended]
    assert set(lengths) <= {2, 6, 18, 25}
    assert lengths.count(2) + lengths.count(6) > len(lengths) / 2
    hyperband = METHODS["optuna-tpe-hb"](problem, 10, 1)
    simulate(hyperband, problem, 10, seed=1)
    assert len(rival.runs) > len(hyperband.runs)


@pytest.mark.parametrize("method", ["random", "gp-ei", "optuna-tpe-hb", "optuna-tpe-sh", "random-under-asha"])
def test_what_a_crash_gives_back_is_spent_though_all_of_the_budget_was_handed_out(method):
    rival = METHODS[method](make("mixing_law3", 0).problem, 2, 0)
    for name in "ab":
        assert rival.ask(name).config
    assert rival.ask("c") is None, "not finished while something is in flight"
    for name in "ab":
        rival.report(name, 1, float("nan"))
        rival.tell(name, error=True)
    assert rival.ask("c").config


def test_a_library_that_asks_for_what_is_known_waits_for_what_is_in_flight():
    problem = Problem("line", "eval_loss", line, lambda c: c["v"], 0.0, None, 1.0, 25, OneNumber())
    rival = type("R", (Scripted,), {"script": ((0.2, 5), (0.3, 5), *[(0.2, 5)] * 100)})(problem, 9, 0)
    for name in "ab":
        rival.ask(name)
    rival.report("a", 5, 0.4)
    rival.tell("a")
    assert rival.ask("c") is None
    assert rival.ask("c").config == {"v": 0.5}


def test_optuna_is_seeded():
    problem = make("mixing_law3", 0).problem
    one, two, other = (
        simulate(METHODS["optuna-tpe-hb"](problem, 5, seed), problem, 5, seed=seed).points for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other


@pytest.mark.parametrize(
    ("method", "module"),
    [("smac-mf", "smac"), ("dehb", "dehb"), ("neps-hyperband", "neps"), ("ax", "ax"), ("bohb", "hpbandster")],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # SMAC leaves its files open
def test_optional_libraries(method, module):
    pytest.importorskip(module)
    problem = make("mixing_law3", 0).problem
    trace = simulate(METHODS[method](problem, 5, 0), problem, 5)
    assert 3 < trace.spent <= 5
    assert trace.regret < 3
