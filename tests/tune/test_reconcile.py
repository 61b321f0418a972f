"""A restored searcher against Ray's trials of another moment: what `kill -9` between two writes leaves behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.experiment import Trial
from tune_trainables import STEPS, Class

from jobs_ray import JoBSScheduler, JoBSSearcher

SPACE = {"x": tune.uniform(0.0, 1.0), "n": tune.choice([1, 2, 3])}
TRIALS = 8


class Saving(JoBSSearcher):
    """Leaves a state behind before (`state3`) and after (`state3+`) each suggestion, and after each second report
    of a trial (`state3++`)."""

    folder: Path

    def suggest(self, trial_id: str) -> Any:
        count = self.session.handed_out
        self.save(str(self.folder / f"state{count}"))
        answer = super().suggest(trial_id)
        if isinstance(answer, dict):
            self.save(str(self.folder / f"state{count}+"))
        return answer

    def record(self, trial_id: str, result: Any) -> Any:
        decision = super().record(trial_id, result)
        if result["training_iteration"] == 2:
            self.save(str(self.folder / f"state{self.session.handed_out - 1}++"))
        return decision


@pytest.fixture(scope="module")
def finished(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[JoBSSearcher, Path]:
    """A finished search, one trial at a time: the searcher, and the folder of its experiment and its states."""
    folder = tmp_path_factory.mktemp("finished")
    Saving.folder = folder
    searcher = Saving(max_t=STEPS, short_t=3, seed=3)
    tune.Tuner(
        Class,
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=TRIALS,
            max_concurrent_trials=1,
            reuse_actors=True,
            search_alg=searcher,
            scheduler=JoBSScheduler(),
        ),
        run_config=tune.RunConfig(name="run", storage_path=str(folder), verbose=0),
    ).fit()
    return searcher, folder


@pytest.fixture
def run(finished: tuple[JoBSSearcher, Path], tmp_path: Path) -> tuple[JoBSSearcher, list[Any], Path]:
    """The finished search in a copy that a test may change: the searcher (not to be changed), Ray's own trials as
    Ray wrote them to disk (in their order in Tune's loop; the file has them in any order), the folder of states."""
    searcher, original = finished
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    on_disk = {trial.trial_id: trial for trial in tune.ExperimentAnalysis(str(tmp_path / "run")).trials}
    trials = [on_disk[row["trial_id"]] for row in searcher.report()["trials"]]
    assert len(trials) == len(on_disk) == TRIALS
    return searcher, trials, tmp_path


@pytest.fixture
def restored() -> Callable[[Path], JoBSSearcher]:
    """As Tuner.restore does it: the scheduler first, then the searcher from its file."""
    scheduler = JoBSScheduler()  # the searcher knows it by a weak reference

    def restore(state: Path) -> JoBSSearcher:
        scheduler.set_search_properties("loss", "min", num_samples=TRIALS)
        searcher = JoBSSearcher()
        searcher.restore(str(state))
        return searcher

    return restore


def remove_files(trial: Any) -> None:
    for path in (trial.storage.trial_driver_staging_path, trial.storage.trial_fs_path):
        shutil.rmtree(path, ignore_errors=True)


def rows(searcher: JoBSSearcher) -> list[tuple[Any, ...]]:
    keys = ("trial_id", "config", "phase", "steps", "curve", "status", "charged")
    return [tuple(row[key] for key in keys) for row in searcher.report()["trials"]]


@pytest.mark.parametrize("known", [0, 1, 5])
def test_trials_that_only_ray_knows_are_adopted_with_their_curves(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher], known: int
) -> None:
    unbroken, trials, folder = run
    late = restored(folder / f"state{known}")
    assert len(rows(late)) == known
    late.see(trials)
    assert rows(late) == rows(unbroken)
    assert late.report()["budget"] == unbroken.report()["budget"]
    late.see(trials)  # once is enough
    assert rows(late) == rows(unbroken)


