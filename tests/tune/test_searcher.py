"""What Ray's own tests ask of a searcher, and the contract of JoBSSearcher, without a cluster."""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune.search import ConcurrencyLimiter, Repeater
from tune_spaces import nested_space

from jobs_ray import Decision, JoBSScheduler, JoBSSearcher, StateError, mixture
from jobs_ray.space import Categorical, Real, SearchSpace, SpaceError
from jobs_ray.trials import records
from jobs_ray.trials.records import trial_to_json
from jobs_ray.tune import session_state
from jobs_ray.tune.pulse import PATIENCE

SPACE = {"x": tune.uniform(0.0, 1.0), "n": tune.randint(0, 5)}


def searcher(**settings: Any) -> JoBSSearcher:
    return JoBSSearcher(**({"space": SPACE, "metric": "loss", "mode": "min", "seed": 0} | settings))


def run(search: JoBSSearcher, trials: int, length: int = 1, prefix: str = "t") -> list[dict[str, Any]]:
    """Trials one at a time, as Ray would report them; loss is lowest at x = 0.3."""
    configs = []
    for i in range(trials):
        config = search.suggest(f"{prefix}{i}")
        assert isinstance(config, dict), config
        configs.append(config)
        for t in range(1, length + 1):
            result = {"loss": (config["x"] - 0.3) ** 2 + 0.5 / t, "training_iteration": t}
            search.on_trial_result(f"{prefix}{i}", result)
        search.on_trial_complete(f"{prefix}{i}", result)
    return configs


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), None, "broken", [1.0, 2.0], "missing"])
def test_a_bad_value_is_a_failed_report_and_the_search_goes_on(bad: Any) -> None:
    search = searcher()
    search.suggest("bad")
    result = {"training_iteration": 1} | ({} if bad == "missing" else {"loss": bad})
    search.on_trial_result("bad", result)
    search.on_trial_complete("bad", result)
    run(search, 6)
    row = search.report()["trials"][0]
    assert row["curve"] == []
    assert row["failed_at"] == [1.0]
    assert row["status"] == "failed"
    found = search.recommendation()
    assert found is not None
    assert math.isfinite(found.mean)
    assert found.trial_id != "bad"


@pytest.mark.parametrize("time", [None, float("nan"), 0, -3, "late"])
def test_a_report_without_a_usable_time_is_ignored(time: Any, caplog: pytest.LogCaptureFixture) -> None:
    search = searcher(time_attr="epoch")
    search.suggest("a")
    for _ in range(2):
        search.on_trial_result("a", {"loss": 1.0, "epoch": time})
    search.on_trial_result("a", {"loss": 0.5, "epoch": 2})
    search.on_trial_complete("a", None)
    assert search.report()["trials"][0]["curve"] == [[2.0, 0.5]]
    assert caplog.text.count("reported no usable 'epoch'") == 1


def test_numpy_values_are_numbers() -> None:
    search = searcher()
    search.suggest("a")
    search.on_trial_result("a", {"loss": np.float32(0.25), "training_iteration": np.int64(3)})
    assert search.report()["trials"][0]["curve"] == [[3.0, 0.25]]


def test_arrays_of_one_element_are_numbers_and_bools_are_not(caplog: pytest.LogCaptureFixture) -> None:
    search = searcher(max_t=12, short_t=3, budget=9)
    search.suggest("array")
    search.on_trial_result("array", {"loss": np.array([0.25]), "training_iteration": np.array([1])})
    assert search.report()["trials"][0]["curve"] == [[1.0, 0.25]]
    search = searcher(max_t=12, short_t=3, budget=9)
    for number in range(4):  # nothing can be learned: it must not go on to buy full runs
        answer = search.suggest(f"t{number}")
        if number == 3:
            assert answer == "FINISHED"
            break
        for t in (1, 2):
            search.on_trial_result(f"t{number}", {"loss": np.bool_(True), "training_iteration": t})
        search.on_trial_complete(f"t{number}", {"loss": True, "training_iteration": 2})
    assert "the search ends: all trials failed, the last 3 alike: reported 'loss', which is not a number" in caplog.text


