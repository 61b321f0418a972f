"""JoBSOptimizer: phases, ledger, promotions, warm start, failures, and states that restore the same decisions."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_runs import MAX_T, SPACE, accuracy, as_json, loss, make, search, train

from jobs_ray.models.decay import at_common_time
from jobs_ray.models.prediction import LastValuePredictor
from jobs_ray.models.predictor import MIN_FULL
from jobs_ray.search.optimizer import FINISHED, Decision, JoBSOptimizer, Phase, Recommendation, Suggestion
from jobs_ray.search.promotion import promotable
from jobs_ray.space import Categorical, Integer, Mixture, Real, SpaceError
from jobs_ray.trials import StateError, TrialStatus
from jobs_ray.trials.state import dump, load

GOOD = {"mixture": {"code": 0.4, "prose": 0.6, "maths": 0.0}, "lr": 3e-4, "lora": {"r": 128, "mlp": True}, "epochs": 1}
BAD = {"mixture": {"code": 0.0, "prose": 0.0, "maths": 1.0}, "lr": 1e-2, "lora": {"r": 1, "mlp": False}, "epochs": 1}


def ask(optimizer: JoBSOptimizer, trial_id: str, **kwargs: Any) -> Suggestion:
    suggestion = optimizer.ask(trial_id, **kwargs)
    assert isinstance(suggestion, Suggestion)
    return suggestion


# -- the phases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
def test_the_phases_follow_each_other_and_the_recommendation_is_confirmed(workers: int) -> None:
    optimizer = make(budget=8.0)
    suggestions = search(optimizer, workers=workers)
    phases = [s.phase for s in suggestions]
    assert phases[0] is Phase.LEARN
    assert {Phase.SEARCH, Phase.CONFIRM} <= set(phases)
    first = phases.index(Phase.SEARCH)
    assert Phase.LEARN not in phases[first:]
    assert Phase.CONFIRM not in phases[:first]
    assert optimizer.ask("more") is FINISHED
    short = {s.steps for s in suggestions if s.phase is Phase.SEARCH}
    assert all(s is not None and 0 < s < MAX_T for s in short)
    assert {s.steps for s in suggestions if s.phase is Phase.CONFIRM} == {MAX_T}
    recommended = optimizer.recommendation()
    assert recommended is not None
    assert recommended.confirmed
    finals = {name: t.final for name, t in optimizer.trials.items() if t.final is not None}
    assert -recommended.mean == pytest.approx(max(finals.values()))
    assert recommended.mean == pytest.approx(loss(recommended.config, MAX_T))
    assert optimizer.trials[recommended.trial_id].config == recommended.config


def test_it_finds_better_configurations_than_random_ones() -> None:
    """The median over seeds, against as many random full runs as the budget buys."""
    ours, random = [], []
    for seed in range(3):
        optimizer = make(budget=8.0, seed=seed)
        search(optimizer, workers=2)
        found = optimizer.recommendation()
        assert found is not None
        ours.append(found.mean)
        X = optimizer.space.sample(8, np.random.default_rng(100 + seed))
        random.append(min(loss(optimizer.space.decode(x), MAX_T) for x in X))
    assert np.median(ours) < np.median(random)


def test_a_maximised_metric_is_the_mirror_of_a_minimised_one() -> None:
    """mode="max" of a negated loss asks for the same configurations."""
    one, other = make(seed=3), make(seed=3, mode="max")
    minimised = search(one)
    maximised = search(other, curve=lambda config, t: -loss(config, t))
    assert [s.config for s in minimised] == [s.config for s in maximised]
    mine, theirs = one.recommendation(), other.recommendation()
    assert mine is not None
    assert theirs is not None
    assert mine.mean == -theirs.mean


def test_an_accuracy_is_maximised_on_its_own_scale() -> None:
    optimizer = make(mode="max", seed=3)
    search(optimizer, curve=accuracy)
    found = optimizer.recommendation()
    assert found is not None
    finals = [accuracy(t.config, MAX_T) for t in optimizer.trials.values() if t.completed]
    assert found.mean == pytest.approx(max(finals))


def test_a_promotion_trains_the_configuration_of_a_short_run() -> None:
    optimizer = make(extend=False)
    search(optimizer)
    promoted = [t for t in optimizer.trials.values() if t.promotes]
    assert promoted
    assert len({t.promotes for t in promoted}) == len(promoted)
    for trial in promoted:
        source = optimizer.trials[trial.promotes or ""]
        assert source.config == trial.config
        assert source.status is TrialStatus.STOPPED
        assert trial.grant == MAX_T


def test_slots_that_would_wait_for_learn_take_a_few_of_searchs_short_runs() -> None:
    optimizer = make(budget=30.0, extend=False)
    plan = optimizer.plan()
    assert plan is not None
    early = plan["search_short"] // 10
    assert early > 1
    first = ask(optimizer, "t0")
    optimizer.report(
        "t0", 1.0, loss(first.config, 1.0)
    )  # until one has, there are no more than full runs in the budget
    rest = iter(lambda: optimizer.ask(f"t{len(optimizer.trials)}"), None)
    asked = [first, *(s for s in rest if isinstance(s, Suggestion))]
    assert [s.phase for s in asked] == [Phase.LEARN] * (plan["learn_short"] + early)
    for number in range(early, len(asked)):
        assert optimizer.ask("too soon") is None
        train(optimizer, f"t{number}", asked[number].config)
    promotion = ask(optimizer, "promotion")  # as many have ended as it is chosen from
    assert (promotion.phase, promotion.steps) == (Phase.LEARN, MAX_T)
    assert ask(optimizer, "next").phase is Phase.SEARCH
    for name in [f"t{number}" for number in range(early)] + ["promotion", "next"]:
        train(optimizer, name, optimizer.trials[name].config)
    search(optimizer, prefix="u")
    assert sum(t.phase is Phase.SEARCH for t in optimizer.trials.values()) <= plan["search_short"] - early


def test_with_many_in_flight_confirmations_wait_for_the_short_runs_that_they_choose_from() -> None:
    """All that the budget allows may be asked for at once: LEARN's random runs must not be confirmed meanwhile."""
    optimizer = make(budget=12.0, extend=False)
    asked = search(optimizer, most=200, workers=64)
    confirmed = [s.promotes for s in asked if s.phase is Phase.CONFIRM]
    assert len(confirmed) >= 3
    assert all(optimizer.trials[name or ""].phase is Phase.SEARCH for name in confirmed)
    assert optimizer.budget_spent > 12.0 - 1.0


def until_it_waits(optimizer: JoBSOptimizer) -> list[str]:
    """Asks until there is nothing to ask for, short runs trained at once: the full runs, left in flight."""
    full = []
    while isinstance(asked := optimizer.ask(name := f"u{len(optimizer.trials)}"), Suggestion):
        if asked.promotes is None and asked.steps != MAX_T:
            train(optimizer, name, asked.config)
        else:
            full.append(name)
    assert asked is None
    return full


def test_no_confirmation_is_chosen_while_the_first_full_run_is_on_its_way() -> None:
    """By early reports alone: those may mislead, and one final says how a curve goes on."""
    optimizer = make(extend=False, resume=True)
    (waits,) = until_it_waits(optimizer)
    assert all(t.phase is not Phase.CONFIRM for t in optimizer.trials.values())
    plan = optimizer.plan()
    assert plan is not None
    assert sum(t.phase is Phase.SEARCH for t in optimizer.trials.values()) == plan["search_short"]
    train(optimizer, waits, optimizer.trials[waits].config, start=optimizer.trials[waits].start)
    assert ask(optimizer, "next").phase is Phase.CONFIRM


