"""What a checkpoint holds, and how long a short run's is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune
from ray.tune import TuneError

from jobs_ray.lm import Model, PruneCheckpoints, Session, Task, TaskError, evaluation, load, run, run_config
from jobs_ray.lm.actor import actor_trainable
from jobs_ray.lm.loop import train
from jobs_ray.lm.resume import RUN_FILE, can_go_on


def test_only_what_may_be_gone_on_from_keeps_its_optimiser(
    make_task: Callable[..., Task], base_dir: Path, tmp_path: Path
) -> None:
    session = Session(make_task())
    run(session.task, {"max_steps": 3}, session=session, keep=tmp_path / "short")
    run(session.task, {}, session=session, keep=tmp_path / "full")
    keeping = make_task(keep_optimizer=True)
    run(keeping, {}, session=Session(keeping), keep=tmp_path / "kept")
    adapters = make_task(model=Model(name=str(base_dir)))
    run(adapters, {"lora": {"r": 2}}, keep=tmp_path / "lora")
    held = {p.name: (p / "optimizer.pt").exists() for p in tmp_path.iterdir()}
    assert held == {"short": True, "full": False, "kept": True, "lora": True}
    assert held == {p.name: can_go_on(p) for p in tmp_path.iterdir()}
    assert load(tmp_path / "full")[0].config.hidden_size == 32
    with pytest.raises(TaskError, match="keep_optimizer=True"):
        run(session.task, {"resume_from": str(tmp_path / "full")}, session=session)


def stopped_at(session: Session, step: int, folder: Path) -> Path:
    """The checkpoint of a run that was stopped there."""

    class Stop(BaseException):
        pass

    def stop(metrics: dict[str, Any], checkpoint: Path | None) -> None:
        assert checkpoint is not None
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        if metrics["step"] == step:
            raise Stop

    with pytest.raises(Stop):
        train({"resume_from": None}, session, stop, folder.with_name("run"))
    return folder


def test_a_run_that_may_be_stopped_anywhere_can_be_gone_on_from(make_task: Callable[..., Task], tmp_path: Path) -> None:
    """With `resume_key`, but no `steps_key`, nobody tells a run how far it goes."""
    session = Session(make_task(lr=0.3, schedule="constant"))  # best in its midst
    run(session.task, {"resume_from": None}, session=session, keep=tmp_path / "stopped")
    assert can_go_on(tmp_path / "stopped")
    assert json.loads((tmp_path / "stopped" / RUN_FILE).read_text())["step"] == session.task.max_steps
    # and so it is after its process was lost, and it goes on in another one
    saved: list[bool] = []
    train(
        {"resume_from": None},
        session,
        lambda metrics, folder: saved.append(folder is not None and can_go_on(folder)),
        tmp_path / "again",
        restored=stopped_at(session, 3, tmp_path / "lost"),
    )
    assert saved == [True] * 3
    run(session.task, {}, session=session, keep=tmp_path / "full")
    assert json.loads((tmp_path / "full" / RUN_FILE).read_text())["step"] < session.task.max_steps


def test_a_task_may_keep_the_last(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([1.0, 2.0])  # best at first
    monkeypatch.setattr(evaluation, "loss_sums", lambda *_, **__: torch.tensor([next(losses), 1.0]))
    reports = run(make_task(max_steps=2, eval_every=1, save="last"), {}, keep=tmp_path / "c")
    assert [r["eval_loss"] for r in reports] == [1.0, 2.0]
    assert json.loads((tmp_path / "c" / RUN_FILE).read_text())["step"] == 2


def test_sharded_checkpoints_are_refused(make_task: Callable[..., Task]) -> None:
    with pytest.raises(TaskError, match="FULL_STATE_DICT"):
        make_task(trainer_args={"fsdp": "full_shard", "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}})


class Trial:
    """What the callback looks at in Ray's Trial."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any], loss: float, **metrics: float) -> None:
        self.trial_id, self.config, self.finished = name, config, True
        self.last_result = {"eval_loss": loss, **metrics}
        (folder / name).mkdir()
        (folder / name / RUN_FILE).write_text("{}")
        self.checkpoint = tune.Checkpoint.from_directory(folder / name)

    def is_finished(self) -> bool:
        return self.finished


def test_a_short_run_keeps_its_checkpoint_while_it_may_be_promoted(tmp_path: Path) -> None:
    def left() -> set[str]:
        return {p.name for p in tmp_path.iterdir()}

    prune = PruneCheckpoints(12, keep=2)
    trials: list[Any] = []
    for i, loss in enumerate([3.0, 1.0, float("nan"), 2.0]):
        trials.append(Trial(tmp_path, f"s{i}", {"max_steps": 3}, loss))
        prune.on_trial_complete(i, trials, trials[-1])
    assert left() == {"s1", "s3"}
    promotion = Trial(tmp_path, "p", {"max_steps": 12, "resume_from": str(tmp_path / "s3")}, 0.5)
    promotion.finished = False
    trials.append(promotion)
    for i in (4, 5):  # two better ones: but s3 is being read
        trials.append(Trial(tmp_path, f"s{i}", {"max_steps": 3}, 0.1 * i))
        prune.on_trial_complete(i, trials, trials[-1])
    assert left() == {"s3", "s4", "s5", "p"}
    promotion.finished = True
    prune.on_trial_error(6, trials, promotion)
    assert left() == {"s4", "s5", "p"}
    prune.on_experiment_end(trials)
    assert left() == {"p"}


