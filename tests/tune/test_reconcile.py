"""A restored searcher against Ray's trials of another moment: what `kill -9` between two writes leaves behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune
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


def test_a_trial_that_ray_never_saw_is_forgotten_and_suggested_again(
    run: tuple[JoBSSearcher, list[Any], Path], restored: Callable[[Path], JoBSSearcher]
) -> None:
    unbroken, trials, folder = run
    early = restored(folder / "state4+")
    assert len(rows(early)) == 5
    early.see(trials[:4])
    assert rows(early) == rows(unbroken)[:4]
    assert early.suggest("again") == unbroken.report()["trials"][4]["config"]


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
    (Path(trials[1].storage.trial_fs_path) / "result.json").unlink()
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