@pytest.mark.parametrize("settings", [{"budget": 3.0, "num_full": 2}, {"budget": None, "num_trials": 5}])
def test_no_new_full_run_is_confirmed_blindly_either(settings: dict[str, Any]) -> None:
    optimizer = make(extend=False, resume=True, **settings)
    full = until_it_waits(optimizer)
    assert {optimizer.trials[name].phase for name in full} == {Phase.LEARN}
    train(optimizer, full[0], optimizer.trials[full[0]].config, start=optimizer.trials[full[0]].start)
    assert ask(optimizer, "next").phase is Phase.CONFIRM


@pytest.mark.parametrize("end", ["silent", "failed"])
def test_confirmations_wait_for_no_first_full_run_that_says_nothing(end: str) -> None:
    """Each that fails was waited for, one after the other, while the other slots were idle."""
    optimizer = make(budget=8.0, extend=False, resume=True)
    (first,) = until_it_waits(optimizer)
    if end == "silent":
        optimizer.amend(first, silent=True)
        assert ask(optimizer, "next").phase is Phase.CONFIRM
    else:
        optimizer.tell(first, error=True)
        assert ask(optimizer, "again").phase is Phase.LEARN  # another one is owed
        assert ask(optimizer, "next").phase is Phase.CONFIRM


def test_the_last_promotion_is_paid_at_its_own_price() -> None:
    """Trials that report every four steps end at 4 where 3 are planned: what was left for the plan's price was kept."""
    for budget in (5.0, 5.35, 5.7):
        optimizer = make(budget=budget, short_t=3.0, extend=False, resume=True)
        search(optimizer, every=4.0, workers=3)
        prices = [1.0 - t.curve.last_t / MAX_T for t in promotable(list(optimizer.trials.values()))]
        assert prices
        assert budget - optimizer.budget_spent < min(prices)


def test_the_best_short_runs_of_learn_are_promoted() -> None:
    optimizer = make(extend=False)
    search(optimizer)
    learn = [t for t in optimizer.trials.values() if t.phase is Phase.LEARN]
    short = [t for t in learn if t.status is TrialStatus.STOPPED]
    full = [t for t in learn if t.completed]
    assert full
    values = sorted((t.curve.value[-1] for t in short), reverse=True)
    promoted = {t.promotes for t in full}
    assert {t.trial_id for t in short if t.curve.value[-1] >= values[len(full) - 1]} == promoted


def test_before_the_predictor_stands_one_of_the_best_at_a_common_time_is_promoted() -> None:
    """Finals do not compare with values of an early time: by expected improvement the least known was promoted."""
    seen = 0
    for seed in range(3):
        optimizer = make(extend=False, budget=10.0, seed=seed)
        for i in range(60):
            before = dict(optimizer.trials)
            trial_id = f"t{i}"
            if sum(t.completed for t in before.values()) >= MIN_FULL:
                break
            suggestion = optimizer.ask(trial_id)
            assert isinstance(suggestion, Suggestion)
            promotes = optimizer.trials[trial_id].promotes
            if promotes:
                taken = {t.promotes for t in before.values()}
                short = [t for t in before.values() if t.status is TrialStatus.STOPPED and t.trial_id not in taken]
                finals = [t for t in before.values() if t.completed]
                values = at_common_time(finals, short)
                found = [values[t.trial_id] for t in short]
                assert values[promotes] >= np.quantile(found, 0.75) - 0.01 * np.ptp(found)  # or as good
                seen += 1
            train(optimizer, trial_id, suggestion.config)
    assert seen >= 9


def test_a_short_run_that_looks_best_goes_on_only_when_it_may() -> None:
    """`extend`: a SEARCH trial whose grant becomes max_t is a confirmation. Without it, none ever does."""
    for extend in (False, True):
        optimizer = make(budget=8.0, num_full=3, extend=extend)  # the surrogate soon beats three random full runs
        asked = {f"t{i}": s for i, s in enumerate(search(optimizer))}
        extended = [n for n, s in asked.items() if s.steps != MAX_T and optimizer.trials[n].grant == MAX_T]
        assert bool(extended) is extend
        for name in extended:
            assert optimizer.trials[name].phase is Phase.CONFIRM
            assert optimizer.trials[name].completed
        assert optimizer.budget.spent <= 8.0 + 1e-9


def test_fixed_numbers_give_the_two_phases_of_the_paper() -> None:
    optimizer = make(budget=9.0, num_full=4, num_confirm=2, extend=False)
    suggestions = search(optimizer)
    assert [s.phase for s in suggestions[:4]] == [Phase.LEARN] * 4
    assert all(s.steps == MAX_T for s in suggestions[:4])
    assert sum(s.phase is Phase.LEARN for s in suggestions) == 4
    assert sum(s.phase is Phase.CONFIRM for s in suggestions) == 2


@pytest.mark.parametrize(("budget", "num_full", "num_confirm"), [(3.0, 1, 2), (4.0, 2, 5), (2.0, 1, 1)])
def test_fixed_numbers_that_leave_no_room_still_spend_the_budget(
    budget: float, num_full: int, num_confirm: int
) -> None:
    """Confirmations need short runs to promote: a plan of confirmations alone would end with the money unspent."""
    optimizer = make(budget=budget, num_full=num_full, num_confirm=num_confirm, extend=False)
    search(optimizer)
    assert not optimizer.budget.affords(1.0 + 1.0 / 6.0)


def test_no_confirmation_when_none_is_wanted() -> None:
    optimizer = make(budget=9.0, num_full=4, num_confirm=0)
    suggestions = search(optimizer)
    assert {s.phase for s in suggestions} == {Phase.LEARN, Phase.SEARCH}
    assert not any(t.phase is Phase.CONFIRM for t in optimizer.trials.values())
    assert not optimizer.budget.affords(1.0)


def test_trials_that_cannot_be_stopped_early_are_full_runs() -> None:
    """`full=True`: a plain searcher; the surrogate learns from finals, and the budget buys whole runs."""
    optimizer = make(budget=7.0)
    configs = []
    for i in range(20):
        answer = optimizer.ask(f"t{i}", full=True)
        if not isinstance(answer, Suggestion):
            break
        assert answer.steps == MAX_T
        assert answer.resume_from is None
        configs.append(answer.config)
        train(optimizer, f"t{i}", answer.config)
    assert answer is FINISHED
    assert len(configs) == 7
    assert len({repr(c) for c in configs}) == 7
    assert optimizer.budget_spent == pytest.approx(7.0)


def test_without_a_length_it_is_learned_from_the_first_run() -> None:
    optimizer = make(max_t=None, budget=6.0)
    first = ask(optimizer, "a")
    assert first.steps is None
    assert optimizer.plan() is None
    train(optimizer, "a", first.config, end=MAX_T)
    assert optimizer.max_t == MAX_T
    assert optimizer.trials["a"].completed
    later = [ask(optimizer, f"b{i}") for i in range(3)]
    assert any(s.steps is not None and s.steps < MAX_T for s in later)
    assert optimizer.budget_spent == pytest.approx(1.0)