def test_three_alike_failures_end_the_search_only_when_no_trial_in_flight_ends_in_order() -> None:
    search = searcher(max_t=12, short_t=3, budget=9)
    for name in "abcde":
        assert isinstance(search.suggest(name), dict)

    def fail(name: str) -> None:
        search.session.end(name, error=True, why="RuntimeError: no such file")

    for name in "abc":
        fail(name)
    assert search.session.failures.verdict
    assert search.suggest("f") is None
    fail("d")
    assert search.suggest("f") is None
    for t in (1, 2, 3):
        search.on_trial_result("e", {"loss": 1.0, "training_iteration": t})
    search.on_trial_complete("e", {"loss": 1.0, "training_iteration": 3})
    assert search.session.failures.verdict is None
    assert isinstance(search.suggest("f"), dict)


def test_the_same_report_twice_counts_once() -> None:
    search = searcher(max_t=4)
    search.suggest("a")
    for _ in range(3):
        search.record("a", {"loss": 1.0, "training_iteration": 1})
        search.on_trial_result("a", {"loss": 1.0, "training_iteration": 1})
    assert search.report()["trials"][0]["curve"] == [[1.0, 1.0]]
    assert search.report()["budget"]["spent"] == pytest.approx(0.25)


def test_a_result_that_ray_brings_three_times_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduler, searcher and callback get the same result one after the other; a decision takes milliseconds."""
    search = searcher(max_t=3)
    for name in "ab":
        search.suggest(name)
    core, decided = search.session.core, []
    report = core.report
    monkeypatch.setattr(core, "report", lambda *args, **more: decided.append(args[:2]) or report(*args, **more))
    worker = {"node_ip": "n", "pid": 1}
    results = [{"loss": 1.0, "training_iteration": t, "iterations_since_restore": t, **worker} for t in (1, 2, 3)]
    answers = [[search.record("a", result) for _ in range(3)] for result in results]
    assert answers == [[Decision.CONTINUE] * 3] * 2 + [[Decision.STOP] * 3]
    assert decided == [("a", 1), ("a", 2), ("a", 3)]
    search.record("b", results[0])
    search.record("a", results[2])
    assert decided[3:] == [("b", 1), ("a", 3)]
    search.on_trial_complete("a", results[2])
    assert search.record("a", {**results[2], "loss": 0.5}) is Decision.STOP
    assert core.trials["a"].curve.value == (-1.0, -1.0, -1.0)


def test_a_restart_right_after_the_first_report_is_charged_too() -> None:
    """With max_failures the searcher is not told; the new process reports t = 1 again, as the old one did."""
    search = searcher(max_t=4)
    search.suggest("a")
    for pid, t in ((7, 1), (8, 1), (8, 2), (9, 2), (9, 3)):
        for _ in range(3):  # through the scheduler, the searcher and the callback
            search.on_trial_result("a", {"loss": 1.0 / t, "training_iteration": t, "pid": pid, "node_ip": "10.0.0.1"})
    assert search.report()["trials"][0]["curve"] == [[1.0, 1.0], [2.0, 0.5], [3.0, 1.0 / 3.0]]
    assert search.report()["budget"]["spent"] == pytest.approx(5 / 4)


def from_worker(t: float, number: int, loss: float = 1.0) -> dict[str, Any]:
    return {"training_iteration": t, "loss": loss, "node_ip": "n", "pid": 1, "iterations_since_restore": number}


def test_a_trial_that_goes_back_again_and_again_is_stopped_at_a_whole_run_wasted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    search = searcher(max_t=12, short_t=6, budget=10)
    search.suggest("a")
    for number in range(100):
        for _ in range(3):  # scheduler, searcher, callback
            decision = search.record("a", from_worker(1 + number % 3, number))
        if decision.value == "stop":
            break
    assert search.report()["trials"][0]["charged"] == pytest.approx((12 + 3) / 12, abs=3 / 12)
    assert caplog.text.count("trial a is stopped: 'training_iteration' went back again and again") == 1


def test_a_trial_whose_time_stands_still_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    search = searcher(max_t=12, short_t=6, budget=10)
    search.suggest("a")
    decisions = [search.record("a", from_worker(1, number // 2)).value for number in range(2 * PATIENCE + 2)]
    assert decisions == ["continue"] * 2 * PATIENCE + ["stop"] * 2
    assert f"trial a is stopped: {PATIENCE} reports in a row brought" in caplog.text
    search.suggest("b")  # many reports an epoch are no standstill
    times = [t for t in range(1, 6) for _ in range(PATIENCE)]
    assert {search.record("b", from_worker(t, number)).value for number, t in enumerate(times)} == {"continue"}


def test_a_failed_trial_keeps_its_partial_curve() -> None:
    search = searcher(max_t=4)
    search.suggest("a")
    search.on_trial_result("a", {"loss": 1.0, "training_iteration": 1})
    search.on_trial_complete("a", result=None, error=True)
    row = search.report()["trials"][0]
    assert row["curve"] == [[1.0, 1.0]]
    assert row["status"] == "failed"


def test_reports_after_the_end_and_of_strangers_are_harmless() -> None:
    search = searcher()
    run(search, 2)
    before = search.report()["trials"]
    search.on_trial_result("t0", {"loss": -9.0, "training_iteration": 7})
    search.on_trial_complete("t0", {"loss": -9.0, "training_iteration": 7})
    search.on_trial_result("stranger", {"loss": -9.0, "training_iteration": 1})
    search.on_trial_complete("stranger", None, error=True)
    search.on_trial_complete(trial_id="t1", result=None, error=True)
    assert search.report()["trials"] == before


def test_anonymous_metric() -> None:
    search = JoBSSearcher()
    assert search.set_search_properties(None, "max", SPACE, num_samples=3)
    search.suggest("a")
    search.on_trial_complete("a", {"_metric": 0.5, "training_iteration": 1})
    assert search.metric == "_metric"
    assert search.recommendation().mean == pytest.approx(0.5)


def test_mixed_lists_and_nested_choices_are_suggested_whole() -> None:
    search = searcher(space=nested_space())
    config = search.suggest("a")
    assert isinstance(config, dict)
    assert set(config) == set(nested_space())
    assert config["layers"][1] == 7
    json.dumps(config)  # Python types only


def test_metric_and_mode_from_anywhere_but_not_twice() -> None:
    search = JoBSSearcher(metric="loss", mode="min")
    assert search.set_search_properties("loss", "min", SPACE)
    with pytest.raises(ValueError, match=r"metric is 'loss' in JoBSSearcher and 'acc' in tune.TuneConfig"):
        JoBSSearcher(metric="loss").set_search_properties("acc", "min", SPACE)
    with pytest.raises(ValueError, match="mode is 'min' in JoBSSearcher and 'max'"):
        JoBSSearcher(mode="min").set_search_properties("loss", "max", SPACE)
    with pytest.raises(ValueError, match="needs metric and mode, got metric=None"):
        JoBSSearcher(space=SPACE).suggest("a")
    with pytest.raises(ValueError, match="one metric, got"):
        JoBSSearcher(metric=["a", "b"], mode=["min", "max"])  # type: ignore[arg-type]


def test_a_space_in_both_places_is_refused_and_constants_are_not() -> None:
    assert not searcher().set_search_properties("loss", "min", {"y": tune.uniform(0, 1)})
    assert searcher().set_search_properties("loss", "min", {"steps": 100})
    assert not searcher().set_search_properties("loss", "min", SPACE)


def test_no_space_at_all_is_said() -> None:
    with pytest.raises(SpaceError, match=r"nothing to search; give tune.Tuner a param_space"):
        JoBSSearcher(metric="loss", mode="min").suggest("a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0.5}, r"budget is 0\.5 full runs, too small for one full run"),
        ({"max_t": -1}, "max_t is -1; expected a positive number"),
        ({"max_t": 10, "short_t": 12}, "short_t is 12; expected a number between 0 and max_t=10"),
        ({"steps_key": "steps"}, "steps_key='steps' needs max_t"),
        ({"steps_key": "k", "resume_key": "k", "max_t": 5}, "both 'k'"),
        ({"mode": "best"}, "mode is 'best'; expected 'min' or 'max'"),
        ({"budget": "ten"}, "budget is 'ten'; expected a number of full runs, at least 1"),
        ({"budget": math.inf}, "budget is inf; expected a number"),
        ({"budget": math.nan}, "budget is nan; expected a number"),
        ({"max_t": "25"}, "max_t is '25'; expected a positive number"),
        ({"max_t": True}, "max_t is True; expected a positive number"),
        ({"short_t": "5"}, "short_t is '5'; expected 'auto' or a positive number"),
        ({"num_full": -3}, "num_full is -3; expected 'auto' or a whole number from 1 on"),
        ({"num_full": 2.5}, "num_full is 2.5; expected 'auto' or a whole number"),
        ({"num_confirm": "many"}, "num_confirm is 'many'; expected 'auto' or a whole number from 0 on"),
        ({"num_full": 50, "budget": 5}, "num_full is 50 full runs, more than the budget of 5; lower it"),
        ({"seed": "x"}, "seed is 'x'; expected a whole number from 0 on, or None"),
        ({"seed": -1}, "seed is -1; expected a whole number"),
        ({"resume_key": ""}, "resume_key is ''; expected the name of a key"),
        ({"time_attr": None}, "time_attr is None; expected the name of a key"),
        ({"predictor": "mlp"}, r"predictor is 'mlp'; expected an object with fit\(\)"),
        ({"points_to_evaluate": {"x": 1}}, r"points_to_evaluate is one configuration; expected a list of them"),
        ({"points_to_evaluate": ["x"]}, r"points_to_evaluate holds 'x'; expected a list of configurations"),
        ({"space": SPACE, "points_to_evaluate": [{"z": 1}]}, "parameter 'z' is not in the search space"),
        ({"space": SPACE, "points_to_evaluate": [{"x": 7.0}]}, "'x' is 7.0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JoBSSearcher(**settings)


def test_parameters_that_the_searcher_writes_itself_cannot_be_searched() -> None:
    with pytest.raises(SpaceError, match="'x' is what steps_key writes"):
        searcher(steps_key="x", max_t=5)


def test_steps_and_resume_keys_are_written_into_every_config() -> None:
    search = searcher(max_t=12, short_t=2, steps_key="max_steps", resume_key="resume_from")
    config = search.suggest("a")
    assert isinstance(config, dict)
    assert config["max_steps"] == 2
    assert type(config["max_steps"]) is int
    assert config["resume_from"] is None


def test_promotions_whose_checkpoint_is_gone_do_not_overspend() -> None:
    """No trial here leaves a checkpoint, though every promotion is planned as the rest of a run."""
    search = searcher(max_t=20, short_t=2, budget=3, steps_key="steps", resume_key="resume_from")
    whole = 0
    for i in range(100):
        config = search.suggest(f"t{i}")
        if not isinstance(config, dict):
            break
        assert config["resume_from"] is None
        whole += config["steps"] == 20
        for t in range(2, config["steps"] + 1, 2):
            search.on_trial_result(f"t{i}", {"loss": config["x"] + 1 / t, "training_iteration": t})
        search.on_trial_complete(f"t{i}", {"loss": config["x"], "training_iteration": config["steps"]})
        assert search.session.core.budget.committed <= 3 + 1e-9
    assert config == "FINISHED"
    assert whole >= 1
    assert search.session.core.budget.left < 1


def test_points_to_evaluate_come_first_and_exactly() -> None:
    points = [{"x": 0.123456789, "n": 3}, {"x": 1.0, "n": 0}]
    search = searcher(points_to_evaluate=points)
    assert run(search, 2) == points
    with pytest.raises(SpaceError, match="'n' is 7"):
        searcher(points_to_evaluate=[{"x": 0.5, "n": 7}])


def test_numpy_settings_are_numbers() -> None:
    search = searcher(max_t=np.int64(10), budget=np.float32(5.0), seed=np.int64(3))
    run(search, 2)
    json.loads(session_state.to_text(search.session))


def test_points_in_numpys_scalars_are_taken_and_saved(tmp_path: Path) -> None:
    space = {
        "lr": tune.loguniform(1e-4, 1e-1), "n": tune.randint(0, 9), "q": tune.quniform(0.0, 1.0, 0.25),
        "k": tune.choice([1, 2, 4]), "flag": tune.choice([False, True]),
    }  # fmt: skip
    point = {"lr": np.float32(0.01), "n": np.int64(3), "q": np.float32(0.5), "k": np.int64(2), "flag": np.bool_(True)}
    search = searcher(space=space, points_to_evaluate=[point])
    config = search.suggest("a")
    assert config == {"lr": pytest.approx(0.01), "n": 3, "q": 0.5, "k": 2, "flag": True}
    assert not any(isinstance(value, np.generic) for value in config.values())
    search.save(str(tmp_path / "state"))


def test_a_parameter_that_does_not_exist_is_not_suggested() -> None:
    space = {"opt": Categorical(["adam", "sgd"]), "momentum": Real(0.0, 1.0, when={"opt": "sgd"})}
    search = searcher(space=space, points_to_evaluate=[{"opt": "adam"}, {"opt": "sgd", "momentum": 0.5}])
    assert [search.suggest(name) for name in "ab"] == [{"opt": "adam"}, {"opt": "sgd", "momentum": 0.5}]
    for i in range(8):
        config = search.suggest(f"t{i}")
        assert isinstance(config, dict)
        assert ("momentum" in config) == (config["opt"] == "sgd")


def test_partial_points_are_completed_and_weights_normalised(tmp_path: Path) -> None:
    space = nested_space() | {"mixture": mixture("a", "b", "c", max=0.6)}
    points = [{"opt": {"name": "sgd"}, "lora": {"r": 7}}, {"mixture": {"a": 2, "b": 5, "c": 3}}]
    for seed in (0, None):
        search = searcher(space=space, points_to_evaluate=points, seed=seed)
        first, second = (search.suggest(name) for name in "ab")
        assert isinstance(first, dict)
        assert isinstance(second, dict)
        assert (first["opt"]["name"], first["lora"]["r"]) == ("sgd", 7)
        assert "momentum" in first["opt"]
        assert second["mixture"] == pytest.approx({"a": 0.2, "b": 0.5, "c": 0.3})
        search.save(str(tmp_path / "state"))
        again = JoBSSearcher()
        again.restore(str(tmp_path / "state"))
        assert [row["config"] for row in again.report()["trials"]] == [first, second]
    with pytest.raises(SpaceError, match="expected a weight for each"):
        searcher(space=space, points_to_evaluate=[{"mixture": {"a": 2, "b": 5}}])


def test_num_samples_ends_the_search() -> None:
    search = JoBSSearcher(seed=0)
    search.set_search_properties("loss", "min", SPACE, num_samples=3)
    run(search, 3)
    assert search.suggest("more") == "FINISHED"


def test_budget_ends_the_search_only_when_nothing_is_in_flight() -> None:
    search = searcher(max_t=2, budget=2)
    assert isinstance(search.suggest("a"), dict)
    answers = [search.suggest(f"b{i}") for i in range(40)]
    assert "FINISHED" not in answers or answers.index("FINISHED") > 0
    live = ["a", *(f"b{i}" for i, answer in enumerate(answers) if isinstance(answer, dict))]
    for trial_id in live:
        search.on_trial_complete(trial_id, None, error=True)  # nothing was trained: nothing is charged
    assert search.report()["budget"]["spent"] == 0.0
    assert isinstance(search.suggest("c"), dict)


def test_evaluated_points_are_learned_from_and_not_charged() -> None:
    search = searcher(max_t=3, budget=5)
    search.add_evaluated_point({"x": 0.3, "n": 1}, 0.1, intermediate_values=[0.9, 0.4, 0.2])
    search.add_evaluated_point({"x": 0.9, "n": 1}, 0.7, pruned=True, intermediate_values=[0.7])
    search.add_evaluated_point({"x": 0.5, "n": 2}, math.nan, error=True)
    found = search.recommendation()
    assert found.config == {"x": 0.3, "n": 1}
    assert found.mean == pytest.approx(0.1)
    report = search.report()
    assert report["budget"]["spent"] == 0.0
    assert [row["curve"] for row in report["trials"]] == [[[1.0, 0.9], [2.0, 0.4], [3.0, 0.1]], [[1.0, 0.7]]]
    with pytest.raises(SpaceError, match="'n' is 9"):
        search.add_evaluated_point({"x": 0.5, "n": 9}, 0.1)


def test_save_and_restore_into_a_blank_searcher(tmp_path: Path) -> None:
    first = searcher(space=SPACE | {"opt": tune.choice([{"a": tune.uniform(0, 1)}, "plain"])})
    run(first, 5)
    first.save(str(tmp_path / "state"))
    second = JoBSSearcher()
    second.restore(str(tmp_path / "state"))
    assert second.report() == first.report()
    assert run(second, 3, prefix="u") == run(first, 3, prefix="u")
    assert second.metric == "loss"
    text = (tmp_path / "state").read_text()
    assert json.loads(text)  # plain JSON in Ray's file


def test_a_restored_searcher_wins_over_what_it_was_told_before(tmp_path: Path) -> None:
    first = searcher(max_t=9)
    run(first, 2)
    first.save(str(tmp_path / "state"))
    second = JoBSSearcher(max_t=9)
    second.set_search_properties("loss", "min", SPACE, num_samples=7)
    second.restore(str(tmp_path / "state"))
    assert len(second.report()["trials"]) == 2
    assert second.set_search_properties("loss", "min", SPACE)
    assert not second.set_search_properties("loss", "min", {"y": tune.uniform(0, 1)})


@pytest.mark.parametrize("damage", ["version", "truncated", "no_session", "not_json", "curve"])
def test_a_damaged_or_foreign_state_gives_an_error_and_touches_nothing(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state"
    first = searcher()
    run(first, 3)
    first.save(str(path))
    text = path.read_text()
    if damage == "version":
        path.write_text(text.replace('"searcher_version": 1', '"searcher_version": 99'))
    elif damage == "truncated":
        path.write_text(text[: len(text) // 2])
    elif damage == "no_session":
        path.write_text(text.replace('"session"', '"sess"'))
    elif damage == "curve":
        path.write_text(text.replace('"phase": "learn"', '"phase": "lear"'))
    else:
        path.write_bytes(b"\x80\x04pickle")
    assert path.read_bytes() != text.encode()
    second = searcher(seed=1)
    run(second, 2)
    before = second.report()
    with pytest.raises(StateError):
        second.restore(str(path))
    assert second.report() == before
    assert isinstance(second.suggest("next"), dict)


def test_a_save_makes_plain_only_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = searcher(max_t=12, short_t=3)
    run(search, 5, length=3)
    search.suggest("running")
    made: list[str] = []
    configurations: list[Any] = []
    values = SearchSpace.values

    def counting(space: Any, trial: Any, values: Any = None) -> Any:
        made.append(trial.trial_id)
        return trial_to_json(space, trial, values)

    def projecting(space: Any, config: Any, x: Any = None) -> Any:
        configurations.append(config)
        return values(space, config, x)

    def saved() -> list[str]:
        """The trials that were made plain for it; what is written is what a fresh look at all of them gives."""
        made.clear()
        search.save(str(tmp_path / "state"))
        found = sorted(made)
        session = json.loads((tmp_path / "state").read_text())["session"]
        with monkeypatch.context() as patch:
            patch.setattr(SearchSpace, "values", values)
            assert session["optimizer"] == search.session.core.state_dict()
        return found

    monkeypatch.setattr(records, "trial_to_json", counting)
    monkeypatch.setattr(SearchSpace, "values", projecting)
    assert saved() == ["running", "t0", "t1", "t2", "t3", "t4"]
    assert saved() == []
    configurations.clear()
    search.on_trial_result("running", {"loss": 1.0, "training_iteration": 1})
    assert saved() == ["running"]
    assert not configurations
    search.on_trial_complete("running", error=True)
    search.session.reopen(["t0"])
    assert saved() == ["running", "t0"]
    assert saved() == []


def test_a_save_that_fails_is_said_and_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    search = searcher()
    run(search, 2)
    search.save_to_dir(str(tmp_path), "s")
    [state] = tmp_path.iterdir()
    before = state.read_bytes()
    run(search, 1, prefix="more")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        search.save_to_dir(str(tmp_path), "s")
        with pytest.raises(OSError, match="No space left"):
            search.save(str(tmp_path / "by-hand"))
    assert "could not be saved ([Errno 28] No space left on device); the older one stays" in caplog.text
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(state, before)]
    search.save_to_dir(str(tmp_path), "s")
    assert state.read_bytes() != before


def test_a_restore_uses_the_newest_state_that_is_whole(tmp_path: Path) -> None:
    before = searcher()
    run(before, 3)
    for day in (1, 2):
        before.save(str(tmp_path / f"searcher-state-2026-01-0{day}_00-00-00.pkl"))
    newest = tmp_path / "searcher-state-2026-01-02_00-00-00.pkl"
    newest.write_bytes(newest.read_bytes()[:-9])
    after = searcher()
    after.restore_from_dir(str(tmp_path))
    assert after.report() == before.report()


def test_where_ray_has_restored_nothing_the_error_says_where_whole_files_are() -> None:
    """It promised the state of the search, which a full storage leaves empty."""
    in_tuner_pkl = pickle.loads(pickle.dumps(JoBSSearcher(metric="loss", mode="min")))
    with pytest.raises(SpaceError) as refused:
        in_tuner_pkl.suggest("a")
    begin, _, end = str(refused.value).partition(
        "/tmp/ray/session_*/artifacts/*/<its name>/driver_artifacts there: copy"
    )
    assert begin.startswith("If this is a Tuner.restore, Ray could not restore the experiment (its log says why)")
    assert "goes on from the state of the search, if a file of it is whole" in end
    assert "Else JoBSSearcher has nothing to search; give tune.Tuner a param_space" in end


def test_without_any_state_and_any_space_the_error_says_so(tmp_path: Path) -> None:
    lost = JoBSSearcher(metric="loss", mode="min")
    lost.restore_from_dir(str(tmp_path))
    lost.save(str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()  # nothing is saved over what may be whole elsewhere
    with pytest.raises(SpaceError, match="nothing to search: no saved state can be used; give"):
        lost.suggest("a")


def test_a_search_built_anew_is_not_limited_by_what_ray_says_at_a_restore(tmp_path: Path) -> None:
    """Ray keeps `num_samples` with its own state of the search, and tells the scheduler 1."""
    scheduler = JoBSScheduler()
    scheduler.set_search_properties("loss", "min", num_samples=1)
    lost = searcher()
    lost.restore_from_dir(str(tmp_path))
    lost.see([])
    assert lost.session.num_samples is None


def test_the_searcher_can_be_pickled_at_any_time() -> None:
    blank = pickle.loads(pickle.dumps(JoBSSearcher()))
    blank.set_search_properties("loss", "min", SPACE)
    assert isinstance(blank.suggest("a"), dict)
    busy = searcher()
    run(busy, 3)
    copy = pickle.loads(pickle.dumps(busy))
    assert copy.report() == busy.report()
    assert copy.suggest("next") == busy.suggest("next")


def test_concurrency_limiter_and_repeater_wrap_it() -> None:
    limited = ConcurrencyLimiter(searcher(), max_concurrent=2)
    assert [limited.suggest(i) is None for i in "abc"] == [False, False, True]
    limited.on_trial_complete("a", {"loss": 1.0, "training_iteration": 1})
    assert isinstance(limited.suggest("d"), dict)
    inner = searcher()
    repeated = Repeater(inner, repeat=2)
    assert repeated.suggest("a")["x"] == repeated.suggest("b")["x"]
    repeated.on_trial_complete("a", {"loss": 1.0, "training_iteration": 1})
    repeated.on_trial_complete("b", {"loss": 3.0, "training_iteration": 1})
    [row] = inner.report()["trials"]
    assert row["final"] == pytest.approx(2.0)


def test_converges_better_than_random() -> None:
    space = {"x": tune.uniform(0.0, 1.0), "y": tune.uniform(0.0, 1.0), "c": tune.choice(["a", "b", "c"])}

    def loss(config: dict[str, Any]) -> float:
        penalty = {"a": 0.3, "b": 0.0, "c": 0.5}[config["c"]]
        return (config["x"] - 0.71) ** 2 + (config["y"] - 0.18) ** 2 + penalty

    ours, theirs = [], []
    for seed in range(3):
        search = searcher(space=space, seed=seed)
        best = math.inf
        for i in range(30):
            config = search.suggest(f"t{i}")
            value = loss(config)
            best = min(best, value)
            search.on_trial_complete(f"t{i}", {"loss": value, "training_iteration": 1})
        ours.append(best)
        rng = np.random.default_rng(seed)
        theirs.append(min(loss({k: v.sample(random_state=rng) for k, v in space.items()}) for _ in range(30)))
    assert np.mean(ours) < 0.3 * np.mean(theirs)


def test_the_oldest_pending_trial_is_next() -> None:
    """Looked for from the newest one on, since there nearly all of them are."""
    search = JoBSSearcher({"x": tune.uniform(0.0, 1.0)}, "loss", "min", max_t=4, seed=0)
    assert search.session
    status = ["TERMINATED", "PENDING", "RUNNING", "PENDING", "PENDING", "RUNNING"]
    trials = [Waiting(str(number), each) for number, each in enumerate(status)]
    live = list(reversed(trials[1:]))
    controller = SimpleNamespace(search_alg=search, get_trials=lambda: trials, get_live_trials=lambda: live)
    chosen = []
    while (trial := JoBSScheduler().choose_trial_to_run(controller)) is not None:
        chosen.append(trial.trial_id)
        trial.status = "RUNNING"
    assert chosen == ["1", "3", "4"]


def test_a_trial_whose_actor_is_starting_is_not_given_another() -> None:
    search = JoBSSearcher({"x": tune.uniform(0.0, 1.0)}, "loss", "min", max_t=4, seed=0)
    assert search.session
    starts, waits, new = trials = [Waiting("starts"), Waiting("waits"), Waiting("new")]
    controller = SimpleNamespace(search_alg=search, get_trials=lambda: trials, get_live_trials=lambda: trials)
    assert JoBSScheduler().choose_trial_to_run(controller) is starts  # a Ray that does not tell
    controller._actor_to_trial = {"its actor": waits, "it starts": starts}
    controller._actor_manager = SimpleNamespace(live_actors=["it starts", "an actor that waits for reuse"])
    assert JoBSScheduler().choose_trial_to_run(controller) is waits
    waits.status = new.status = "RUNNING"
    assert JoBSScheduler().choose_trial_to_run(controller) is starts


@dataclass(eq=False)
class Waiting:
    """A trial as a scheduler sees it."""

    trial_id: str
    status: str = "PENDING"
