"""The books in odd hours: after a restore, of what is started anew, of what was ended for its silence."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.fs
import pytest
from ray import tune
from ray.tune.experiment import Trial

from jobs_ray import JoBSScheduler, JoBSSearcher, Phase, Suggestion
from jobs_ray.trials import StateError
from jobs_ray.tune import history, reconcile, recovery, stragglers
from jobs_ray.tune.pulse import Pulse
from jobs_ray.tune.result_reader import Resume

SPACE = {"x": tune.uniform(0.0, 1.0)}


def of(pid: int, number: int) -> dict[str, Any]:
    """Result number `number` of the process `pid`."""
    return {
        "training_iteration": number,
        "loss": 1.0 / number,
        "node_ip": "n",
        "pid": pid,
        "iterations_since_restore": number,
    }


def restored(searcher: JoBSSearcher, folder: Path) -> JoBSSearcher:
    searcher.save(str(folder / "state"))
    late = JoBSSearcher()
    late.restore(str(folder / "state"))
    return late


def test_of_a_trial_that_was_started_anew_only_what_came_after_the_save_is_told_again(tmp_path: Path) -> None:
    """By its time alone the first process's second report would seem to be news."""
    early = JoBSSearcher(SPACE, "loss", "min", max_t=8, budget=8, seed=0)
    early.suggest("a")
    early.session.core.amend("a", grant=8.0)
    results = [of(1, 1), of(1, 2), of(1, 3), of(2, 1), of(2, 2)]
    for result in results[:4]:
        early.record("a", result)
    late = restored(early, tmp_path)
    assert list(reconcile._unseen(late.session, "a", results)) == results[4:]


def test_a_trial_that_hangs_from_a_restore_on_is_overdue(tmp_path: Path) -> None:
    early = JoBSSearcher(SPACE, "loss", "min", max_t=8, budget=8, seed=0, trial_timeout_s=60)
    early.suggest("a")
    early.record("a", of(1, 1))
    session = restored(early, tmp_path).session
    assert not stragglers.overdue(session, "a")
    session.pulse._clock = lambda: time.monotonic() + 61.0
    assert stragglers.overdue(session, "a")


def test_after_a_restore_three_failures_alike_do_not_end_a_search_that_had_a_good_trial(tmp_path: Path) -> None:
    early = JoBSSearcher(SPACE, "loss", "min", max_t=2, budget=9, seed=0)
    early.suggest("good")
    for t in (1, 2):
        early.record("good", {"training_iteration": t, "loss": 1.0})
    early.on_trial_complete("good", {"training_iteration": 2, "loss": 1.0})
    early.save(str(tmp_path / "state"))
    late = JoBSSearcher()
    late.restore(str(tmp_path / "state"))
    for name in "abc":
        assert isinstance(late.suggest(name), dict)
        late.session.end(name, error=True, why="RuntimeError: out of memory")
    assert late.session.failures.verdict is None
    assert isinstance(late.suggest("d"), dict)


def test_a_trial_that_was_told_its_steps_cannot_be_told_to_go_on() -> None:
    """It ends by itself at its steps: taken for a confirmation, the best short run could never be promoted."""
    told, not_told = (JoBSSearcher(SPACE, "loss", "min", max_t=12, seed=0, steps_key=key) for key in ("steps", None))
    assert not told.session.core.settings.extend
    assert not_told.session.core.settings.extend


def test_a_step_that_a_new_driver_trains_again_is_charged_also_at_the_very_time_of_the_last_report(
    tmp_path: Path,
) -> None:
    early = JoBSSearcher(SPACE, "loss", "min", max_t=4, budget=4, seed=0)
    early.suggest("a")
    early.session.core.amend("a", grant=4.0)
    early.record("a", of(7, 1))
    late = restored(early, tmp_path)
    for _ in range(3):  # scheduler, searcher, callback
        late.record("a", of(8, 1))
    assert late.report()["budget"]["spent"] == pytest.approx(2 / 4)


def test_a_step_that_a_resumed_failure_trains_again_is_charged_also_at_the_time_of_its_last_report() -> None:
    searcher = JoBSSearcher(SPACE, "loss", "min", max_t=4, budget=4, seed=0)
    searcher.suggest("a")
    searcher.session.core.amend("a", grant=4.0)
    searcher.record("a", of(7, 1))
    searcher.on_trial_complete("a", error=True)
    searcher.session.reopen(["a"])
    for _ in range(3):
        searcher.record("a", of(8, 1))
    assert searcher.report()["budget"]["spent"] == pytest.approx(2 / 4)