def test_without_a_length_one_trial_that_ends_early_makes_no_other_short() -> None:
    optimizer = make(max_t=None, budget=6.0)
    configs = {name: ask(optimizer, name).config for name in "abcd"}
    assert train(optimizer, "a", configs["a"], end=4.0) == 4.0
    for name in "bcd":
        assert train(optimizer, name, configs[name]) == MAX_T
    assert optimizer.max_t == MAX_T
    assert all(optimizer.trials[name].completed for name in "bcd")


def test_an_observation_of_one_value_says_nothing_of_how_long_runs_are() -> None:
    optimizer = make(max_t=None, budget=6.0)
    optimizer.add_observation(GOOD, [(1.0, 0.7)], complete=True)
    assert optimizer.max_t is None
    assert train(optimizer, "a", ask(optimizer, "a").config) == MAX_T
    assert optimizer.max_t == MAX_T


@pytest.mark.parametrize("max_t", [None, MAX_T])
def test_a_full_run_that_was_given_up_is_no_final_value(max_t: float | None) -> None:
    """It hung at three quarters of a run; ended by itself there, its last value would be its final one."""
    optimizer = make(max_t=max_t, budget=6.0)
    suggestions = {name: ask(optimizer, name, full=True) for name in "ab"}
    for t in range(1, 10):
        optimizer.report("a", t, loss(suggestions["a"].config, t))
    optimizer.amend("a", silent=True)
    optimizer.tell("a", own_end=False)
    assert optimizer.trials["a"].final is None
    train(optimizer, "b", suggestions["b"].config)
    assert optimizer.trials["a"].status is TrialStatus.STOPPED
    best = optimizer.recommendation()
    assert best is not None
    assert best.trial_id == "b"


def test_without_a_length_and_short_runs_wanted_longer_than_it_turns_out() -> None:
    optimizer = make(max_t=None, budget=5.0, short_t=20.0, resume=True)
    for i in range(30):
        answer = optimizer.ask(f"t{i}")
        if not isinstance(answer, Suggestion):
            break
        train(optimizer, f"t{i}", answer.config, end=MAX_T)
        optimizer.summary()
    assert answer is FINISHED
    assert optimizer.recommendation() is not None


def test_fewer_trials_than_the_budget_pays_for_are_confirmed_all_the_same() -> None:
    """Planned for the budget alone, 24 trials ended with two full runs, and 12 with none."""
    optimizer = make(budget=20.0, num_trials=24, extend=False)
    suggestions = search(optimizer)
    assert len(suggestions) == 24
    assert sum(t.completed for t in optimizer.trials.values()) >= 5


@pytest.mark.parametrize("num_trials", [1, 2, 9, 30])
def test_without_a_budget_the_number_of_trials_is_the_limit(num_trials: int) -> None:
    optimizer = make(budget=None, num_trials=num_trials)
    suggestions = search(optimizer, workers=2)
    assert len(suggestions) == num_trials
    assert optimizer.recommendation() is not None
    if num_trials >= 9:
        assert any(t.completed for t in optimizer.trials.values())


def test_without_any_limit_it_goes_on_and_still_confirms() -> None:
    optimizer = make(budget=None)
    suggestions = search(optimizer, most=80)
    assert len(suggestions) == 80
    phases = [s.phase for s in suggestions]
    assert Phase.SEARCH in phases[40:]
    assert sum(t.completed for t in optimizer.trials.values()) > 3


def test_one_step_is_the_whole_run() -> None:
    """A trainable that reports once: short and full runs are the same, and nothing loops."""
    optimizer = make(max_t=1.0, short_t=1.0, budget=6.0, resume=True)
    suggestions = search(optimizer)
    assert len(suggestions) == 6
    assert optimizer.budget_spent == pytest.approx(6.0)
    assert optimizer.summary()["plan"] is not None


@pytest.mark.parametrize("workers", [1, 4])
def test_a_trainable_that_reports_only_at_its_end_is_searched_all_the_same(workers: int) -> None:
    optimizer = make(budget=20.0)
    asked = search(optimizer, workers=workers, every=MAX_T)
    assert len(asked) == 20
    assert sum(t.phase is Phase.SEARCH for t in optimizer.trials.values()) >= 12


def test_in_a_small_space_no_configuration_is_confirmed_twice_while_others_wait() -> None:
    space = {"a": Integer(0, 3), "b": Integer(0, 2), "c": Categorical(["x", "y"])}
    optimizer = make(space=space, budget=10.0)

    def curve(config: Mapping[str, Any], t: float) -> float:
        return float(1.0 + (config["a"] - 1) ** 2 + config["b"] + (config["c"] == "y") + 1.0 / t)

    suggestions = search(optimizer, curve=curve)
    full = [t.x for t in optimizer.trials.values() if t.completed]
    assert len(full) == len(set(full)) >= 3
    first = [repr(s.config) for s in suggestions[:8]]
    assert len(set(first)) == 8  # LEARN's short runs
    best = optimizer.recommendation()
    assert best is not None
    assert best.config == {"a": 1, "b": 0, "c": "x"}


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_by_hand() -> None:
    """max_t 12, short runs of 3: one whole, one that failed at 2, one restarted after 2, one that overran to 4."""
    optimizer = make(short_t=3.0, budget=20.0)
    for name in "abcd":
        assert ask(optimizer, name).steps == 3.0
    assert optimizer.budget.committed == pytest.approx(4 * 3 / 12)
    for t in (1.0, 2.0):
        assert optimizer.report("a", t, 1.0) is Decision.CONTINUE
    assert optimizer.report("a", 3.0, 1.0) is Decision.STOP
    optimizer.tell("a")
    for t in (1.0, 2.0):
        optimizer.report("b", t, 1.0)
    optimizer.tell("b", error=True)
    for t in (1.0, 2.0, 1.0, 2.0, 3.0):
        optimizer.report("c", t, 1.0)
    optimizer.tell("c")
    assert optimizer.report("d", 4.0, 1.0) is Decision.STOP
    optimizer.tell("d")
    assert optimizer.budget_spent == pytest.approx((3 + 2 + 5 + 4) / 12)
    assert optimizer.budget.committed == pytest.approx(optimizer.budget_spent)
    assert [t.status.value for t in optimizer.trials.values()] == ["stopped", "failed", "stopped", "stopped"]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("resume", [False, True])
def test_the_whole_budget_is_committed_and_never_more(resume: bool, workers: int) -> None:
    optimizer = make(budget=7.0, resume=resume)
    search(optimizer, workers=workers)
    assert optimizer.budget_spent <= 7.0 + 1e-9
    assert optimizer.budget_spent > 6.0 - 1e-9
    assert optimizer.budget_spent == pytest.approx(sum(t.steps for t in optimizer.trials.values()) / MAX_T)


def test_what_is_in_flight_is_reserved() -> None:
    """With nobody reporting, asks end when the budget is committed: None, since something may still come."""
    optimizer = make(budget=3.0)
    answers = [optimizer.ask(f"t{i}") for i in range(60)]
    assert isinstance(answers[0], Suggestion)
    assert answers[-1] is None
    assert optimizer.budget.committed <= 3.0 + 1e-9
    assert optimizer.budget_spent == 0.0