def test_a_trial_that_ended_after_the_state_was_saved_is_charged_once(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher]
) -> None:
    unbroken, trials, folder = run
    late = restored(folder / "state2++")
    assert len(late.report()["trials"][2]["curve"]) == 2
    late.see(trials)
    assert rows(late) == rows(unbroken)
    assert late.report()["budget"] == unbroken.report()["budget"]


def test_a_full_run_that_ray_trains_again_keeps_its_final_and_is_charged(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher]
) -> None:
    """Ray's snapshot is older than the last reports of a trial, which its result file has."""
    unbroken, trials, folder = run
    number = [row["status"] for row in unbroken.report()["trials"]].index("completed")
    late = restored(folder / f"state{number}++")
    trials[number].set_status(Trial.PENDING)
    late.see(trials[: number + 1])
    assert rows(late) == rows(unbroken)[: number + 1]
    again = {"training_iteration": 1, "loss": 9.0, "pid": 1, "node_ip": "a", "iterations_since_restore": 1}
    name = trials[number].trial_id
    for result in (again, again, again | {"training_iteration": 2, "iterations_since_restore": 2}):
        assert late.record(name, result).value == "stop"
    late.on_trial_complete(name, again | {"training_iteration": 2, "iterations_since_restore": 2})
    *others, now = rows(late)
    assert others == rows(unbroken)[:number]
    *same, charged = rows(unbroken)[number]
    assert now == (*same, charged + 2.0 / STEPS)
    assert late.report()["budget"]["spent"] == pytest.approx(sum(row[-1] for row in rows(late)))


def test_a_trial_that_had_ended_when_the_state_was_saved_is_charged_when_ray_trains_it_again(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher]
) -> None:
    """The state is newer than Ray's snapshot."""
    _, trials, folder = run
    late = restored(folder / "state5")
    trials[4].set_status(Trial.PENDING)
    before = rows(late)
    late.see(trials[:5])
    again = {"training_iteration": 1, "loss": 9.0, "pid": 1, "node_ip": "a", "iterations_since_restore": 1}
    assert late.record(trials[4].trial_id, again).value == "stop"
    *same, charged = before[4]
    assert rows(late) == [*before[:4], (*same, charged + 1.0 / STEPS)]


def test_a_trial_that_ray_never_saw_is_forgotten_and_suggested_again(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher]
) -> None:
    unbroken, trials, folder = run
    early = restored(folder / "state4+")
    assert len(rows(early)) == 5
    remove_files(trials[4])
    early.see(trials[:4])
    assert rows(early) == rows(unbroken)[:4]
    assert early.suggest("again") == unbroken.report()["trials"][4]["config"]


def test_a_trial_that_ray_lost_is_charged_for_what_its_files_say_and_ends_as_failed(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher]
) -> None:
    """A state newer than Ray's snapshot: for ever running, it would hold its share of the budget."""
    unbroken, trials, folder = run
    for state in ("state4+", "state4++"):
        early = restored(folder / state)
        early.see(trials[:4])
        lost = early.report()["trials"][4]
        assert lost["status"] == "failed"
        assert lost["curve"] == unbroken.report()["trials"][4]["curve"]
        money = early.report()["budget"]
        assert money["committed"] == money["spent"] == sum(row["charged"] for row in unbroken.report()["trials"][:5])
        assert isinstance(early.suggest("next"), dict)


def test_what_an_unfinished_trial_trained_after_the_last_save_is_charged(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher]
) -> None:
    unbroken, trials, folder = run
    for place in (trials[0].storage.trial_driver_staging_path, trials[0].storage.trial_fs_path):
        if (file := Path(place, "result.json")).exists():
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    for state in ("state0++", "state0+", "state0"):
        early = restored(folder / state)
        trials[0].status = "PENDING"  # Ray was killed before it noted that the trial had ended
        early.see(trials[:1])
        row = early.report()["trials"][0]
        assert (row["status"], row["curve"]) == ("running", unbroken.report()["trials"][0]["curve"][:-1])
        # it starts from scratch: trained once more, charged once more
        early.on_trial_result(row["trial_id"], {"training_iteration": 1, "loss": 1.0, "node_ip": "x", "pid": 1})
        assert early.report()["budget"]["spent"] * STEPS == len(row["curve"]) + 1