def test_a_promotion_that_ray_starts_anew_may_train_on_from_its_checkpoint_for_what_is_left(tmp_path: Path) -> None:
    early = JoBSSearcher(SPACE, "loss", "min", max_t=10, budget=2, short_t=4, seed=0, resume_key="from")
    config = early.suggest("short")
    for t in (1, 2, 3, 4):
        early.record("short", of(1, t))
    early.on_trial_complete("short", of(1, 4))
    core = early.session.core
    early.session.adopt("full", Suggestion({"x": config["x"]}, Phase.CONFIRM, 10.0, "short", "short"))
    early.record("full", of(2, 1))  # t = 5
    early.on_trial_complete("full", error=True)
    core.accept("other", Suggestion({"x": 0.5}, Phase.CONFIRM, 10.0))  # .5 spent, 1 committed: 5 steps are left
    trial = Trial("Class", config={**config, "from": "/checkpoint"}, stub=True)
    trial.trial_id = "full"
    early.session.reopen(["full"])
    reconcile._within_budget(early.session, trial)
    assert core.trials["full"].grant == pytest.approx(9.0)
    assert core.budget.committed <= 2.0 + 1e-9


def test_a_failed_promotion_that_ray_restarts_under_a_new_id_goes_on_from_its_checkpoint_too() -> None:
    """As `restart_errored=True` does."""
    searcher = JoBSSearcher(
        {"x": tune.uniform(0.0, 1.0)}, "loss", "min", max_t=10, budget=5, short_t=4, seed=0, resume_key="from"
    )
    config = searcher.suggest("short")
    for t in (1, 2, 3, 4):
        searcher.record("short", of(1, t))
    searcher.on_trial_complete("short", of(1, 4))
    session = searcher.session
    session.adopt("full", Suggestion({"x": config["x"]}, Phase.CONFIRM, 10.0, "short", "short"))
    searcher.record("full", of(2, 1))
    searcher.on_trial_complete("full", error=True)
    anew = Trial("Class", config={**config, "from": "/checkpoint"}, stub=True)
    reconcile.with_ray(session, [anew], full=False, scheduled=True)
    assert session.core.trials[anew.trial_id].start == 4.0
    spent = session.core.budget_spent
    searcher.record(anew.trial_id, of(3, 1))  # Ray's counter starts at 1 again: t = 5
    assert session.core.trials[anew.trial_id].curve.last_t == 5.0
    assert session.core.budget_spent - spent == pytest.approx(1 / 10)


def test_a_counter_that_starts_again_after_a_short_run_of_one_step_is_told_from_one_that_goes_on() -> None:
    """Ray's own counter reads 1 at the first report of a promotion, also where the short run ended at 1."""
    again, goes_on = Resume(1.0), Resume(1.0)
    assert [again.absolute(t) for t in (1.0, 2.0)] == [2.0, 3.0]
    assert [goes_on.absolute(t) for t in (2.0, 3.0)] == [2.0, 3.0]


def test_a_count_of_the_users_own_is_never_taken_to_start_again() -> None:
    """A promotion that ignores its checkpoint reports `step` = 1 again, and stands at 1."""
    searcher = JoBSSearcher(
        {"x": tune.uniform(0.0, 1.0)}, "loss", "min", max_t=24, short_t=3, time_attr="step", resume_key="from"
    )
    searcher.session.reader.resumes["promoted"] = Resume(3.0)
    assert searcher.session.reading("promoted", {"step": 1, "loss": 1.0}) == (1.0, 1.0)


def test_what_stands_before_half_a_line_is_read(tmp_path: Path) -> None:
    """`kill -9` in the midst of a write."""
    lines = [json.dumps({"training_iteration": t, "loss": 1.0 / t}) for t in (1, 2, 3)]
    (tmp_path / "result.json").write_text("\n".join(lines)[:-5])
    results = history._read(pyarrow.fs.LocalFileSystem(), str(tmp_path))
    assert [result["training_iteration"] for result in results] == [1, 2]