def test_the_summary_adds_up_and_is_plain_data() -> None:
    optimizer = make(budget=7.0)
    search(optimizer)
    summary = as_json(optimizer.summary())
    money = summary["budget"]
    assert money["total"] == 7.0
    assert money["spent"] == pytest.approx(optimizer.budget_spent)
    assert sum(money["by_phase"].values()) == pytest.approx(money["spent"])
    assert sum(t["charged"] for t in summary["trials"]) == pytest.approx(money["spent"])
    assert [t["trial_id"] for t in summary["trials"]] == list(optimizer.trials)
    assert summary["phase"] == optimizer.phase.value
    assert summary["recommendation"]["trial_id"] == getattr(optimizer.recommendation(), "trial_id", None)
    for record in summary["trials"]:
        assert [loss(record["config"], t) for t, _ in record["curve"]] == pytest.approx([v for _, v in record["curve"]])
        assert (record["final"] is not None) == (record["status"] == "completed")
        if record["final"] is not None:
            assert record["final"] == record["curve"][-1][1]


# -- resuming ---------------------------------------------------------------------------------------------------------


def promotion(optimizer: JoBSOptimizer) -> tuple[str, Suggestion]:
    """Run until the first promotion that resumes is asked for."""
    for i in range(100):
        suggestion = ask(optimizer, f"p{i}")
        if suggestion.resume_from is not None:
            return f"p{i}", suggestion
        train(optimizer, f"p{i}", suggestion.config)
    raise AssertionError("no promotion in 100 asks")


def test_a_promotion_resumes_its_short_run_and_is_charged_the_rest() -> None:
    optimizer = make(budget=10.0, resume=True, extend=False)
    name, suggestion = promotion(optimizer)
    source = optimizer.trials[suggestion.resume_from or ""]
    assert source.config == suggestion.config
    assert optimizer.trials[name].curve == source.curve
    spent, start = optimizer.budget_spent, source.curve.last_t
    assert optimizer.budget.committed == pytest.approx(spent + (MAX_T - start) / MAX_T)
    train(optimizer, name, suggestion.config, start=start)
    assert optimizer.budget_spent == pytest.approx(spent + (MAX_T - start) / MAX_T)
    done = optimizer.trials[name]
    assert done.completed
    assert done.curve.t == tuple(np.arange(1.0, MAX_T + 1))


def test_without_resume_no_promotion_names_a_checkpoint() -> None:
    assert all(s.resume_from is None for s in search(make(budget=8.0)))


def proposed_promotion(optimizer: JoBSOptimizer) -> Suggestion:
    for i in range(100):
        suggestion = optimizer.propose()
        assert isinstance(suggestion, Suggestion)
        if suggestion.resume_from is not None:
            return suggestion
        optimizer.accept(f"p{i}", suggestion)
        train(optimizer, f"p{i}", suggestion.config)
    raise AssertionError("no promotion in 100 asks")


@pytest.mark.parametrize("t", [0.0, 1.0, 99.0])
def test_a_promotion_is_charged_from_where_its_checkpoint_stands(t: float) -> None:
    optimizer = make(budget=10.0, resume=True, extend=False, short_t=3.0)
    suggestion, spent = proposed_promotion(optimizer), optimizer.budget_spent
    assert suggestion.resume_from is not None
    assert optimizer.note_checkpoint(suggestion.resume_from, t)
    start = min(t, 3.0)
    optimizer.accept("promoted", suggestion)
    assert optimizer.budget.committed == pytest.approx(spent + 1.0 - start / MAX_T)
    assert optimizer.trials["promoted"].curve.t == tuple(np.arange(1.0, start + 1))
    train(optimizer, "promoted", suggestion.config, start=start)
    assert optimizer.trials["promoted"].completed
    assert optimizer.trials["promoted"].promotes == suggestion.resume_from
    assert optimizer.budget_spent == pytest.approx(spent + 1.0 - start / MAX_T)


def test_a_promotion_without_checkpoint_that_would_overspend_gives_way_to_one_that_does_not() -> None:
    optimizer = make(budget=3.0, resume=True, extend=False, short_t=2.0)
    for i in range(100):
        gone = optimizer.propose()
        assert isinstance(gone, Suggestion)
        if gone.resume_from and optimizer.budget.left < 1.0:
            break
        optimizer.accept(f"t{i}", gone)
        train(optimizer, f"t{i}", gone.config, start=optimizer.trials[f"t{i}"].start)
    left = optimizer.budget.left
    assert not optimizer.note_checkpoint(gone.resume_from or "", 0.0)
    other = optimizer.propose()
    assert isinstance(other, Suggestion)
    assert other.resume_from not in (None, gone.resume_from)
    restored = make()
    restored.load_state_dict(as_json(optimizer.state_dict()))
    assert restored.propose() == other
    while isinstance(other := optimizer.propose(), Suggestion) and other.resume_from:
        assert not optimizer.note_checkpoint(other.resume_from, 0.0)
    assert optimizer.propose() is FINISHED
    assert optimizer.budget.left == left


def test_a_whole_run_of_a_short_run_without_checkpoint_names_none() -> None:
    optimizer = make(budget=10.0, resume=True, extend=False)
    suggestion = proposed_promotion(optimizer)
    optimizer.note_checkpoint(suggestion.resume_from or "", 0.0)
    again = optimizer.ask("whole")
    assert isinstance(again, Suggestion)
    assert (again.config, again.resume_from) == (suggestion.config, None)
    assert optimizer.trials["whole"].promotes == suggestion.resume_from


def test_a_checkpoint_older_than_the_short_run_is_charged_from_where_it_stood() -> None:
    optimizer = make(budget=10.0, resume=True, extend=False, short_t=3.0)
    name, suggestion = promotion(optimizer)
    spent = optimizer.budget_spent
    train(optimizer, name, suggestion.config, start=1.0)
    assert optimizer.trials[name].completed
    assert optimizer.budget_spent == pytest.approx(spent + (MAX_T - 1.0) / MAX_T)


def test_a_short_run_is_promoted_once_even_when_its_promotion_fails() -> None:
    optimizer = make(budget=10.0, resume=True, extend=False)
    name, suggestion = promotion(optimizer)
    optimizer.tell(name, error=True)
    search(optimizer, prefix="later")
    sources = [t.promotes for t in optimizer.trials.values() if t.promotes]
    assert sources.count(suggestion.resume_from) == 1
    assert len(sources) == len(set(sources))


# -- given points, candidates, warm start -----------------------------------------------------------------------------


def test_points_to_evaluate_come_first_and_unchanged() -> None:
    rounded = copy.deepcopy(GOOD) | {"lr": 1.23456789012345e-4}
    optimizer = make(points_to_evaluate=[rounded, BAD])
    assert ask(optimizer, "a").config == rounded
    assert ask(optimizer, "b").config == BAD
    assert ask(optimizer, "c").config not in (rounded, BAD)


def test_points_in_numpys_scalars_reach_the_caller_as_pythons_and_can_be_saved() -> None:
    point = {**GOOD, "lr": np.float64(1e-3), "lora": {"r": np.int64(8), "mlp": True}}
    optimizer = make(points_to_evaluate=[point])
    config = ask(optimizer, "a").config
    assert json.loads(json.dumps(optimizer.state_dict()))
    assert [type(v) for v in (config["lr"], config["lora"]["r"])] == [float, int]


def test_a_point_that_was_forgotten_is_asked_for_again() -> None:
    optimizer = make(points_to_evaluate=[GOOD, BAD])
    ask(optimizer, "a")
    ask(optimizer, "b")
    optimizer.forget("a")
    assert ask(optimizer, "c").config == GOOD


