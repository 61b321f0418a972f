from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from benchmarks.data import Task, random_rows, to_row
from benchmarks.protocol import FINISHED
from benchmarks.rivals import ASHA, RandomFullRuns, SuccessiveHalving, rescaled
from benchmarks.rivals_gp import GPEI, log_expected_improvement
from benchmarks.simulate import pool_problem, simulate


@pytest.fixture(scope="module")
def parallel_pool():
    """Curves that never cross: row i is everywhere the (i + 1)-th best."""
    rows = random_rows(100, np.random.default_rng(0))
    loss = 1 + np.arange(100)[:, None] / 100 + 1 / np.arange(1, 26)
    return pool_problem(Task("parallel", rows, loss, 1 - loss / 3), "eval_loss")


@pytest.mark.parametrize("rival", [RandomFullRuns, SuccessiveHalving, ASHA, GPEI])
@pytest.mark.parametrize("budget", [5, 10])
def test_no_rival_overspends_or_runs_a_configuration_twice(rival, budget, parallel_pool):
    method = rival(parallel_pool, budget, 0)
    trace = simulate(method, parallel_pool, budget)
    assert trace.spent <= budget
    assert trace.spent > 0.9 * budget
    assert sum((max(r.values) - r.start) for r in method.runs.values()) == round(trace.spent * 25)
    started = [to_row(r.config).tobytes() for r in method.runs.values() if r.start == 0]
    assert len(set(started)) == len(started)


def test_random_full_runs(parallel_pool):
    trace = simulate(RandomFullRuns(parallel_pool, 5.9, 0), parallel_pool, 5.9)
    assert (trace.trials, trace.full_runs, trace.spent) == (5, 5, 5.0)


def test_halving_plan_fits_the_budget_by_hand():
    problem = pool_problem(Task("p", random_rows(100, np.random.default_rng(1)), np.ones((100, 25)),
                                np.ones((100, 25))), "eval_loss")  # fmt: skip
    method = SuccessiveHalving(problem, 5, 0)
    # 125 reports, 31 a rung: 31 // 17 = 1 to the end, 31 // 5 = 6 to t = 8, 31 // 2 = 15 to t = 3, and
    # 125 - 17 - 30 - 30 = 48 at t = 1
    assert (method.rungs, method.sizes) == ((1, 3, 8, 25), (48, 15, 6, 1))
    assert SuccessiveHalving(problem, 20, 0).sizes == (100, 62, 25, 8)  # the pool of 100 is used up: the rest on top
    with pytest.raises(ValueError, match="too few"):
        SuccessiveHalving(problem, 0.5, 0)


def test_halving_finds_the_best_of_its_first_rung_when_curves_do_not_cross(parallel_pool):
    method = SuccessiveHalving(parallel_pool, 5, 3)
    trace = simulate(method, parallel_pool, 5)
    assert trace.full_runs == 1
    seen = min(parallel_pool.regret(r.config) for r in method.runs.values())
    assert trace.regret == seen


def test_asha_promotes_the_best_third(parallel_pool):
    method = ASHA(parallel_pool, 10, 0)
    simulate(method, parallel_pool, 10)
    ran = list(method.runs.values())
    at = {goal: [r for r in ran if r.goal == goal] for goal in ASHA.rungs}
    assert all(len(at[goal]) > 0 for goal in ASHA.rungs)
    # a promoted trial may fall out of the best third later, so there can be somewhat more than a third
    assert len(at[2]) // 3 <= len(at[6]) <= len(at[2]) // 2
    assert len(at[25]) <= len(at[6]) // 2
    assert {r.start for r in at[6]} == {2}
    assert {r.start for r in at[25]} == {6}
    finals = [parallel_pool.regret(r.config) for r in at[25]]
    assert parallel_pool.regret(method.recommendation().config) == min(finals)
    assert np.mean(finals) < np.mean([parallel_pool.regret(r.config) for r in at[2]]) / 2