def test_a_restarted_full_run_keeps_its_best_until_it_is_beaten(make_task: Callable[..., Task], tmp_path: Path) -> None:
    actor = actor_trainable(make_task(keep_optimizer=True, eval_every=3), {"CPU": 1.0})({"lr": 1e-6})
    first = actor.train()
    actor.save(str(tmp_path / "tune"))
    kept = json.loads((tmp_path / "tune" / RUN_FILE).read_text())
    assert kept["metrics"]["eval_loss"] == first["eval_loss"]
    better = {**kept, "metrics": {**kept["metrics"], "eval_loss": 0.0}}  # as if it had been best by far
    (tmp_path / "tune" / RUN_FILE).write_text(json.dumps(better))
    actor.stop()
    again = actor_trainable(make_task(keep_optimizer=True, eval_every=3), {"CPU": 1.0})({"lr": 1e-6})
    again.restore(str(tmp_path / "tune"))
    results = []
    while not results or not results[-1]["done"]:
        results.append(again.train())
        assert not results[-1]["should_checkpoint"]
    assert results[0]["step"] > first["step"]
    again.save(str(tmp_path / "last"))
    assert json.loads((tmp_path / "last" / RUN_FILE).read_text())["step"] == kept["step"]
    again.stop()


def test_promoted_runs_take_no_place_among_those_that_wait(tmp_path: Path) -> None:
    prune = PruneCheckpoints(12, keep=2)
    trials: list[Any] = []
    for i, loss in enumerate([1.0, 1.1, 2.0, 2.1]):
        trials.append(Trial(tmp_path, f"s{i}", {"max_steps": 3}, loss))
        if i < 2:  # the best two are promoted, which deletes their checkpoints; Ray's trials still name them
            trials.append(Trial(tmp_path, f"p{i}", {"max_steps": 12, "resume_from": str(tmp_path / f"s{i}")}, 0.5))
        prune.on_trial_complete(i, trials, trials[-1])
    assert {p.name for p in tmp_path.iterdir()} == {"s2", "s3", "p0", "p1"}


def test_only_checkpoints_of_ours_are_deleted(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("x")
    promotion = Trial(tmp_path, "p", {"max_steps": 12, "resume_from": str(mine.parent)}, 1.0)
    PruneCheckpoints(12).on_trial_complete(0, [promotion], promotion)
    assert mine.exists()


def test_a_reused_actor_starts_with_nothing_of_the_last_trials(
    make_task: Callable[..., Task], cluster: Any, tmp_path: Path
) -> None:
    task = make_task(eval_rows=1, keep_optimizer=True, max_steps=2, eval_every=1)
    actor = actor_trainable(task, {"CPU": 1.0})({})
    actor.train()
    actor.save(str(tmp_path / "one"))
    assert (tmp_path / "one" / RUN_FILE).exists()
    assert actor.reset({})
    actor.save(str(tmp_path / "none"))  # before the second trial's first report
    assert not (tmp_path / "none" / RUN_FILE).exists()
    actor.restore(str(tmp_path / "one"))
    assert actor.reset({"lr": 1e-4})
    assert actor.train()["step"] == 1  # from the start
    actor.stop()


class Saves(tune.Trainable):
    """Every report comes with a checkpoint of ours."""

    def step(self) -> dict[str, Any]:
        return {"eval_loss": 1.0, "done": self.iteration + 1 >= self.config["max_steps"]}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, RUN_FILE).write_text("{}")


class Fails(tune.Callback):
    """Ends the experiment from inside Ray's loop, while the long run trains."""

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        if trial.config["max_steps"] == 12 and result["training_iteration"] == 5:
            raise RuntimeError("interrupted")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # Ray's files
@pytest.mark.parametrize("interrupted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_interrupted_experiment_keeps_what_its_restore_goes_on_from(
    cluster: Any, tmp_path: Path, interrupted: bool
) -> None:
    prune = PruneCheckpoints(12)
    tuner = tune.Tuner(
        Saves,
        param_space={"max_steps": tune.grid_search([3, 12])},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path), name="x", verbose=0, callbacks=[prune, *([Fails()] if interrupted else [])],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
        ),
    )  # fmt: skip
    if interrupted:
        with pytest.raises(TuneError, match="interrupted"):
            tuner.fit()
    else:
        tuner.fit()
    kept = {json.loads((f.parent.parent / "params.json").read_text())["max_steps"] for f in tmp_path.rglob(RUN_FILE)}
    assert kept == ({3, 12} if interrupted else {12})


def test_run_config_for_a_search(make_task: Callable[..., Task]) -> None:
    config = run_config(make_task(), name="x", callbacks=[tune.Callback()])
    assert config.checkpoint_config.num_to_keep == 1
    assert [type(c) for c in config.callbacks] == [tune.Callback, PruneCheckpoints]
    assert config.name == "x"


def test_run_config_prunes_by_its_metric_and_keys(make_task: Callable[..., Task], tmp_path: Path) -> None:
    task = make_task(steps_key="steps", resume_key="from")
    [prune] = run_config(task, keep=2, metric="accuracy", mode="max").callbacks
    trials: list[Any] = []
    for i, accuracy in enumerate([0.1, 0.9, 0.5]):
        trials.append(Trial(tmp_path, f"s{i}", {"steps": 3}, 1.0 + i, accuracy=accuracy))
        prune.on_trial_complete(i, trials, trials[-1])
    assert {p.name for p in tmp_path.iterdir()} == {"s1", "s2"}
    trials.append(Trial(tmp_path, "p", {"steps": 12, "from": str(tmp_path / "s1")}, 0.5, accuracy=1.0))
    prune.on_trial_complete(3, trials, trials[-1])
    assert {p.name for p in tmp_path.iterdir()} == {"s2", "p"}