def test_a_bad_point_is_refused_when_it_is_given() -> None:
    for what in ("points_to_evaluate", "candidates"):
        with pytest.raises(SpaceError, match="'lr'"):
            make(**{what: [GOOD | {"lr": 1.0}]})


def test_what_is_no_longer_recalled_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs_ray.trials.table.RECALLED", 5)
    pool = [GOOD | {"lr": lr} for lr in np.geomspace(1e-5, 1e-2, 300).tolist()]
    asked = search(make(candidates=pool, budget=12.0, short_t=2.0, num_full=3))
    short = [s.config["lr"] for s in asked if s.steps == 2.0]
    assert len(asked) > 20
    assert len(set(short)) == len(short) > 10
    whole = {"a": Categorical(list("abcdefghij")), "b": Categorical([1, 2, 3, 4, 5, 6])}  # found by moves, not drawn
    optimizer = JoBSOptimizer(whole, mode="min", max_t=MAX_T, budget=10.0, short_t=2.0, num_full=3, seed=3)
    seen: list[Suggestion] = []
    while len(seen) < 50 and isinstance(suggestion := optimizer.ask(f"t{len(seen)}"), Suggestion):
        seen.append(suggestion)
        train(optimizer, f"t{len(seen) - 1}", suggestion.config, lambda c, t: c["b"] + ord(c["a"]) / 50 + 1 / t)
    searched = [(s.config["a"], s.config["b"]) for s in seen if s.phase is Phase.SEARCH]
    assert len(searched) > 8
    assert len(set(searched)) == len(searched)


def test_only_candidates_are_asked_for_and_none_twice_until_all_were() -> None:
    space = JoBSOptimizer(SPACE, mode="min", seed=0).space
    pool = [space.decode(x) for x in space.sample(60, np.random.default_rng(0))]
    optimizer = make(candidates=pool, budget=6.0)
    suggestions = search(optimizer, workers=2)
    fresh = [s.config for s in suggestions if s.steps != MAX_T]
    assert all(s.config in pool for s in suggestions)
    assert len({repr(c) for c in fresh}) == len(fresh)
    few = search(make(candidates=pool[:3], budget=6.0))
    assert {repr(s.config) for s in few} == {repr(c) for c in pool[:3]}


def observations(optimizer: JoBSOptimizer, n: int, t: float = MAX_T) -> None:
    for i, x in enumerate(optimizer.space.sample(n, np.random.default_rng(42))):
        config = optimizer.space.decode(x)
        curve = [(s, loss(config, s)) for s in np.arange(1.0, t + 1)]
        optimizer.add_observation(config, curve, complete=t == MAX_T, trial_id=f"seen{i}")


def test_a_warm_start_is_free_and_is_learned_from() -> None:
    optimizer = make()
    observations(optimizer, 8)
    assert optimizer.budget_spent == 0.0
    assert optimizer.budget.committed == 0.0
    found = optimizer.recommendation()
    assert found is not None
    assert found.confirmed
    suggestion = ask(optimizer, "a")
    train(optimizer, "a", suggestion.config)
    ask(optimizer, "b")
    predicted = optimizer.prediction("a")
    assert predicted is not None
    assert predicted.mean[0] == pytest.approx(loss(suggestion.config, MAX_T), rel=0.2)
    cold = sum(s.phase is Phase.LEARN for s in search(make()))
    assert sum(s.phase is Phase.LEARN for s in search(optimizer)) < cold


def test_short_observations_can_be_promoted() -> None:
    optimizer = make()
    observations(optimizer, 12, t=2.0)
    search(optimizer)
    assert any((t.promotes or "").startswith("seen") for t in optimizer.trials.values())


def test_an_observation_with_gaps_out_of_order_or_failed() -> None:
    optimizer = make()
    optimizer.add_observation(GOOD, [(2.0, 2.0), (1.0, 3.0), (12.0, 1.5), (3.0, math.nan)], complete=True, trial_id="a")
    assert optimizer.trials["a"].curve.t == (1.0, 2.0, 12.0)
    assert optimizer.trials["a"].curve.failed_at == (3.0,)
    assert optimizer.trials["a"].final == -1.5
    optimizer.add_observation(GOOD, [(1.0, 3.0), (2.0, None)], complete=True, trial_id="b")
    optimizer.add_observation(GOOD, [], complete=False, trial_id="c")
    assert optimizer.trials["b"].status is optimizer.trials["c"].status is TrialStatus.FAILED
    assert optimizer.ask("d") is not None


def test_an_observation_is_named_once_and_must_fit_the_space() -> None:
    optimizer = make()
    first = optimizer.add_observation(GOOD, [(1.0, 2.0)], complete=False)
    second = optimizer.add_observation(GOOD, [(1.0, 2.0)], complete=False)
    assert first != second
    with pytest.raises(ValueError, match=first):
        optimizer.add_observation(GOOD, [(1.0, 2.0)], complete=False, trial_id=first)
    with pytest.raises(SpaceError, match="'lr'"):
        optimizer.add_observation(GOOD | {"lr": 5.0}, [(1.0, 2.0)], complete=False)


def test_an_observation_without_a_name_finds_a_free_one_after_a_forgotten_trial() -> None:
    optimizer = make()
    ask(optimizer, "a")
    ask(optimizer, "b")
    names = [optimizer.add_observation(GOOD, [(1.0, 2.0)], complete=False)]
    optimizer.forget("a")
    names.append(optimizer.add_observation(BAD, [(1.0, 2.0)], complete=False))
    assert len(set(names)) == 2


# -- reports that are not what they should be -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "text", [1.0], 10**400, 1e300], ids=repr)
def test_a_bad_value_is_a_failed_observation(value: Any) -> None:
    optimizer = make(short_t=4.0)
    ask(optimizer, "a")
    optimizer.report("a", 1.0, 3.0)
    assert optimizer.report("a", 2.0, value) is Decision.CONTINUE
    assert optimizer.trials["a"].curve.failed_at == (2.0,)
    assert optimizer.report("a", 3.0, 2.5) is Decision.CONTINUE
    assert optimizer.report("a", 4.0, 2.4) is Decision.STOP
    optimizer.tell("a")
    assert optimizer.trials["a"].status is TrialStatus.STOPPED
    assert optimizer.summary()["trials"][0]["failed_at"] == [2.0]


def test_a_diverged_run_is_stopped_and_costs_what_it_took() -> None:
    optimizer = make(short_t=10.0)
    ask(optimizer, "a")
    optimizer.report("a", 1.0, 3.0)
    decisions = [optimizer.report("a", float(t), math.nan) for t in range(2, 11)]
    stopped = decisions.index(Decision.STOP)
    assert stopped < 5
    optimizer.tell("a")
    assert optimizer.trials["a"].status is TrialStatus.FAILED


def test_values_that_overflow_when_squared_do_not_break_the_search() -> None:
    for mode in ("min", "max"):
        optimizer = make(mode=mode, budget=5.0)
        search(optimizer, curve=lambda config, t: loss(config, t) * (-1e99 if config["lora"]["mlp"] else 1.0))
        assert optimizer.recommendation() is not None