def test_asha_promotes_nothing_before_three_have_ended(parallel_pool):
    method = ASHA(parallel_pool, 10, 0)
    for i, value in enumerate((1.2, 1.1, 1.3)):
        assert method.ask(f"t{i}").steps == 2
        method.report(f"t{i}", 2, value)
        method.tell(f"t{i}")
    promoted = method.ask("t3")
    assert (promoted.steps, promoted.resume_from) == (6, "t1")


def test_rungs_are_the_same_shares_of_any_run():
    assert rescaled((2, 6, 25), 20) == (2, 5, 20)
    assert rescaled((2, 6, 25), 5) == (1, 5)
    assert rescaled((1, 3, 8, 25), 200) == (8, 24, 64, 200)


def test_gp_ei_takes_a_crash_for_the_worst_and_begins_its_search_at_the_best(parallel_pool):
    method, given = GPEI(replace(parallel_pool, candidates=None), 10, 0), {}
    method.score = lambda rows, y, pending: given.update(rows=rows, y=y, pending=pending)
    method.maximise = lambda score, best: given.update(best=best) or best[0]
    for i, value in enumerate((1.2, 1.1, 1.4, 1.3, np.nan)):
        method.ask(f"t{i}")
        t = 25 if np.isfinite(value) else 3
        method.report(f"t{i}", t, value)
        method.tell(f"t{i}", error=t == 3)
    method.begin("pending", method.runs["t0"].config, 25)
    method.ask("next")
    assert given["y"].tolist()[:4] == [-1.2, -1.1, -1.4, -1.3]
    assert given["y"][4:].tolist() == [-1.4]
    assert len(given["pending"]) == 1
    np.testing.assert_array_equal(given["best"], given["rows"][[1, 0, 3]])


def test_recommendation_prefers_a_full_run_to_a_better_looking_short_one(parallel_pool):
    method = ASHA(parallel_pool, 10, 0)
    good, bad = parallel_pool.candidates[0], parallel_pool.candidates[50]
    assert method.recommendation() is None
    method.begin("short", good, 2)
    method.report("short", 1, 1.0)
    assert method.recommendation().config is good
    method.begin("full", bad, 25)
    method.begin("crashed", parallel_pool.candidates[9], 25)
    method.report("crashed", 25, np.nan)
    assert method.recommendation().config is good, "a full run that crashed is none"
    method.report("full", 25, 1.5)
    assert method.recommendation().config is bad


def test_log_expected_improvement_matches_the_integral():
    mean, sd, best = np.array([0.3, -1.0, 2.0]), np.array([0.5, 0.4, 0.1]), 0.6
    for m, s, got in zip(mean, sd, log_expected_improvement(mean, sd, best), strict=True):
        want, _ = quad(lambda y, m=m, s=s: (y - best) * norm.pdf(y, m, s), best, max(best, m) + 12 * s)
        assert np.exp(got) == pytest.approx(want, rel=1e-5)
    tail = log_expected_improvement(np.array([-20.0, -30.0]), np.ones(2), 0.0)
    assert np.isfinite(tail).all()
    assert tail[0] > tail[1]


def test_gp_ei_beats_random_on_the_pool(tasks):
    problem = pool_problem(tasks[0], "eval_loss")

    def mean(rival):
        return np.mean([simulate(rival(problem, 15, s), problem, 15, seed=s).regret for s in range(6)])

    assert mean(GPEI) < 0.6 * mean(RandomFullRuns)


def test_a_pool_that_is_used_up_ends_the_search(tasks):
    small = Task("small", tasks[0].rows[:6], tasks[0].eval_loss[:6], tasks[0].performance[:6])
    problem = pool_problem(small, "eval_loss")
    for rival in (RandomFullRuns, GPEI):
        method = rival(problem, 20, 0)
        trace = simulate(method, problem, 20)
        assert (trace.trials, trace.regret) == (6, 0.0)
        assert method.ask("more") is FINISHED
