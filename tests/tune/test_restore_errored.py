"""`Tuner.restore` of failed trials, without a scheduler of ours, without a state: the ledger is what was trained."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle, tune
from ray.tune import TuneError
from tune_trainables import STEPS, Class, function, half

from jobs_ray import JoBSScheduler, JoBSSearcher
from jobs_ray.trials import StateError
from jobs_ray.tune.results import load_session


class Counted(Class):
    """Writes down each step it trains; fails at its second one while the cluster is `broken`."""

    def step(self) -> dict[str, Any]:
        folder = Path(self.config["folder"])
        if self.t == 1 and self.config["x"] > 0.6 and (folder / "broken").exists():
            raise RuntimeError("the trainable fails on purpose")
        with open(folder / "steps", "a") as file:
            file.write(".")
        return super().step()


@pytest.mark.parametrize("how", [pytest.param("restart_errored", marks=pytest.mark.slow), "resume_errored"])
def test_failed_trials_train_again_within_the_budget(
    fit: Callable[..., tune.ResultGrid], tmp_path: Path, how: str
) -> None:
    (tmp_path / "broken").touch()
    searcher = JoBSSearcher(max_t=STEPS, short_t=3, budget=2, seed=0, points_to_evaluate=[{"x": 0.7}, {"x": 0.8}])
    space = {"x": tune.uniform(0.0, 1.0), "folder": str(tmp_path)}
    results = fit(
        half(Counted), space, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=1, reuse_actors=True
    )
    failed = [row["trial_id"] for row in searcher.report()["trials"] if row["status"] == "failed"]
    assert len(results.errors) == len(failed) > 1
    (tmp_path / "broken").unlink()

    tune.Tuner.restore(str(tmp_path / "run"), trainable=half(Counted), **{how: True}).fit()
    session = load_session(tmp_path / "run")
    rows = {row["trial_id"]: row for row in session.report()["trials"]}
    assert not session.core.budget.committed > session.core.budget.spent
    trained = len((tmp_path / "steps").read_text())
    assert session.core.budget_spent * STEPS == pytest.approx(trained)
    # at most one report of each, if nothing was left
    assert trained <= 2 * STEPS + len(failed)
    if how == "resume_errored":
        assert {rows[name]["status"] for name in failed} <= {"stopped", "completed"}
    else:
        assert len(rows) == len(searcher.report()["trials"]) + len(failed)
        assert {rows[name]["status"] for name in failed} == {"failed"}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def left_behind() -> None:
    """After an exception in `fit`: Ray still copies its files to the storage, in threads that nobody waits for."""
    for thread in threading.enumerate():
        if "(entrypoint)" in thread.name:  # ray/train/_internal/syncer.py
            thread.join(60.0)
    gc.collect()  # here, where the open files of its controller may be warned of


class Interrupts(tune.Callback):
    """Ends the driver's run at the fifth result, once: Ray saves nothing more, and may have saved nothing of these."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = folder, 0

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        self.seen += 1
        if self.seen == 5 and not (self.folder / "interrupted").exists():
            (self.folder / "interrupted").touch()
            raise RuntimeError("the callback fails on purpose")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("state", ["kept", pytest.param("gone", marks=pytest.mark.slow)])
