"""A run that is not the plain one: a Repeater or another scheduler around ours, knowledge from before, a second fit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import HyperBandScheduler
from ray.tune.schedulers.resource_changing_scheduler import DistributeResources, ResourceChangingScheduler
from ray.tune.search import Repeater
from tune_trainables import STEPS, Class, half

import jobs_ray
from jobs_ray import JoBSScheduler, JoBSSearcher, recommend
from jobs_ray.tune.result_reader import Resume

SPACE = {"x": tune.uniform(0.0, 1.0)}
Fit = Callable[..., tune.ResultGrid]


class Endless(Class):
    """Never ends by itself."""

    def step(self) -> dict[str, Any]:
        return super().step() | {"done": False}


def iterations(results: tune.ResultGrid) -> list[int]:
    return sorted(result.metrics["training_iteration"] for result in results)


@pytest.mark.slow
def test_a_repeaters_trials_end_at_max_t_and_share_the_budget(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    """Naive: only the first of them is known to the search. The others went on for ever, and were not charged."""
    searcher = JoBSSearcher(max_t=STEPS, budget=4, seed=0)
    results = fit(
        half(Endless), SPACE, Repeater(searcher, repeat=2), JoBSScheduler(), num_samples=4, reuse_actors=True,
        max_concurrent_trials=2, run_config={"stop": {"training_iteration": 3 * STEPS}},
    )  # fmt: skip
    assert iterations(results) == [STEPS] * 4
    rows = searcher.report()["trials"]
    assert [row["curve"][-1][0] for row in rows] == [STEPS] * 2
    assert all(row["final"] is not None for row in rows)
    assert searcher.session.core.budget.total == 2.0  # configurations; (before 2.60 a Repeater cannot be told FINISHED)
    assert searcher.session.core.settings.num_trials == 2
    said = capsys.readouterr().out
    assert "each configuration is 2 whole trials" in said
    assert "would stop most of them early" not in said
    assert "max_concurrent_trials is not set" not in said


def test_a_budget_for_less_than_one_repeated_configuration_is_refused(fit: Fit) -> None:
    with pytest.raises(Exception, match=r"budget is 2 full runs, but Repeater\(repeat=3\).*give at least 3"):
        fit(Class, SPACE, Repeater(JoBSSearcher(max_t=STEPS, budget=2), repeat=3), JoBSScheduler(), num_samples=-1)


def test_the_mean_of_a_repeater_stands_at_the_end_of_the_first_run() -> None:
    """Naive: at t = 1 without max_t, where it wiped out the curve."""
    inner = JoBSSearcher(SPACE, "loss", "min")
    repeater = Repeater(inner, repeat=2)
    repeater.suggest("a")
    repeater.suggest("b")
    for t in (1, 2, 3):
        inner.record("a", {"loss": 1.0 / t, "training_iteration": t})
    repeater.on_trial_complete("a", {"loss": 0.4, "training_iteration": 3})
    repeater.on_trial_complete("b", {"loss": 0.6, "training_iteration": 3})
    [row] = inner.report()["trials"]
    assert row["curve"] == [[1.0, 1.0], [2.0, 0.5], [3.0, 0.5]]


@pytest.mark.slow
def test_hyperband_stops_as_many_trials_as_with_another_searcher(fit: Fit) -> None:
    """Naive: paused trials take the cluster's places, so that no bracket fills, and every trial runs to its end."""
    results = fit(
        half(Endless), SPACE, JoBSSearcher(seed=0), HyperBandScheduler(max_t=9), num_samples=16, reuse_actors=True
    )
    assert len(results) == 16
    assert iterations(results)[:4] != [9] * 4


@pytest.mark.slow
def test_a_trial_paused_for_other_resources_goes_on(fit: Fit) -> None:
    """Naive: only pending trials are chosen. The experiment stood still."""
    scheduler = ResourceChangingScheduler(JoBSScheduler(), DistributeResources())
    results = fit(Class, SPACE, JoBSSearcher(max_t=STEPS, short_t=2, num_full=1, seed=0), scheduler, num_samples=3)
    assert len(results) == 3
    assert not results.errors