def test_a_failed_trial_that_ray_resumes_goes_on_and_is_charged(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher]
) -> None:
    """`resume_errored=True`: the same id, waiting again."""
    _, trials, folder = run
    early = restored(folder / "state0++")
    name = trials[0].trial_id
    early.on_trial_complete(name, error=True)
    early.save(str(folder / "failed"))
    late = restored(folder / "failed")
    trials[0].status = "PENDING"
    late.see(trials[:1])
    assert late.report()["trials"][0]["status"] == "running"
    decisions = [late.record(name, {"training_iteration": t, "loss": 1.0, "pid": 1}).value for t in (1, 2, 3)]
    assert decisions == ["continue", "continue", "stop"]
    assert late.report()["budget"]["spent"] * STEPS == 2 + 3


@pytest.mark.parametrize("saved", ["state0++", "failed"])
def test_a_failed_trial_that_ray_restarts_gets_its_grant_and_no_more(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher], saved: str
) -> None:
    """`restart_errored=True`: a new trial of the same configuration; of the old one Ray knows nothing any more."""
    _, trials, folder = run
    early = restored(folder / "state0++")
    early.on_trial_complete(trials[0].trial_id, error=True)
    early.save(str(folder / "failed"))
    late = restored(folder / saved)
    anew = trials[0].reset()
    late.see([anew])
    old, new = late.report()["trials"]
    assert (old["status"], new["status"], new["trial_id"]) == ("failed", "running", anew.trial_id)
    assert (new["steps"], new["phase"], new["config"]) == (old["steps"], old["phase"], old["config"])
    spent = late.report()["budget"]["spent"] * STEPS
    assert late.report()["budget"]["committed"] * STEPS == spent + new["steps"]
    # nobody tells the searcher of its end
    anew.status = "ERROR"
    late.see([anew])
    assert late.report()["trials"][1]["status"] == "failed"
    assert late.report()["budget"]["committed"] * STEPS == spent


def test_restarted_trials_stay_within_the_budget(tmp_path: Path) -> None:
    """Nothing is left: each may report once, since Ray runs it anyway."""
    searcher = JoBSSearcher(SPACE, "loss", "min", max_t=10, budget=1, short_t=2, seed=0)
    name = "a"
    config = searcher.suggest(name)
    searcher.session.core.amend(name, grant=10.0)
    for t in range(1, 10):
        searcher.record(name, {"training_iteration": t, "loss": 1.0})
    searcher.on_trial_complete(name, error=True)
    searcher.save(str(tmp_path / "state"))
    late = JoBSSearcher()
    late.restore(str(tmp_path / "state"))
    anew = Trial("Class", config=config, stub=True)
    late.see([anew])
    assert late.report()["budget"]["committed"] == pytest.approx(1.0)
    decisions = [late.record(anew.trial_id, {"training_iteration": t, "loss": 1.0}).value for t in (1,)]
    assert decisions == ["stop"]