class Controller:
    """As much of Ray's as the scheduler asks of it."""

    def __init__(self, searcher: JoBSSearcher, trial: Trial) -> None:
        self.search_alg, self.trials = searcher, [trial]

    def get_trials(self) -> list[Trial]:
        return self.trials

    get_live_trials = get_trials

    def stop_trial(self, trial: Trial) -> None:
        self.search_alg.on_trial_complete(trial.trial_id, trial.last_result)


@pytest.mark.parametrize("beside_another", [False, True])
def test_the_last_value_of_a_full_run_that_was_ended_for_its_silence_is_no_final(beside_another: bool) -> None:
    """Ray tells a trial's last result once more as it ends; beside another one that has reported since, it was taken
    for a new report, by which it was not silent any more."""
    now = [0.0]
    searcher = JoBSSearcher({"x": tune.uniform(0.0, 1.0)}, "loss", "min", max_t=12, trial_timeout_s=60)
    searcher.session.pulse = Pulse(lambda: now[0])
    config = searcher.suggest("a")
    searcher.session.core.amend("a", grant=12.0)
    for t in range(1, 10):
        now[0] += 20.0
        searcher.record("a", of(1, t))
    trial = of_ray(config, Trial.RUNNING, [of(1, t) for t in range(1, 10)])
    now[0] += 61.0  # not yet five times what is usual
    if beside_another:
        searcher.suggest("b")
        searcher.record("b", of(2, 1))
    JoBSScheduler().choose_trial_to_run(Controller(searcher, trial))
    row = searcher.report()["trials"][0]
    assert (row["status"], row["final"]) == ("stopped", None)


def of_ray(config: dict[str, Any], status: str, results: list[dict[str, Any]]) -> Trial:
    """Trial "a" as Ray restores it; `results`: of its snapshot."""
    trial = Trial("Class", config=config, stub=True)
    trial.trial_id, trial.status = "a", status
    for result in results:
        trial.update_last_result(dict(result))
    return trial


@pytest.mark.parametrize(
    ("saved", "snapshot", "file", "unfinished", "ended_as"),
    [
        pytest.param(6, 6, 6, True, "stopped", id="Ray was told not to resume it"),
        pytest.param(4, 5, 6, True, "stopped", id="nor did we know its last reports"),
        pytest.param(6, 6, 6, False, "stopped", id="ended with the experiment, by a time budget"),
        pytest.param(4, 6, 6, False, "completed", id="a function that returned after our state was saved"),
        pytest.param(0, 6, 6, False, "completed", id="a function, our state is lost"),
        pytest.param(5, 5, "6 done", True, "completed", id="a class that ended after the snapshot"),
        pytest.param("6 done", 5, "6 done", True, "completed", id="and we had seen it"),
        pytest.param(5, "6 done", "6 done", False, "completed", id="a class that ended"),
        pytest.param(8, 8, 8, True, "completed", id="nothing is left to train"),
    ],
)
def test_a_run_that_ray_ended_in_its_midst_is_given_up_and_one_that_came_to_its_end_is_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saved: int | str,
    snapshot: int | str,
    file: int | str,
    unfinished: bool,
    ended_as: str,
) -> None:
    """Half of max_t is enough for a run that ends by itself; the recommendation was called confirmed."""

    def until(last: int | str) -> list[dict[str, Any]]:
        number = int(str(last).split()[0])
        return [of(1, t) | {"done": t == number and "done" in str(last)} for t in range(1, number + 1)]

    early = JoBSSearcher(SPACE, "loss", "min", max_t=8, short_t=2, budget=4, seed=0)
    config = {"x": 0.5}
    if saved:
        config = early.suggest("a")
        early.session.core.amend("a", grant=8.0)
    for result in until(saved):
        early.record("a", result)
    late = restored(early, tmp_path)
    if not saved:  # our searcher would propose another one
        monkeypatch.setattr(reconcile, "_steps", lambda *_: 8.0)
    monkeypatch.setattr(history, "of_trial", lambda trial: until(file))
    trial = of_ray(config, Trial.TERMINATED, until(snapshot))
    reconcile.with_ray(late.session, [trial], {"a"} if unfinished else (), full=False, scheduled=True)
    (row,) = late.report()["trials"]
    assert (row["status"], row["final"] is not None) == (ended_as, ended_as == "completed")
    assert len(row["curve"]) == len(until(file))
    found = late.recommendation()
    assert found is not None
    assert found.confirmed == (ended_as == "completed")