@pytest.mark.parametrize("told", [pytest.param(True, marks=pytest.mark.slow), False])
def test_what_is_known_before_leaves_the_number_of_trials_as_it_is(fit: Fit, told: bool) -> None:
    """Naive: the plan is made when the first point is added, for no number of trials: short runs only, and the user's
    own point is recommended. (With the space in the constructor Ray tells a searcher nothing at all.)"""
    searcher = JoBSSearcher(None if told else SPACE, "loss", "min", max_t=STEPS, short_t=2, seed=0)
    if not told:
        searcher.add_evaluated_point({"x": 0.9}, 2.0)
    objective = {} if told else {"metric": None, "mode": None}
    results = fit(
        half(Class), SPACE if told else {}, searcher, JoBSScheduler(), num_samples=6, max_concurrent_trials=2,
        reuse_actors=True, **objective,
    )  # fmt: skip
    assert len(results) == 6
    assert STEPS in iterations(results)
    assert searcher.report()["trials"][-1]["phase"] == "confirm"
    again = fit(
        half(Class), SPACE if told else {}, searcher, JoBSScheduler(), num_samples=2, max_concurrent_trials=2,
        reuse_actors=True, run_config={"name": "again"}, **objective,
    )  # fmt: skip
    assert len(again) == 2  # Naive: the number is used up


def test_a_trial_that_meets_the_users_criterion_has_come_to_its_end() -> None:
    """Naive: whatever is shorter than the longest is no final value, so the fastest configuration was the best."""
    searcher = JoBSSearcher(SPACE, "loss", "min")
    searcher.suggest("slow")
    searcher._run.learn(2, {"time_total_s": 60})  # type: ignore[union-attr]  # as Ray tells the callback
    searcher.suggest("fast")
    for name, steps, final in (("fast", 14, 6.0), ("slow", 10, 1.0)):
        for t in range(1, steps + 1):
            result = {"loss": final + 1.0 / t, "training_iteration": t, "time_total_s": 60.0 * t / steps}
            if t < steps:
                searcher.on_trial_result(name, result)
        searcher.on_trial_complete(name, result | {"done": True})
    found = searcher.recommendation()
    assert found is not None
    assert (found.trial_id, found.confirmed) == ("slow", True)


def test_trials_that_another_scheduler_cut_are_no_finals_of_a_warm_start() -> None:
    class Cut:
        status = "TERMINATED"

        def __init__(self, name: str, t: int, value: float) -> None:
            self.trial_id, self.config = name, {"x": value}
            self.last_result = {"training_iteration": t, "loss": value}

    searcher = JoBSSearcher(SPACE, "loss", "min")
    searcher.add_evaluated_trials([Cut("a", 2, 0.1), Cut("b", 25, 0.3), Cut("c", 24, 0.4)], "loss")
    assert [row["final"] for row in searcher.report()["trials"]] == [None, 0.3, 0.4]
    # the first has fewer reports than a prediction needs, but no final is made up for it
    found = searcher.recommendation()
    assert found is not None
    assert found.t == 25.0


def test_objects_that_were_chosen_are_recommended_as_such(fit: Fit) -> None:
    """Ray shows a searcher placeholders in their place, of which nobody knows what they stand for."""
    searcher = JoBSSearcher(max_t=STEPS, short_t=2, num_full=1, seed=0)
    space = SPACE | {"how": tune.choice([max, min]), "deep": {"er": [1, len]}}
    results = fit(
        half(Class), space, searcher, JoBSScheduler(), num_samples=3, max_concurrent_trials=2, reuse_actors=True
    )
    for found in (searcher.recommendation(), recommend(results)):
        assert found is not None
        assert found.config["how"] in (max, min)
        assert found.config["deep"] == {"er": [1, len]}
    from_folder = recommend(results.experiment_path)
    assert from_folder is not None
    assert from_folder.config["how"] in ("<option 0 of how>", "<option 1 of how>")


def test_a_parameter_of_the_core_in_a_param_space_is_refused(fit: Fit) -> None:
    """Naive: Ray takes it for a constant, and it is not searched; nothing is said."""
    space = SPACE | {"deep": {"lr": jobs_ray.Real(1e-5, 1e-2, log=True)}}
    with pytest.raises(Exception, match="'deep/lr' is a Real of jobs_ray, which Ray Tune passes on as a constant"):
        fit(half(Class), space, JoBSSearcher(max_t=STEPS, seed=0), JoBSScheduler(), num_samples=2, reuse_actors=True)


class Unsaved(tune.Trainable):
    """Without save_checkpoint."""

    def step(self) -> dict[str, Any]:
        return {"loss": self.config["x"], "done": self.iteration >= STEPS - 1}