def test_a_trial_of_another_space_is_left_alone(
    run: tuple[JoBSSearcher, list[Any], Path],
    restored: Callable[[Path], JoBSSearcher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, trials, folder = run
    foreign = restored(folder / "state2")
    trials[3].config["n"] = "seven"
    foreign.see(trials)
    assert len(rows(foreign)) == TRIALS - 1
    assert "is not of this search space" in caplog.text


def test_without_its_result_file_a_trial_still_counts_by_its_last_report(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher]
) -> None:
    _, trials, folder = run
    remove_files(trials[1])
    late = restored(folder / "state1")
    late.see(trials[:2])
    curve = late.report()["trials"][1]["curve"]
    assert [t for t, _ in curve] == [float(trials[1].last_result["training_iteration"])]


def test_evaluated_trials_of_another_experiment(run: tuple[JoBSSearcher, list[Any], Path], tmp_path: Path) -> None:
    before, trials, _ = run
    analysis = tune.ExperimentAnalysis(str(tmp_path / "run"), trials=trials)
    whole = JoBSSearcher(SPACE, "loss", "min", max_t=STEPS, budget=3)
    whole.add_evaluated_trials(analysis, "loss")
    assert [row["curve"] for row in whole.report()["trials"]] == [row["curve"] for row in before.report()["trials"]]
    assert whole.report()["budget"]["spent"] == 0.0
    lengths = [row["curve"][-1][0] for row in whole.report()["trials"]]
    found = whole.recommendation()
    assert found is not None
    assert found.confirmed == (STEPS in lengths)
    last_only = JoBSSearcher(SPACE, "loss", "min", max_t=STEPS)
    last_only.add_evaluated_trials(trials, "loss")
    assert [[t for t, _ in row["curve"]] for row in last_only.report()["trials"]] == [[t] for t in lengths]


def test_evaluated_trials_that_cannot_be_used(
    run: tuple[JoBSSearcher, list[Any], Path], caplog: pytest.LogCaptureFixture
) -> None:
    _, trials, _ = run
    searcher = JoBSSearcher({"other": tune.uniform(0.0, 1.0)}, "loss", "min")
    with pytest.raises(TypeError, match="got a str; expected a Trial, a list of Trials or an ExperimentAnalysis"):
        searcher.add_evaluated_trials("path/to/experiment", "loss")
    with pytest.raises(ValueError, match="other"):
        searcher.add_evaluated_trials(trials, "loss")
    searcher.add_evaluated_trials(trials, "accuracy")
    assert "none of the 8 trials reported 'accuracy'" in caplog.text


def test_what_a_lost_promotion_resumed_is_not_charged_again() -> None:
    """Without any state of the search: Ray's trials say that one of them goes on from a checkpoint."""
    searcher = JoBSSearcher(
        SPACE, metric="loss", mode="min", max_t=8, short_t=3, budget=9, time_attr="step", steps_key="steps",
        resume_key="resume_from",
    )  # fmt: skip
    config, trials = {"x": 0.25, "n": 2}, []
    for number, (steps, checkpoint) in enumerate([(3, None), (8, "/a/checkpoint")], 1):
        trial = Trial("Class", config={**config, "steps": steps, "resume_from": checkpoint}, stub=True)
        trial.experiment_tag = f"{number}_"
        trial.update_last_result({"training_iteration": steps, "step": steps, "loss": 1.0 / steps})
        trial.set_status(Trial.TERMINATED)
        trials.append(trial)
    searcher.see(trials)
    short, full = searcher.report()["trials"]
    assert (short["status"], full["status"]) == ("stopped", "completed")
    assert full["resumed_from"] == full["promotes"] == short["trial_id"]
    assert searcher.report()["budget"]["spent"] == pytest.approx(1.0)


def test_a_lost_promotion_that_began_anew_is_charged_from_its_start() -> None:
    """Without any state of the search. Its short run's checkpoint was gone, but what would be asked for now resumes."""

    def search() -> JoBSSearcher:
        return JoBSSearcher(
            SPACE, metric="loss", mode="min", max_t=8, short_t=3, budget=9, time_attr="step", steps_key="steps",
            resume_key="resume_from", seed=1,
        )  # fmt: skip

    unbroken, after, trials = search(), search(), []
    while not trials or unbroken.report()["trials"][-1]["promotes"] is None:
        trial = Trial("Class", stub=True)
        trial.config = unbroken.suggest(trial.trial_id)
        trial.experiment_tag = f"{len(trials) + 1}_"
        steps = trial.config["steps"]
        trial.update_last_result({"training_iteration": steps, "step": steps, "loss": trial.config["x"]})
        trial.set_status(Trial.TERMINATED)
        unbroken.record(trial.trial_id, trial.last_result)
        unbroken.on_trial_complete(trial.trial_id, trial.last_result)
        trials.append(trial)
    assert trials[-1].config["resume_from"] is None
    after.see(trials)
    promotion = after.report()["trials"][-1]
    assert promotion["promotes"] is not None
    assert promotion["resumed_from"] is None
    assert promotion["charged"] == 1.0
    assert after.report()["budget"]["spent"] == pytest.approx(unbroken.report()["budget"]["spent"])