def test_what_a_resumed_failure_trains_is_charged_though_the_driver_dies_before_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`resume_errored`: it starts anew, and what it reports up to where it had failed is no news by its time."""
    first = JoBSSearcher(SPACE, "loss", "min", max_t=8, short_t=2, budget=4, seed=0)
    config = first.suggest("a")
    file = [of(1, t) for t in range(1, 4)]
    for result in file:
        first.record("a", result)
    first.on_trial_complete("a", error=True)
    monkeypatch.setattr(history, "of_trial", lambda trial: file)
    second = restored(first, tmp_path)
    reconcile.with_ray(second.session, [of_ray(config, Trial.PENDING, file)], full=False, scheduled=True)
    third = restored(second, tmp_path)
    file += [of(2, t) for t in range(1, 6)]
    trial = of_ray(config, Trial.TERMINATED, [*file, of(2, 5) | {"done": True}])
    reconcile.with_ray(third.session, [trial], full=False, scheduled=True)
    assert third.report()["budget"]["spent"] == pytest.approx(8 / 8)


@pytest.mark.parametrize("file", [6, "6 done"])
def test_a_function_that_returned_before_a_restore_keeps_its_final_when_a_longer_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: int | str
) -> None:
    """Without `max_t`. What is `done` may have been cut by another scheduler: then it is a final no more."""
    early = JoBSSearcher(SPACE, "loss", "min", budget=4, seed=0)
    config = early.suggest("a")
    early.record("a", of(1, 1))
    late = restored(early, tmp_path)
    results = [of(1, t) | {"done": t == 6 and file != 6} for t in range(1, 7)]
    monkeypatch.setattr(history, "of_trial", lambda trial: results)
    trial = of_ray(config, Trial.TERMINATED, results)
    reconcile.with_ray(late.session, [trial], full=True, scheduled=False)
    late.suggest("b")
    for t in range(1, 13):
        late.on_trial_result("b", of(2, t))
    late.on_trial_complete("b", of(2, 12) | {"done": True})
    assert [row["status"] for row in late.report()["trials"]] == ["completed" if file == 6 else "stopped", "completed"]


@pytest.mark.parametrize("status", [Trial.PENDING, Trial.TERMINATED])
def test_what_an_ended_trial_trains_again_is_charged_though_the_driver_dies_before_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """And once only. status: in Ray's snapshot at the second restore."""
    first = JoBSSearcher(SPACE, "loss", "min", max_t=4, short_t=2, budget=4, seed=0)
    config = first.suggest("a")
    file = [of(1, 1), of(1, 2)]
    for result in file:
        first.record("a", result)
    first.on_trial_complete("a", file[-1])
    monkeypatch.setattr(history, "of_trial", lambda trial: file)

    def by_the_next_driver(before: JoBSSearcher, status: str) -> JoBSSearcher:
        late = restored(before, tmp_path)
        reconcile.with_ray(late.session, [of_ray(config, status, [])], full=False, scheduled=True)
        return late

    second = by_the_next_driver(first, Trial.PENDING)
    assert second.report()["budget"]["spent"] == pytest.approx(2 / 4)
    saved = restored(second, tmp_path)
    file.append(of(2, 1))
    second.record("a", file[-1])
    assert second.report()["budget"]["spent"] == pytest.approx(3 / 4)
    for before in (saved, second):
        third = by_the_next_driver(before, status)
        assert third.report()["budget"]["spent"] == pytest.approx(3 / 4)
        third.record("a", of(3, 1))
        assert third.report()["budget"]["spent"] == pytest.approx(4 / 4)


def test_a_state_from_before_those_trials_were_saved_can_be_restored(tmp_path: Path) -> None:
    early = JoBSSearcher(SPACE, "loss", "min", max_t=4, budget=4, seed=0)
    early.suggest("a")
    early.save(str(tmp_path / "state"))
    state = json.loads((tmp_path / "state").read_text())
    assert state["session"].pop("anyway") == {}
    (tmp_path / "state").write_text(json.dumps(state))
    late = JoBSSearcher()
    late.restore(str(tmp_path / "state"))
    assert late.report() == early.report()