def test_duplicates_change_nothing() -> None:
    optimizer = make()
    ask(optimizer, "a")
    for t in (1.0, 1.0, 1.0):
        optimizer.report("a", t, 2.0)
    once = optimizer.state_dict()
    optimizer.report("a", 1.0, 2.0)
    assert optimizer.state_dict() == once
    train(optimizer, "a", GOOD, start=1.0)
    ended = optimizer.state_dict()
    optimizer.tell("a")
    optimizer.tell("a", error=True)
    assert optimizer.report("a", 1.0, 9.0) is Decision.STOP
    assert optimizer.state_dict() == ended


@pytest.mark.parametrize("t", [0.0, -1.0, math.nan, math.inf, None, "late"], ids=repr)
def test_a_time_that_is_no_time_is_ignored(t: Any) -> None:
    optimizer = make()
    ask(optimizer, "a")
    before = optimizer.state_dict()
    assert optimizer.report("a", t, 1.0) is Decision.CONTINUE
    assert optimizer.state_dict() == before


def test_strangers_are_ignored_and_an_id_is_used_once() -> None:
    optimizer = make()
    assert optimizer.report("nobody", 1.0, 1.0) is Decision.CONTINUE
    optimizer.tell("nobody", error=True)
    optimizer.forget("nobody")
    assert not optimizer.trials
    assert optimizer.prediction("nobody") is None
    ask(optimizer, "a")
    with pytest.raises(ValueError, match="'a'"):
        optimizer.ask("a")


def test_a_caller_may_change_the_configuration_it_was_given() -> None:
    optimizer = make(points_to_evaluate=[GOOD])
    given = ask(optimizer, "a").config
    given["mixture"]["code"] = 99.0
    del given["lr"]
    train(optimizer, "a", GOOD)
    recommended = optimizer.recommendation()
    assert recommended is not None
    assert recommended.config == GOOD
    recommended.config["lora"]["r"] = -1
    assert optimizer.trials["a"].config == GOOD
    assert optimizer.state_dict()["trials"][0]["values"]["lr"] == GOOD["lr"]


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fail_at", [0, 1, 2])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_trainable_that_always_fails_ends_the_search(fail_at: int, workers: int) -> None:
    optimizer = make(budget=4.0)
    flying: list[str] = []
    for i in range(2000):
        answer = optimizer.ask(f"t{i}")
        if isinstance(answer, Suggestion):
            flying.append(f"t{i}")
        elif answer is FINISHED:
            break
        if len(flying) == workers or answer is None:
            name = flying.pop(0)
            for t in range(1, fail_at + 1):
                optimizer.report(name, float(t), math.nan)
            optimizer.tell(name, error=True)
    assert answer is FINISHED
    assert optimizer.recommendation() is None
    assert all(t.status is TrialStatus.FAILED for t in optimizer.trials.values())
    assert as_json(optimizer.summary())["recommendation"] is None


def test_some_failures_do_not_keep_it_from_confirming() -> None:
    optimizer = make(budget=8.0)
    for i in range(300):
        answer = optimizer.ask(f"t{i}")
        if not isinstance(answer, Suggestion):
            break
        if i % 3 == 0:
            optimizer.report(f"t{i}", 1.0, 2.0)
            optimizer.tell(f"t{i}", error=True)
        else:
            train(optimizer, f"t{i}", answer.config)
    assert answer is FINISHED
    recommended = optimizer.recommendation()
    assert recommended is not None
    assert recommended.confirmed
    assert optimizer.budget_spent > 6.5


def test_the_partial_curve_of_a_failed_trial_is_kept() -> None:
    optimizer = make()
    ask(optimizer, "a")
    optimizer.report("a", 1.0, 3.0)
    optimizer.tell("a", error=True)
    assert optimizer.trials["a"].curve.value == (-3.0,)
    assert optimizer.trials["a"].status is TrialStatus.FAILED


# -- propose, accept, fork, forget ------------------------------------------------------------------------------------


def test_proposing_changes_nothing_and_accepting_is_asking() -> None:
    one, two = make(seed=5), make(seed=5)
    for i in range(12):
        before = one.state_dict()
        proposed = one.propose()
        assert one.state_dict() == before
        assert isinstance(proposed, Suggestion)
        one.accept(f"t{i}", proposed)
        assert ask(two, f"t{i}") == proposed
        for optimizer in (one, two):
            train(optimizer, f"t{i}", proposed.config)
    assert one.state_dict() == two.state_dict()


def test_a_quick_proposal_is_valid_at_every_stage() -> None:
    optimizer = make()
    for i in range(40):
        quick = optimizer.propose(quick=True)
        answer = optimizer.ask(f"t{i}")
        if not isinstance(answer, Suggestion):
            break
        assert isinstance(quick, Suggestion)
        assert quick.phase is answer.phase
        optimizer.space.encode(quick.config)
        train(optimizer, f"t{i}", answer.config)


def test_a_fork_is_independent_and_thinks_alike() -> None:
    optimizer = make()
    for i in range(10):
        train(optimizer, f"t{i}", ask(optimizer, f"t{i}").config)
    before = optimizer.state_dict()
    fork = optimizer.fork()
    proposed = fork.propose()
    assert proposed == optimizer.propose()
    ask(fork, "of the fork")
    train(fork, "of the fork", GOOD)
    assert optimizer.state_dict() == before
    optimizer.adopt_cache(fork)
    assert optimizer.propose() == proposed
    assert optimizer.state_dict() == before


def test_a_trial_that_never_started_is_forgotten() -> None:
    optimizer = make()
    train(optimizer, "a", ask(optimizer, "a").config)
    before, next_one = optimizer.state_dict(), optimizer.propose()
    ask(optimizer, "b")
    optimizer.forget("b")
    assert optimizer.state_dict() == before
    assert optimizer.propose() == next_one
    optimizer.forget("a")
    assert "a" in optimizer.trials
    ask(optimizer, "c")
    optimizer.report("c", 1.0, 1.0)
    optimizer.forget("c")
    assert "c" in optimizer.trials


def test_a_promotion_that_is_forgotten_is_offered_again() -> None:
    optimizer = make(budget=10.0, resume=True, extend=False)
    name, suggestion = promotion(optimizer)
    optimizer.forget(name)
    assert optimizer.propose() == suggestion


# -- determinism and state --------------------------------------------------------------------------------------------


def steps(optimizer: JoBSOptimizer, n: int, prefix: str, *, flying: int = 3, odd: bool = False) -> Iterator[Any]:
    """`n` asks with up to `flying` trials pending; what was asked, one by one. `odd`: report times of their own."""
    pending = [(name, t.config) for name, t in optimizer.trials.items() if t.running]
    for i in range(n):
        answer = optimizer.ask(f"{prefix}{i}")
        yield answer
        if isinstance(answer, Suggestion):
            pending.append((f"{prefix}{i}", answer.config))
        if pending and (len(pending) >= flying or answer is None):
            name, config = pending.pop(0)
            every = 0.7 + 0.01 * (sum(map(ord, name)) % 60) if odd else 1.0
            train(optimizer, name, config, every=every, start=optimizer.trials[name].start)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (2, {}),
        (14, {"budget": 12.0}),
        (35, {"budget": 20.0}),
        (35, {"budget": 20.0, "resume": True, "odd": True}),
        (20, {"budget": None, "num_trials": 60, "extend": False}),
        (6, {"max_t": None, "budget": 20.0}),
        (12, {"num_full": 3, "num_confirm": 2, "budget": 12.0}),
    ],
    ids=["start", "search", "late", "odd times", "trials", "no length", "two phases"],
)
def test_after_a_restore_the_next_20_asks_are_the_same(asked: int, options: dict[str, Any]) -> None:
    odd = options.pop("odd", False) if "odd" in options else False
    options = dict(options)
    optimizer = make(**options)
    made = list(steps(optimizer, asked, "a", odd=odd))
    assert isinstance(made[0], Suggestion)
    state = as_json(optimizer.state_dict())
    restored = make(**(options | {"seed": 999, "budget": 1.0, "mode": "max"}))
    restored.load_state_dict(state)
    assert as_json(restored.state_dict()) == state
    assert restored.settings == optimizer.settings
    expected = list(steps(optimizer, 20, "b", odd=odd))
    assert list(steps(restored, 20, "b", odd=odd)) == expected
    assert restored.state_dict() == optimizer.state_dict()


