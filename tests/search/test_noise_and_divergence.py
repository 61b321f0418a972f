"""What the search learns from the curves themselves: noise, and promotions that diverge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from core_runs import make, search, train

from jobs_ray import FINISHED, Decision, JoBSOptimizer, Mixture, Phase, Real, Suggestion
from jobs_ray.models.fitting import ModelCache, fit_models
from jobs_ray.search.budget import allocate, confirm_share
from jobs_ray.search.promotion import safest
from jobs_ray.trials import TrialStatus

RUN = 25.0
UNIT: Mapping[str, Any] = {"x": Real(0.0, 1.0), "y": Real(0.0, 1.0)}


def plateau(config: Mapping[str, Any], t: float) -> float:
    """An accuracy that leaves chance level after a third of a run."""
    rise = 1.0 / (1.0 + np.exp(-(t - 9.0) / 1.5))
    return float(0.25 + (0.5 - (config["x"] - 0.4) ** 2 - 0.3 * config["y"]) * rise)


def noisy(sd: float, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return lambda config, t: plateau(config, t) + sd * float(rng.normal())


def accuracies(**kwargs: Any) -> JoBSOptimizer:
    return JoBSOptimizer(**({"space": UNIT, "mode": "max", "max_t": RUN, "budget": 12.0, "seed": 1} | kwargs))


def test_noise_lengthens_short_runs_up_to_half_a_run_and_says_what_it_leaves_of_a_final() -> None:
    optimizer = accuracies()
    search(optimizer, curve=noisy(0.04), end=RUN)
    plan = optimizer.plan()
    assert plan is not None
    assert 3.0 < plan["short_t"] <= RUN / 2.0
    found = optimizer.recommendation()
    assert found is not None
    assert found.confirmed
    assert found.stddev is not None
    assert 0.005 < found.stddev < 0.04
    finals = [t.final for t in optimizer.trials.values() if t.final is not None]
    assert found.mean < max(finals)  # not the luckiest last report


def test_without_noise_nothing_is_lengthened_and_a_final_is_what_was_reported() -> None:
    optimizer = make(budget=8.0)
    search(optimizer)
    plan, found = optimizer.plan(), optimizer.recommendation()
    assert plan is not None
    assert plan["short_t"] == 2.0
    assert found is not None
    assert (found.stddev, found.mean) == (0.0, -max(t.final for t in optimizer.trials.values() if t.final is not None))


def test_a_short_length_that_was_given_stays() -> None:
    optimizer = accuracies(short_t=4.0)
    asked = search(optimizer, curve=noisy(0.04), end=RUN)
    assert {s.steps for s in asked} == {4.0, RUN}


def late_divergence(config: Mapping[str, Any], t: float) -> float:
    """The larger x the faster it falls at first; above .6 it climbs from a fifth of a run on."""
    fall = 2.0 - config["x"] + 0.2 * config["y"] + 0.5 * t**-0.5
    return float(fall + 0.4 * max(config["x"] - 0.6, 0.0) * max(t - 5.0, 0.0))


def test_a_promotion_that_diverges_is_stopped_and_another_one_is_owed() -> None:
    optimizer = JoBSOptimizer(UNIT, mode="min", max_t=RUN, budget=10.0, seed=0, resume=True)
    search(optimizer, curve=late_divergence, end=RUN)
    trials = optimizer.trials.values()
    stopped = [t for t in trials if t.promotes and t.status is TrialStatus.STOPPED]
    assert stopped
    assert all(3.0 < t.curve.last_t < RUN for t in stopped)
    assert sum(t.completed for t in trials) >= 2
    found = optimizer.recommendation()
    assert found is not None
    assert found.config["x"] < 0.75  # the best at first are at 1
    assert optimizer.budget.spent <= 10.0 + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_a_promotion_that_falls_back_behind_its_own_short_run_is_stopped_at_once(seed: int) -> None:
    """Long before it is worse than the worst; what it did not train confirms another one, also with a small budget."""
    optimizer = JoBSOptimizer(UNIT, mode="min", max_t=RUN, budget=5.0, seed=seed, resume=True)
    search(optimizer, curve=slow_divergence, end=RUN)
    trials = optimizer.trials
    stopped = [t for t in trials.values() if t.promotes and t.status is TrialStatus.STOPPED]
    for trial in stopped:
        short = trials[str(trial.promotes)].curve.value[-1]
        assert max(trial.curve.value[-2:]) < short
        assert max(trial.curve.value[-3:]) >= short or trial.curve.t[-3] <= 6.0
    found = optimizer.recommendation()
    assert found is not None
    assert found.confirmed
    assert stopped or found.config["x"] < 0.75


def slow_divergence(config: Mapping[str, Any], t: float) -> float:
    """The larger x the faster it falls at first; above .6 it climbs, and is still among the better ones at the end."""
    fall = 2.0 - config["x"] + 0.2 * config["y"] + 0.5 * t**-0.5
    return float(fall + 0.06 * max(config["x"] - 0.6, 0.0) * max(t - 5.0, 0.0))


def test_while_nothing_is_confirmed_the_next_promotion_is_unlike_what_diverged_and_does_not_fall_already() -> None:
    optimizer = JoBSOptimizer(UNIT, mode="min", max_t=RUN, budget=20.0, short_t=3, seed=0, resume=True)
    runs = {
        0.2: (2.9, 2.8, 2.7),
        0.4: (2.8, 2.7, 2.6),
        0.8: (2.2, 2.1, 2.0),
        0.82: (2.1, 2.0, 1.9),
        0.1: (2.5, 1.5, 1.6),
    }
    for x, values in runs.items():
        name = f"short at {x}"
        optimizer.accept(name, Suggestion({"x": x, "y": 0.5}, Phase.LEARN, 3.0))
        for t, value in enumerate(values, 1):
            optimizer.report(name, t, value)
        optimizer.tell(name)
    trials = list(optimizer.trials.values())
    assert safest(optimizer.space, trials, trials) == trials
    optimizer.accept("diverged", Suggestion({"x": 0.82, "y": 0.5}, Phase.LEARN, RUN, resume_from="short at 0.82"))
    for t in range(4, 10):
        optimizer.report("diverged", t, 2.0 + t)
    optimizer.tell("diverged")
    trials = list(optimizer.trials.values())
    rivals = [t for t in trials if t.trial_id.startswith("short") and t.trial_id != "short at 0.82"]
    assert [t.trial_id for t in safest(optimizer.space, trials, rivals)] == ["short at 0.2", "short at 0.4"]
    found = optimizer.recommendation()
    assert found is not None
    assert found.trial_id == "short at 0.4"
    optimizer.accept("full", Suggestion({"x": 0.3, "y": 0.5}, Phase.LEARN, RUN))
    for t in range(1, 26):
        optimizer.report("full", t, 3.0 - 0.02 * t)
    optimizer.tell("full")
    trials = list(optimizer.trials.values())
    assert safest(optimizer.space, trials, rivals) == rivals  # expected improvement decides


def test_what_fell_back_is_as_bad_as_what_failed_for_the_surrogate() -> None:
    optimizer = JoBSOptimizer(UNIT, mode="min", max_t=RUN, budget=20.0, short_t=3, seed=0, resume=True)
    for i, x in enumerate([0.1, 0.2, 0.3, 0.5, 0.9]):
        optimizer.accept(f"short{i}", Suggestion({"x": x, "y": 0.5}, Phase.LEARN, 3.0))
        for t in (1, 2, 3):
            optimizer.report(f"short{i}", t, 3.0 - x - 0.1 * t)
        optimizer.tell(f"short{i}")
    optimizer.accept("promotion", Suggestion({"x": 0.9, "y": 0.5}, Phase.LEARN, RUN, resume_from="short4"))
    for t in range(4, 10):
        optimizer.report("promotion", t, 2.0)
    before = models_of(optimizer).posterior(np.array([optimizer.trials["short4"].x]))[0]
    optimizer.tell("promotion")
    models = models_of(optimizer)
    assert "promotion" not in models.values
    assert models.posterior(np.array([optimizer.trials["short4"].x]))[0] < before
    assert models.posterior(np.array([optimizer.trials["short4"].x, optimizer.trials["short3"].x]))[0].argmax() == 1


def models_of(optimizer: JoBSOptimizer) -> Any:
    policy, trials = optimizer._policy, optimizer._trials
    return fit_models(policy.space, trials.recalled(), policy.predictor, RUN, ModelCache(), policy.hooks)


def test_one_that_only_falls_more_slowly_than_others_is_not_stopped() -> None:
    optimizer = make(budget=8.0)
    search(optimizer)
    assert all(t.completed for t in optimizer.trials.values() if t.promotes)


def test_before_the_predictor_stands_a_run_that_got_worse_counts_as_what_it_became() -> None:
    """Its first reports were the best of all; its neighbours must not be promoted for theirs."""
    optimizer = JoBSOptimizer(UNIT, mode="min", max_t=RUN, budget=20.0, seed=0)
    for i, x in enumerate([0.1, 0.2, 0.3, 0.5]):
        optimizer.add_observation({"x": x, "y": 0.5}, [(1, 3.0 - x), (2, 2.8 - x), (3, 2.7 - x)], complete=False,
                                  trial_id=f"short{i}")  # fmt: skip
    optimizer.add_observation(
        {"x": 0.9, "y": 0.5}, [(1, 2.0), (3, 1.5), (10, 5.0), (25, 8.0)], complete=True, trial_id="diverged"
    )
    optimizer.add_observation({"x": 0.92, "y": 0.5}, [(1, 2.0), (3, 1.5)], complete=False, trial_id="neighbour")
    trials, models = optimizer.trials, models_of(optimizer)
    assert models.values["diverged"][0] == -8.0
    assert models.values["neighbour"][0] == -1.5
    mean, _ = models.posterior(np.array([trials["neighbour"].x, trials["short3"].x]))
    assert mean[0] < mean[1]


def test_promotions_that_end_at_once_are_not_repeated_for_ever() -> None:
    """The training ends by itself at 12, the user said 25: a promotion from there costs nothing and brings nothing."""
    optimizer = JoBSOptimizer(UNIT, mode="min", max_t=RUN, budget=10.0, short_t=12, seed=0, resume=True)
    asked = search(optimizer, curve=late_divergence, end=12.0)
    promoted = [t.promotes for t in optimizer.trials.values() if t.promotes]
    assert len(promoted) == len(set(promoted))
    assert not set(promoted) & {t.trial_id for t in optimizer.trials.values() if t.promotes}
    assert len(asked) < 100


def test_a_confirmation_that_failed_is_owed_again() -> None:
    optimizer = make(budget=10.0)
    failed = 0
    for i in range(200):
        suggestion = optimizer.ask(name := f"t{i}")
        if suggestion is FINISHED:
            break
        if suggestion.phase is Phase.CONFIRM and failed < 2:  # type: ignore[union-attr]
            failed += 1
            optimizer.report(name, 1.0, 3.0)
            optimizer.tell(name, error=True)
            continue
        train(optimizer, name, suggestion.config, start=optimizer.trials[name].start)  # type: ignore[union-attr]
    plan = optimizer.plan()
    assert plan is not None
    confirmed = [t for t in optimizer.trials.values() if t.phase is Phase.CONFIRM and t.completed]
    assert failed == 2
    assert len(confirmed) >= plan["confirm"]


def test_the_first_runs_are_uniform_and_sparse_in_turns() -> None:
    space = {"mixture": Mixture([f"d{i}" for i in range(8)])}
    optimizer = JoBSOptimizer(space, mode="min", max_t=RUN, budget=16.0, seed=3)
    largest = []
    for i in range(16):
        suggestion = optimizer.ask(f"t{i}")
        largest.append(max(suggestion.config["mixture"].values()))  # type: ignore[union-attr]
        optimizer.report(f"t{i}", 3.0, 1.0 + 0.01 * i)
        optimizer.tell(f"t{i}")
    assert np.median(largest[::2]) < 0.5 < np.median(largest[1::2])


def test_the_larger_the_budget_the_larger_the_share_of_confirmations() -> None:
    shares = [confirm_share(budget) for budget in (3, 5, 10, 20, 40, 100)]
    assert shares == sorted(shares)
    assert shares[0] >= 0.2
    assert shares[-1] <= 0.5
    for budget in (3.0, 5.0, 10.0, 20.0, 40.0):
        plan = allocate(budget, None, 0.12, 0.88)
        cost = plan.learn_short * 0.12 + plan.learn_full * 0.88 + plan.search_short * 0.12 + plan.confirm * 0.88
        assert plan.confirm >= 1
        assert cost <= budget + 1e-9


def test_a_report_of_a_promotion_stops_it_only_at_the_second_bad_value() -> None:
    optimizer = JoBSOptimizer(UNIT, mode="min", max_t=RUN, budget=20.0, seed=0)
    for i in range(60):
        suggestion = optimizer.ask(name := f"t{i}")
        if suggestion is not FINISHED and suggestion is not None and optimizer.trials[name].promotes:  # type: ignore[union-attr]
            break
        for t in (1.0, 2.0, 3.0, 4.0):
            if optimizer.report(name, t, 3.0 - 0.1 * t + 0.01 * (i % 7)) is Decision.STOP:
                break
        optimizer.tell(name)
    else:
        pytest.fail("nothing was promoted")
    for t in (1.0, 2.0, 4.0, 5.0):  # from scratch, and slower than the others: nothing is known yet
        assert optimizer.report(name, t, 9.0) is Decision.CONTINUE
    assert optimizer.report(name, 8.0, 2.5) is Decision.CONTINUE
    assert optimizer.report(name, 9.0, 9.0) is Decision.CONTINUE  # one spike
    assert optimizer.report(name, 10.0, 9.0) is Decision.STOP
    optimizer.tell(name)
    assert optimizer.trials[name].status is TrialStatus.STOPPED


@pytest.mark.parametrize("seed", [0, 2])
def test_runs_that_are_lengthened_leave_what_the_confirmations_cost(seed: int) -> None:
    """64 at once went on for twice as long each, and with 5 full runs nothing was left to confirm any of them."""
    optimizer = accuracies(budget=5.0, seed=seed, resume=True)
    search(optimizer, curve=noisy(0.04, seed), end=RUN, workers=64)
    assert sum(t.completed for t in optimizer.trials.values()) == 2  # LEARN's promotion and a confirmation


def test_a_plan_that_shrinks_takes_no_search_from_the_search() -> None:
    """Twice as long, half as many: LEARN's random runs beyond the new plan were booked as all of SEARCH's."""
    optimizer = accuracies(budget=5.0, seed=0, resume=True)
    asked = search(optimizer, curve=noisy(0.04), end=RUN)
    plan = optimizer.plan()
    assert plan is not None
    assert plan["learn_short"] < 8
    assert sum(s.phase is Phase.SEARCH for s in asked) == plan["search_short"]


@pytest.mark.parametrize("every", [1.0, 2.0])
def test_runs_that_noise_lengthens_end_where_trials_report(every: float) -> None:
    """Half of 25 is none of their times: one that stood at 12 went on to 13."""
    optimizer = accuracies(seed=0)
    search(optimizer, curve=noisy(0.04), every=every, end=RUN, workers=4)
    ends = {t.curve.last_t for t in optimizer.trials.values() if t.status is TrialStatus.STOPPED}
    assert max(ends) >= 2.0 * min(ends)
    assert max(ends) <= RUN / 2.0