@pytest.mark.parametrize(("state", "found"), [("02", set()), ("01", {"given up"}), (None, {"given up"})])
def test_an_older_snapshot_tells_who_was_given_up_where_no_newer_state_does(
    tmp_path: Path, state: str | None, found: set[str]
) -> None:
    """The searcher's own state of the second session is damaged, or all of them are gone."""

    def snapshot(day: str, **trials: tuple[str, float]) -> None:
        data = [
            (json.dumps({"trial_id": name, "status": status}), json.dumps({"last_result_time": at}))
            for name, (status, at) in trials.items()
        ]
        (tmp_path / f"experiment_state-2026-01-{day}_00-00-00.json").write_text(json.dumps({"trial_data": data}))

    snapshot("01", **{"given up": ("RUNNING", 5.0), "ended": ("RUNNING", 5.0), "before": ("TERMINATED", 4.0)})
    snapshot("02", **{"given up": ("TERMINATED", 5.0), "ended": ("TERMINATED", 6.0), "before": ("TERMINATED", 4.0)})
    (tmp_path / "experiment_state-2026-01-03_00-00-00.json").write_text("half a fi")
    for day in ("01", "02"):
        (tmp_path / f"searcher-state-2026-01-{day}_00-00-00.pkl").touch()
    used = None if state is None else str(tmp_path / f"searcher-state-2026-01-{state}_00-00-00.pkl")
    assert recovery.unfinished(str(tmp_path), used) == found


def storage_of(folder: Path) -> Any:
    """What Ray knows of an experiment's place, on a file system that is not the local one itself."""
    return SimpleNamespace(
        storage_filesystem=pyarrow.fs.SubTreeFileSystem(str(folder), pyarrow.fs.LocalFileSystem()),
        experiment_fs_path="run",
        experiment_dir_name="run",
        experiment_driver_staging_path=str(folder / "staging"),
    )


def test_a_promotion_whose_folder_names_its_short_run_is_not_taken_for_it(tmp_path: Path) -> None:
    for folder, trial_id, number in (("T_short_1", "short", 2), ("T_long_2_resume_from=T_short_1", "long", 5)):
        (tmp_path / "run" / folder).mkdir(parents=True)
        lines = [json.dumps(of(1, t) | {"trial_id": trial_id}) + "\n" for t in range(1, number + 1)]
        (tmp_path / "run" / folder / "result.json").write_text("".join(lines))
    assert [len(history.of_id(trial_id, storage_of(tmp_path))) for trial_id in ("short", "long")] == [2, 5]


def test_a_storage_that_fails_for_a_moment_does_not_end_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("")  # a file where the folder should be
    (tmp_path / "staging").mkdir()
    assert history.of_id("a", storage_of(tmp_path)) == []
    assert "run cannot be read" in caplog.text


@pytest.mark.parametrize("whose", ["its own", "another's", "another's, restored"])
def test_whose_state_lies_in_the_folder_of_a_new_search_decides(tmp_path: Path, whose: str) -> None:
    """Its own: Ray could not restore the experiment, and would begin anew over it. Another's: most likely a second
    start of one script, which is said."""
    older = JoBSSearcher(SPACE, "loss", "min", max_t=8, budget=4, seed=0)
    older.suggest("a")
    (tmp_path / "run").mkdir()
    older.save(str(tmp_path / "run" / "searcher-state-2026-01-01_00-00-00.pkl"))
    newer = older if whose == "its own" else JoBSSearcher(SPACE, "loss", "min", max_t=8, budget=4, seed=0)
    newer.suggest("b")
    newer.session.restored = whose == "another's, restored"
    trial = SimpleNamespace(storage=storage_of(tmp_path))
    lines = list(recovery.of_others([trial], newer.session))
    assert [line[:58] for line in lines] == ["this is a new search in the folder of an older one (run/se"] * (
        whose == "another's"
    )
    if whose == "its own":
        with pytest.raises(StateError, match=r"restore\('run/searcher-state-2026-01-01_00-00-00.pkl'\)"):
            recovery.refuse_to_start_anew([trial], newer.settings.search_id)
    else:
        recovery.refuse_to_start_anew([trial], newer.settings.search_id)
