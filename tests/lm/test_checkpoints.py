"""What a checkpoint holds, and how long a short run's is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from jobs_ray.lm import Model, PruneCheckpoints, Session, Task, TaskError, load, run, run_config
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


def test_sharded_checkpoints_are_refused(make_task: Callable[..., Task]) -> None:
    with pytest.raises(TaskError, match="FULL_STATE_DICT"):
        make_task(trainer_args={"fsdp": "full_shard", "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}})


class Trial:
    """What the callback looks at in Ray's Trial."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any], loss: float) -> None:
        self.trial_id, self.config, self.last_result, self.finished = name, config, {"eval_loss": loss}, True
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


def test_run_config_for_a_search(make_task: Callable[..., Task]) -> None:
    config = run_config(make_task(), name="x", callbacks=[tune.Callback()])
    assert config.checkpoint_config.num_to_keep == 1
    assert [type(c) for c in config.callbacks] == [tune.Callback, PruneCheckpoints]
    assert config.name == "x"