def test_many_report_times_do_not_make_a_restored_search_differ() -> None:
    """More distinct prefix lengths than the predictor keeps fits for."""
    optimizer = make(budget=25.0)
    list(steps(optimizer, 60, "a", odd=True))
    restored = make()
    restored.load_state_dict(as_json(optimizer.state_dict()))
    assert list(steps(restored, 10, "b", odd=True)) == list(steps(optimizer, 10, "b", odd=True))


def test_the_seed_decides() -> None:
    runs = [[s.config for s in search(make(seed=seed, budget=4.0))] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    drawn = make(seed=None)
    restored = make(seed=None)
    restored.load_state_dict(as_json(drawn.state_dict()))
    assert restored.propose() == drawn.propose()


def test_the_state_survives_a_file(tmp_path: Path) -> None:
    optimizer = make()
    search(optimizer, most=8)
    dump(tmp_path / "state.json", optimizer.state_dict())
    restored = make(seed=0)
    restored.load_state_dict(load(tmp_path / "state.json"))
    assert restored.state_dict() == optimizer.state_dict()
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_a_state_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    dump(tmp_path / "state.json", {"good": 1})
    with pytest.raises(ValueError, match="JSON"):
        dump(tmp_path / "state.json", {"bad": math.nan})
    assert load(tmp_path / "state.json") == {"good": 1}


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"a": 1', "\x00\x01"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(StateError, match=r"state\.json is damaged"):
        load(tmp_path / "state.json")


def some_state() -> dict[str, Any]:
    """Ended trials of every kind, and last a promotion that runs and has reported since it resumed."""
    optimizer = make(budget=10.0, resume=True, extend=False)
    name, suggestion = promotion(optimizer)
    train(optimizer, name, suggestion.config, start=optimizer.trials[name].start)
    for i in range(100):
        suggestion = ask(optimizer, f"q{i}")
        if suggestion.resume_from:
            break
        train(optimizer, f"q{i}", suggestion.config)
    optimizer.report(f"q{i}", 3.0, 1.0)
    optimizer.report(f"q{i}", 4.0, math.nan)
    state: dict[str, Any] = as_json(optimizer.state_dict())
    assert state["trials"][-1]["promotes"]
    assert state["trials"][-1]["status"] == "running"
    return state


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested JSON data."""
    if path:
        yield path
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(child, (*path, key))


def test_damaged_states_are_refused_or_harmless_and_leave_the_object_as_it_was() -> None:
    """Every value of a real state, replaced in turn by something else or removed: StateError, or a working search."""
    state = some_state()
    optimizer = make(seed=3)
    ask(optimizer, "mine")
    before = optimizer.state_dict()
    chosen = sorted({(p[0], *map(str, p[2:])): p for p in places(state) if len(p) < 6}.values(), key=repr)
    refused = 0
    for path in chosen:
        for wrong in (None, "x", -1, [], {}, 1e400, "remove"):
            damaged = copy.deepcopy(state)
            node: Any = damaged
            for key in path[:-1]:
                node = node[key]
            if wrong == "remove":
                del node[path[-1]]
            elif node[path[-1]] == wrong:
                continue
            else:
                node[path[-1]] = wrong
            fork = optimizer.fork()
            try:
                fork.load_state_dict(damaged)
            except StateError:
                refused += 1
                assert fork.state_dict() == before
            else:
                running = [name for name, trial in fork.trials.items() if trial.running]
                for name in running:
                    fork.report(name, 1.0, 1.0)
                    fork.report(name, 5.0, 1.0)
                fork.propose(quick=True)
                as_json(fork.state_dict())
                as_json(fork.summary()["budget"])
    assert refused > len(chosen)
    assert optimizer.state_dict() == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version"),
        ({"format": "other"}, "jobs-ray"),
        ({"space": ["x"]}, "space"),
    ],
    ids=repr,
)
def test_states_of_another_version_format_or_space_say_so(change: dict[str, Any], reason: str) -> None:
    optimizer = make()
    ask(optimizer, "mine")
    before = optimizer.state_dict()
    with pytest.raises(StateError, match=reason):
        optimizer.load_state_dict(some_state() | change)
    assert optimizer.state_dict() == before


def test_a_state_whose_configurations_do_not_fit_the_space_is_refused() -> None:
    narrow = dict(SPACE) | {"lr": Real(1e-9, 1e-8, log=True)}
    with pytest.raises(StateError, match="lr"):
        JoBSOptimizer(narrow, mode="min", seed=0).load_state_dict(some_state())


@pytest.mark.parametrize("state", [None, [], "state", 3, {}], ids=repr)
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(StateError):
        make().load_state_dict(state)


def test_conditional_parameters_and_constants_survive_a_restore() -> None:
    space = {
        "method": Categorical(["full", "lora"]),
        "lora": {"r": Real(1, 64, log=True, when={"method": "lora"})},
        "data": Mixture(["a", "b"]),
        "fixed": {"tags": ["x"]},
    }
    optimizer = JoBSOptimizer(space, mode="min", max_t=4, budget=6, seed=0)
    search(optimizer, curve=lambda config, t: 1.0 / t + (config["method"] == "full"))
    restored = JoBSOptimizer(space, mode="min", seed=1)
    restored.load_state_dict(as_json(optimizer.state_dict()))
    assert [t.config for t in restored.trials.values()] == [t.config for t in optimizer.trials.values()]
    assert {t.config["method"] for t in optimizer.trials.values()} == {"full", "lora"}


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "maximise"), ("max_t", 0), ("max_t", math.inf), ("budget", 0.5), ("budget", math.nan),
        ("num_trials", 0), ("num_trials", 2.5), ("short_t", 0), ("short_t", 99), ("short_t", "long"),
        ("num_full", 0), ("num_confirm", -1), ("num_confirm", True), ("seed", -1), ("seed", 1.5),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        make(**{name: value})


def test_another_predictor_can_be_given() -> None:
    optimizer = make(predictor=LastValuePredictor(), budget=5.0)
    search(optimizer)
    assert optimizer.predictor_quality() is None
    assert optimizer.recommendation() is not None


def test_before_anything_is_known() -> None:
    optimizer = make()
    assert optimizer.recommendation() is None
    assert optimizer.phase is Phase.LEARN
    assert optimizer.budget_spent == 0.0
    assert as_json(optimizer.summary())["trials"] == []
    assert repr(FINISHED) == "FINISHED"


def test_before_anything_predicts_the_recommendation_is_the_last_value_of_the_best_and_says_so() -> None:
    optimizer = make()
    for i, config in enumerate((GOOD, BAD)):
        optimizer.add_observation(
            config, [(1.0, loss(config, 1.0)), (2.0, loss(config, 2.0))], complete=False, trial_id=f"{i}"
        )
    recommended = optimizer.recommendation()
    assert recommended is not None
    assert not recommended.confirmed
    assert recommended.config == GOOD
    assert (recommended.mean, recommended.stddev, recommended.t) == (loss(GOOD, 2.0), None, 2.0)
    assert recommended.basis(MAX_T, "epoch") == "last value at epoch = 2 of 12, not a prediction"
    assert recommended.basis(None) == "last value at t = 2, not a prediction"
    assert as_json(optimizer.summary())["recommendation"]["stddev"] is None


def test_a_prediction_and_a_confirmed_value_are_called_that() -> None:
    predicted = Recommendation({}, 1.0, 0.1, False, "a", 2.0)
    assert predicted.basis(12.0) == "predicted, not confirmed by a full run"
    assert Recommendation({}, 1.0, 0.0, True, "a", 12.0).basis(12.0) == "confirmed by a full run"


@pytest.mark.parametrize("telling", [True, False])
def test_short_runs_are_lengthened_only_when_their_prefixes_tell_nothing(telling: bool) -> None:
    optimizer = JoBSOptimizer({"a": Real(0.0, 1.0)}, mode="max", max_t=24, budget=20, seed=0)
    at_first = optimizer.plan()
    rng = np.random.default_rng(1)
    for _ in range(16):
        early, late = rng.uniform(0.4, 0.6, 2)
        curve = [(float(t), float(early if telling or t < 10 else late)) for t in range(1, 25)]
        optimizer.add_observation({"a": float(rng.random())}, curve, complete=True)
    plan = optimizer.plan()
    assert at_first is not None
    assert plan is not None
    assert (plan["short_t"] == at_first["short_t"]) == telling
    assert plan["short_t"] <= 12


def test_a_trial_that_wastes_a_whole_run_on_restarts_is_stopped() -> None:
    optimizer = make(budget=None)
    optimizer.ask("a", full=True)
    reports = 0
    while optimizer.report("a", 1.0 + reports % 3, 1.0) is Decision.CONTINUE:
        reports += 1
        assert reports < 30
    assert optimizer.trials["a"].wasted == MAX_T


@pytest.mark.parametrize("full", [False, True])
def test_a_run_stopped_for_its_restarts_is_no_full_run(full: bool) -> None:
    """Its checkpoint is from the second half of it, from where on what ends by itself is taken for complete."""
    optimizer, t = make(), 8.0
    optimizer.accept("a", Suggestion(GOOD, Phase.LEARN, None if full else MAX_T))
    for step in range(1, 12):
        optimizer.report("a", float(step), 1.0)
    while optimizer.report("a", t, 1.0) is Decision.CONTINUE:
        t = t + 1.0 if t < 11.0 else 8.0
    optimizer.tell("a")
    assert optimizer.trials["a"].wasted == MAX_T
    assert optimizer.trials["a"].curve.last_t < MAX_T
    assert optimizer.trials["a"].status is TrialStatus.STOPPED
    found = optimizer.recommendation()
    assert found is not None
    assert not found.confirmed


def test_a_short_run_stopped_for_its_restarts_keeps_its_grant() -> None:
    """It has trained past it; a longer grant would be charged to the budget once more."""
    optimizer = make()
    granted = ask(optimizer, "a").steps
    for t in (MAX_T, MAX_T - 1.0):
        assert optimizer.report("a", t, 1.0) is Decision.STOP
    assert optimizer.trials["a"].wasted == MAX_T
    assert optimizer.trials["a"].grant == granted


def ended_at(optimizer: JoBSOptimizer, name: str, t: float, value: float, **how: Any) -> None:
    """A trial that nobody of ours stops: reports at 1, 2, ... t, the last one `value`, and has ended."""
    assert isinstance(optimizer.ask(name, full=True), Suggestion)
    for step in range(1, int(t) + 1):
        optimizer.report(name, float(step), value + (t - step))
    optimizer.tell(name, **how)


@pytest.mark.parametrize("max_t", [None, 20.0])
@pytest.mark.parametrize("order", [(2, 8, 20, 20), (20, 2, 20, 8)])
def test_a_trial_that_others_outlast_is_not_final(order: tuple[int, ...], max_t: float | None) -> None:
    """As under ASHA: a trial cut at t = 2 with the lowest loss is no confirmed result beside finals at t = 20."""
    loss_at = {2: 0.5, 8: 0.7, 20: 1.0}
    optimizer = make(max_t=max_t, budget=None)
    for i, t in enumerate(order):
        ended_at(optimizer, f"t{i}", t, loss_at[t] + 0.1 * i, own_end=None if max_t is None else False)
    best = optimizer.recommendation()
    assert best is not None
    assert (best.confirmed, best.trial_id) == (True, f"t{order.index(20)}")
    assert [t.completed for t in optimizer.trials.values()] == [t == 20 for t in order]
    again = make(max_t=max_t, budget=None)
    again.load_state_dict(as_json(optimizer.state_dict()))
    assert again.recommendation() == best
    assert again.trials == optimizer.trials


def test_a_trial_is_not_final_any_more_as_soon_as_a_running_one_is_longer() -> None:
    optimizer = make(max_t=None, budget=None)
    ended_at(optimizer, "cut", 2, 0.5)
    assert optimizer.trials["cut"].completed
    optimizer.ask("long", full=True)
    optimizer.report("long", 2.0, 2.0)
    assert optimizer.trials["cut"].completed
    optimizer.report("long", 3.0, 1.9)
    assert not optimizer.trials["cut"].completed
    assert optimizer.max_t == 3.0  # not "unknown" again: a budget is counted by it


def test_a_run_known_to_have_ended_by_itself_is_final_however_short() -> None:
    """A trainable with early stopping, or one whose number of epochs is searched."""
    optimizer = make(max_t=None, budget=None)
    for i, (t, value) in enumerate([(5, 0.5), (20, 1.0), (12, 0.7)]):
        ended_at(optimizer, f"t{i}", t, value, own_end=True)
    best = optimizer.recommendation()
    assert best is not None
    assert (best.confirmed, best.trial_id) == (True, "t0")


def test_partial_curves_of_cut_trials_are_predicted() -> None:
    optimizer = make(max_t=None, budget=None)
    for i in range(12):
        answer = optimizer.ask(f"t{i}", full=True)
        assert isinstance(answer, Suggestion)
        train(optimizer, f"t{i}", answer.config, end=MAX_T if i % 3 == 0 else 4.0)
    optimizer.ask("next", full=True)
    assert optimizer.prediction("t1") is not None


def test_a_state_without_own_end_is_read_as_before() -> None:
    """States of version 1 from before it was kept."""
    for max_t, kept in ((None, [False, True]), (20.0, [True, True])):
        optimizer = make(max_t=max_t, budget=None)
        for i, t in enumerate((12, 20)):
            ended_at(optimizer, f"t{i}", t, 1.0)
        state = as_json(optimizer.state_dict())
        for record in state["trials"]:
            del record["own_end"]
            record["status"] = "completed"
        optimizer.load_state_dict(state)
        assert [t.completed for t in optimizer.trials.values()] == kept