def test_a_class_that_saves_nothing_is_refused_where_ray_would_save_it(fit: Fit) -> None:
    """Naive: each trial trains, and fails with a NotImplementedError when it is stopped."""
    with pytest.raises(Exception, match=r"Unsaved has no save_checkpoint.*checkpoint_at_end=False"):
        fit(half(Unsaved), SPACE, JoBSSearcher(max_t=STEPS, seed=0), JoBSScheduler(), num_samples=2)
    config = {"checkpoint_config": tune.CheckpointConfig(checkpoint_at_end=False), "name": "unsaved"}
    results = fit(
        half(Unsaved), SPACE, JoBSSearcher(max_t=STEPS, seed=0), JoBSScheduler(), num_samples=2, run_config=config
    )
    assert not results.errors


def test_a_time_of_rays_starts_again_with_a_promotion() -> None:
    """Naive: only training_iteration does. A promotion from t = 3 seemed to begin at its own first seconds."""
    searcher = JoBSSearcher(SPACE, "loss", "min", max_t=24.0, short_t=3.0, time_attr="time_total_s", resume_key="from")
    session = searcher.session
    session.reader.resumes["promoted"] = Resume(3.0)
    assert session.reading("promoted", {"time_total_s": 1.5, "loss": 1.0}) == (4.5, 1.0)
    assert session.reading("other", {"time_total_s": 1.5, "loss": 1.0}) == (1.5, 1.0)


def test_a_second_fit_after_one_that_was_ended_in_its_midst(fit: Fit) -> None:
    """By a time budget, say. Naive: the trials of the first stay in flight for ever, and none is started."""
    searcher = JoBSSearcher(max_t=STEPS, short_t=2, seed=0)
    searcher.set_search_properties("loss", "min", SPACE, num_samples=4)
    assert isinstance(searcher.suggest("left"), dict)
    results = fit(
        half(Class), SPACE, searcher, JoBSScheduler(), num_samples=2, max_concurrent_trials=1, reuse_actors=True
    )
    assert len(results) == 2
    assert "left" not in searcher.session.live


@pytest.mark.parametrize("max_t", [STEPS, None])
def test_what_an_earlier_fit_left_halfway_is_not_confirmed_by_a_second_one(max_t: int | None) -> None:
    """Half of `max_t` is enough for a run that came to its own end; without `max_t` any length was."""
    searcher = JoBSSearcher(SPACE, "loss", "min", max_t=max_t, budget=4, seed=0)
    assert isinstance(searcher.suggest("left"), dict)
    searcher.session.core.amend("left", grant=max_t)
    for t in range(1, STEPS):
        searcher.on_trial_result("left", {"loss": 1.0 / t, "training_iteration": t})
    searcher.set_search_properties("loss", "min", {}, num_samples=3)
    (row,) = searcher.report()["trials"]
    assert (row["status"], row["final"]) == ("stopped", None)
    found = searcher.recommendation()
    assert found is not None
    assert not found.confirmed


@pytest.mark.parametrize(("upper", "said"), [(1.0, False), (2.0, True)])
def test_other_bounds_at_a_restore_have_no_effect_and_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, upper: float, said: bool
) -> None:
    """Ray refuses other keys only."""
    before = JoBSSearcher(SPACE | {"kind": tune.choice(["a", "b"])}, "loss", "min", max_t=STEPS, seed=0)
    before.suggest("a")
    before.save(str(tmp_path / "state"))
    after = JoBSSearcher(max_t=STEPS)
    after.set_search_properties("loss", "min", {"x": tune.uniform(0.0, upper), "kind": tune.choice(["a", "b"])})
    after.restore(str(tmp_path / "state"))
    assert ("another domain of 'x' has no effect" in caplog.text) == said
    assert after.session.space.core == before.session.space.core


def test_a_session_that_an_older_version_pickled_goes_on() -> None:
    searcher = JoBSSearcher(SPACE, "loss", "min", max_t=STEPS, seed=0)
    searcher.add_evaluated_point({"x": 0.5}, 1.0)
    del searcher.session.repeats  # as version 0.1.0 had none
    again = pickle.loads(pickle.dumps(searcher))
    again.set_search_properties("loss", "min", {}, num_samples=3)
    assert again.session.num_samples == 3
