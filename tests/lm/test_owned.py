"""What the task owns cannot be set behind its back, and rows of a pack stay apart where it matters: in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import ScalingConfig
from transformers import TrainingArguments

from jobs_ray.lm import Domain, Model, Session, Task, TaskError, run, trainable
from jobs_ray.lm.loop import arguments, build
from jobs_ray.lm.mixing import collate
from jobs_ray.lm.owned import OWNED


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("gradient_accumulation_steps", "Task.accumulation"),
        ("save_strategy", "Task.save"),
        ("per_device_train_batch_size", "Task.batch_size"),
        ("learning_rate", "Task.lr"),
        ("eval_steps", "Task.eval_every"),
        ("gradient_checkpointing", "Task.activation_checkpointing"),
        ("accelerator_config", "Task.batch_size"),
    ],
)
def test_owned_arguments_are_refused_with_what_to_use(make_task: Callable[..., Task], name: str, remedy: str) -> None:
    with pytest.raises(TaskError, match=rf"{name} \(use .*{remedy}"):
        make_task(trainer_args={name: 2, "optim": "sgd"})


def test_one_worker_has_nothing_to_shard(make_task: Callable[..., Task]) -> None:
    task = make_task(trainer_args={"fsdp": True, "fsdp_config": {"version": 2}})
    for scaling in (None, ScalingConfig(num_workers=1)):
        with pytest.raises(TaskError, match=r"fsdp, which shards .* one worker; give ScalingConfig\(num_workers"):
            trainable(task, scaling)


def test_what_the_loop_sets_is_owned(make_task: Callable[..., Task], tmp_path: Path) -> None:
    """Every argument that decides what is trained on; the rest (devices, logging, optimiser) is the user's."""
    known = {f.name for f in fields(TrainingArguments)}
    decisive = {n for n in known if any(w in n for w in ("step", "epoch", "batch_size", "save", "seed", "strategy"))}
    free = {
        "logging_strategy", "logging_steps", "logging_first_step", "torch_empty_cache_steps",
        "save_on_each_node", "hub_strategy", "eval_do_concat_batches", "eval_accumulation_steps",
    }  # fmt: skip
    assert {n for n in decisive - free if n not in OWNED} == set()
    task = make_task(trainer_args={"optim": "sgd", "max_grad_norm": 0.5})
    assert arguments({}, task, tmp_path).max_grad_norm == 0.5


def test_several_gpus_in_one_process_read_the_planned_rows(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def three(self: Any) -> torch.device:
        self._n_gpu = 3
        return torch.device("cpu")

    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(three))
    made = arguments({}, make_task(), tmp_path)
    assert (made.n_gpu, made.train_batch_size) == (1, 4)


def test_packed_examples_do_not_see_each_other_in_training(
    make_task: Callable[..., Task], base_dir: Path, tmp_path: Path
) -> None:
    data = [{"prompt": f"one plus {w}", "completion": " equals six"} for w in ("two", "four")]
    losses = []
    for rows in (data, data[:1], data[1:]):
        task = make_task(
            domains={"d": Domain(rows)}, target={"d": Domain(data)}, model=Model(name=str(base_dir)), batch_size=1
        )
        session = Session(task)
        trainer = build({}, session, lambda *_: None, tmp_path, save=False)
        trainer.model.train()
        batch = collate([session.train["d"][0]])
        count = int((batch["labels"] != -100).sum())
        losses.append(trainer.compute_loss(trainer.model, batch, num_items_in_batch=1).item() / count)
    assert losses[0] == pytest.approx((losses[1] + losses[2]) / 2, abs=1e-5)


@pytest.mark.parametrize("config", [{"learning_rate": 0.1}, {"mixtures": {"animals": 1.0}}, {"lora_r": 8}])
def test_a_key_that_nobody_reads_is_refused(make_task: Callable[..., Task], config: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match=rf"nothing here reads the keys \['{next(iter(config))}'\].*'lr'.*'mixture'"):
        run(make_task(), config)


def test_what_ray_writes_into_a_configuration_is_left_alone(make_task: Callable[..., Task]) -> None:
    """A Repeater numbers its trials there."""
    assert run(make_task(max_steps=3), {"__trial_index__": 1})[-1]["step"] == 3