def test_without_a_scheduler_of_ours_a_restore_knows_rays_trials(
    fit: Callable[..., tune.ResultGrid], tmp_path: Path, capfd: pytest.CaptureFixture[str], state: str
) -> None:
    """Nothing of ours is called before Ray makes its callbacks then, but that the searcher is unpickled."""
    with pytest.raises(TuneError, match="fails on purpose"):
        fit(
            half(Counted), {"x": tune.uniform(0.0, 0.5), "folder": str(tmp_path)},
            JoBSSearcher(max_t=STEPS, budget=3, seed=0), num_samples=-1, max_concurrent_trials=1, reuse_actors=True,
            run_config={"callbacks": [Interrupts(tmp_path)]},
        )  # fmt: skip
    left_behind()
    for path in (tmp_path / "run").glob("searcher-state-*") if state == "gone" else ():
        path.unlink()
    capfd.readouterr()
    results = tune.Tuner.restore(str(tmp_path / "run"), trainable=half(Counted)).fit()
    assert "of 3 full runs spent; recommended (confirmed" in capfd.readouterr().out
    report = load_session(tmp_path / "run").report()
    rows = {row["trial_id"]: row for row in report["trials"]}
    assert {result.metrics["trial_id"] for result in results} == set(rows)
    assert {row["status"] for row in rows.values()} == {"completed"}
    unheard = len((tmp_path / "steps").read_text()) - report["budget"]["spent"] * STEPS
    assert -1e-6 <= unheard <= 1 + 1e-6
    assert report["budget"]["spent"] <= 3.0


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_that_ray_is_told_not_to_resume_is_given_up_and_a_function_that_returned_is_not(
    fit: Callable[..., tune.ResultGrid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To Ray both are TERMINATED, and not `done`: only its snapshot tells them apart."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
    steps = 6  # of 8; the second trial is interrupted at its last one, after half a run
    interrupts = Interrupts(tmp_path)
    interrupts.seen = 5 - 2 * steps
    with pytest.raises(TuneError, match="fails on purpose"):
        fit(
            half(function), {"x": tune.uniform(0.0, 1.0), "steps": steps}, JoBSSearcher(max_t=8, budget=3, seed=0),
            num_samples=2, max_concurrent_trials=1, run_config={"callbacks": [interrupts]},
        )  # fmt: skip
    left_behind()
    for path in (tmp_path / "run").glob("searcher-state-*"):
        path.unlink()  # what became of the first one is in no state of ours then
    for resume_unfinished in (False, True):  # at the second restore Ray's newest snapshot, too, calls both ended
        tune.Tuner.restore(
            str(tmp_path / "run"), trainable=half(function), resume_unfinished=resume_unfinished
        ).fit()  # fmt: skip
        rows = load_session(tmp_path / "run").report()["trials"]
        assert [row["status"] for row in rows] == ["completed", "stopped"]
        assert [len(row["curve"]) for row in rows] == [steps, steps - 1]  # no logger has the last one
        for path in (tmp_path / "run").glob("searcher-state-*"):
            path.unlink()


@pytest.mark.parametrize(
    ("scheduled", "state"),
    [
        (True, "damaged"),
        pytest.param(False, "damaged", marks=pytest.mark.slow),
        pytest.param(True, "old", marks=pytest.mark.slow),
    ],
)
def test_a_finished_experiment_that_lost_its_state_gets_it_again(
    fit: Callable[..., tune.ResultGrid], tmp_path: Path, scheduled: bool, state: str
) -> None:
    """Ray takes no step in it, so that the search sees the trials at the end only, after Ray's last save."""
    searcher = JoBSSearcher(max_t=STEPS, short_t=3, budget=2, seed=0, resume_key="resume_from")
    fit(
        half(Class), {"x": tune.uniform(0.0, 1.0)}, searcher, JoBSScheduler() if scheduled else None, num_samples=-1,
        reuse_actors=True, run_config={"checkpoint_config": tune.CheckpointConfig(checkpoint_at_end=True)},
    )  # fmt: skip
    assert any(row["resumed_from"] for row in searcher.report()["trials"]) == scheduled
    [path] = (tmp_path / "run").glob("searcher-state-*")
    before, spent = searcher.recommendation(), searcher.session.core.budget_spent
    if state == "old":  # the last saves failed
        before_it, after_it = path.read_text().rsplit('"completed"', 1)
        path.write_text(f'{before_it}"running"{after_it}')
        assert [row["status"] for row in load_session(tmp_path / "run").report()["trials"]].count("running") == 1
    else:
        path.write_bytes(path.read_bytes()[:-30])
    tune.Tuner.restore(str(tmp_path / "run"), trainable=half(Class)).fit()
    session = load_session(tmp_path / "run")
    assert [row["status"] for row in session.report()["trials"]].count("running") == 0
    found = session.recommendation()
    assert found is not None
    assert before is not None
    assert (found.trial_id, found.mean, found.confirmed) == (before.trial_id, before.mean, before.confirmed)
    assert session.core.budget_spent == pytest.approx(spent)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("scheduled", "torn", "again"),
    [
        (True, "search_gen_state-", False),
        pytest.param(True, "search_gen_state-", True, marks=pytest.mark.slow),
        pytest.param(False, "search_gen_state-", False, marks=pytest.mark.slow),
        pytest.param(False, "experiment_state-", False, marks=pytest.mark.slow),
    ],
)
def test_where_ray_cannot_restore_its_own_files_nothing_is_started_anew(
    fit: Callable[..., tune.ResultGrid],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheduled: bool,
    torn: str,
    again: bool,
) -> None:
    """Ray copies them in place, so that `kill -9` may leave half of one: then it would start the experiment anew; or,
    where it was restored `again`, call it finished."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")  # what was trained since the last save is not charged here
    space = {"x": tune.uniform(0.0, 0.5), "folder": str(tmp_path)}

    def scheduler() -> JoBSScheduler | None:
        return JoBSScheduler() if scheduled else None

    with pytest.raises(TuneError, match="fails on purpose"):
        fit(
            half(Counted), space, JoBSSearcher(max_t=STEPS, budget=3, seed=0), scheduler(), num_samples=-1,
            max_concurrent_trials=1, reuse_actors=True, run_config={"callbacks": [Interrupts(tmp_path)]},
        )  # fmt: skip
    left_behind()
    before = {row["trial_id"] for row in load_session(tmp_path / "run").report()["trials"] if row["curve"]}
    assert before
    for path in (tmp_path / "run").glob(f"{torn}*"):
        path.write_bytes(b"")
    for path in (tmp_path / "run").glob("experiment_state-*") if again else ():
        assert '"_resumed": false' in path.read_text()
        path.write_text(path.read_text().replace('"_resumed": false', '"_resumed": true'))
    files = contents(tmp_path / "run")
    for given in (None, space):
        gc.collect()
        restored = tune.Tuner.restore(str(tmp_path / "run"), trainable=half(Counted), param_space=given)
        with pytest.raises((TuneError, ValueError), match="Ray could not restore the experiment") as refused:
            restored.fit()
        assert contents(tmp_path / "run") == files
    found = re.search(r"searcher.restore\('(.*?)'\)", str(refused.value))
    assert found is not None
    searcher = JoBSSearcher()  # as the error says
    [newest] = (tmp_path / "run").glob("searcher-state-*")
    assert again or found[1] == str(newest)
    searcher.restore(str(newest))
    gc.collect()
    fit(
        half(Counted), space, searcher, scheduler(), num_samples=-1, max_concurrent_trials=1, reuse_actors=True,
        run_config={"name": "again"},
    )  # fmt: skip
    report = load_session(tmp_path / "again").report()
    assert before <= {row["trial_id"] for row in report["trials"]}
    assert {row["status"] for row in report["trials"]} <= {"completed", "stopped", "failed"}
    assert report["recommendation"]["confirmed"]
    unheard = len((tmp_path / "steps").read_text()) - report["budget"]["spent"] * STEPS
    assert -1e-6 <= unheard <= 5 + 1e-6  # at most all until the first interruption, in the order that copies end
    assert report["budget"]["spent"] <= 3.0


@pytest.mark.parametrize("scheduled", [True, False])
def test_a_searcher_that_was_pickled_may_begin_an_experiment(
    fit: Callable[..., tune.ResultGrid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduled: bool
) -> None:
    """As with a Tuner that is sent to a task: it looks as if it was to be restored, and its own state is there soon."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
    space = {"x": tune.uniform(0.0, 0.5), "folder": str(tmp_path)}
    searcher = JoBSSearcher(space, max_t=STEPS, budget=2, seed=0)
    if not scheduled:  # nobody tells it then; and the error is that one
        with pytest.raises(ValueError, match="needs metric and mode"):
            fit(half(Counted), {}, cloudpickle.loads(cloudpickle.dumps(searcher)), num_samples=-1)
        searcher = JoBSSearcher(space, "loss", "min", max_t=STEPS, budget=2, seed=0)
    fit(
        half(Counted), {}, cloudpickle.loads(cloudpickle.dumps(searcher)), JoBSScheduler() if scheduled else None,
        num_samples=-1, max_concurrent_trials=1, reuse_actors=True,
    )  # fmt: skip
    assert load_session(tmp_path / "run").report()["recommendation"]["confirmed"]


def test_a_searcher_restored_by_hand_whose_experiment_ray_cannot_restore_says_so(tmp_path: Path) -> None:
    """It knew of trials that Ray does not have, and waited for them."""
    searcher = JoBSSearcher({"x": tune.uniform(0.0, 1.0)}, "loss", "min", max_t=STEPS, budget=3, seed=0)
    assert isinstance(searcher.suggest("runs"), dict)
    searcher.on_trial_result("runs", {"loss": 1.0, "training_iteration": 1})
    searcher.save(str(tmp_path / "state"))
    by_hand = JoBSSearcher()
    by_hand.restore(str(tmp_path / "state"))
    again = cloudpickle.loads(cloudpickle.dumps(by_hand))  # in tuner.pkl
    with pytest.raises(StateError, match="Ray could not restore the experiment"):
        again.suggest("next")
    by_hand.see([])
    assert isinstance(by_hand.suggest("next"), dict)
