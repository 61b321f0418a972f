"""What the task owns cannot be set behind its back, and rows of a pack stay apart where it matters: in training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from ray.train import ScalingConfig
from transformers import TrainingArguments

from jobs_ray.lm import Domain, Model, Session, Task, TaskError, run, trainable
from jobs_ray.lm.loop import arguments, build
from jobs_ray.lm.mixing import collate
from jobs_ray.lm.owned import OWNED, check_saving, settled
from jobs_ray.lm.requirements import worker_resources


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


def test_a_group_of_cpus_does_not_shard(make_task: Callable[..., Task]) -> None:
    task = make_task(trainer_args={"fsdp": True})
    for scaling in (ScalingConfig(num_workers=2), ScalingConfig(num_workers=2, resources_per_worker={"CPU": 2})):
        with pytest.raises(TaskError, match=r"fsdp, which needs GPUs, .*plain DDP\); give ScalingConfig\(use_gpu=True"):
            trainable(task, scaling)
    if not torch.cuda.is_available():
        with pytest.raises(TaskError, match="fsdp, which needs GPUs"):
            trainable(task, group=True)
    trainable(task, ScalingConfig(num_workers=2, use_gpu=True), prepare=False)


@pytest.mark.parametrize(
    ("scaling", "bundle"),
    [
        ({"accelerator_type": "H100", "use_gpu": True}, {"CPU": 1.0, "GPU": 1.0, "accelerator_type:H100": 0.001}),
        ({"use_gpu": True, "resources_per_worker": {"CPU": 4, "other": 1}}, {"CPU": 4.0, "GPU": 1.0, "other": 1.0}),
        ({"use_gpu": True, "resources_per_worker": {"CPU": 0, "GPU": 0.5}}, {"GPU": 0.5}),
        ({}, {"CPU": 1.0}),
    ],
    ids=["accelerator_type", "resources", "no CPU", "default"],
)
def test_one_worker_asks_for_what_it_was_given(
    make_task: Callable[..., Task], scaling: dict[str, Any], bundle: dict[str, float]
) -> None:
    given = ScalingConfig(num_workers=1, **scaling)
    asked = trainable(make_task(), given, prepare=False).default_resource_request({})
    assert asked.bundles == [bundle]
    assert {name: amount for name, amount in worker_resources(given).items() if amount} == bundle


def test_labels_are_for_groups(make_task: Callable[..., Task]) -> None:
    scaling = ScalingConfig(num_workers=1, label_selector={"ray.io/accelerator-type": "H100"})
    with pytest.raises(TaskError, match=r"label_selector=.*H100.*; give group=True"):
        trainable(make_task(), scaling)
    trainable(make_task(), scaling, group=True, prepare=False)


@pytest.mark.parametrize("name", ["state_dict_type", "fsdp_state_dict_type"])
@pytest.mark.parametrize("how", ["dict", "text", "file"])
@pytest.mark.parametrize("kind", ["SHARDED_STATE_DICT", "LOCAL_STATE_DICT"])
def test_checkpoints_in_pieces_are_refused_however_spelt(
    make_task: Callable[..., Task], tmp_path: Path, name: str, how: str, kind: str
) -> None:
    def spelt(config: dict[str, Any]) -> Any:
        file = tmp_path / "fsdp.json"
        file.write_text(json.dumps(config))
        return {"dict": config, "text": json.dumps(config), "file": str(file)}[how]

    with pytest.raises(TaskError, match=rf"{name} {kind} leaves .* in pieces .*; use FULL_STATE_DICT"):
        make_task(trainer_args={"fsdp": True, "fsdp_config": spelt({"version": 1, name: kind})})
    for kind in ("full_state_dict", None):
        make_task(trainer_args={"fsdp": True, "fsdp_config": spelt({name: kind})})


@pytest.mark.parametrize("name", ["fsdp_config", "deepspeed"])
def test_files_are_read_where_the_task_is_made(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for there in ("no.json", "/on/the/nodes/only"):
        assert settled(make_task(trainer_args={name: there}).trainer_args) == {name: there}
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(TaskError, match=r"'list\.json' \(it holds a list\)"):
        make_task(trainer_args={name: Path("list.json")})
    (tmp_path / "a.json").write_text('{"version": 2}')
    task = make_task(trainer_args={name: "a.json", "optim": "sgd"})
    assert settled(task.trainer_args) == {name: {"version": 2}, "optim": "sgd"}
    text = {name: '{"version": "2"}'}  # transformers makes a number of it
    assert settled(make_task(trainer_args=text).trainer_args) == text


def test_base64_is_deepspeeds_third_way(make_task: Callable[..., Task]) -> None:
    task = make_task(trainer_args={"deepspeed": "eyJ0cmFpbl9iYXRjaF9zaXplIjogImF1dG8ifQ=="})
    assert settled(task.trainer_args) == {"deepspeed": {"train_batch_size": "auto"}}


def test_what_only_the_trainer_knows_of_its_checkpoints(make_task: Callable[..., Task], tmp_path: Path) -> None:
    def zero(model: Any, **config: Any) -> Any:
        args = SimpleNamespace(hf_deepspeed_config=HfDeepSpeedConfig({"zero_optimization": config}))
        return SimpleNamespace(is_fsdp_enabled=False, is_deepspeed_enabled=True, args=args, model=model)

    def fsdp(kind: str | None) -> Any:
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, state_dict_type=kind)
        state = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
        return SimpleNamespace(is_fsdp_enabled=True, is_deepspeed_enabled=False, accelerator=state)

    adapters, whole, gather = SimpleNamespace(peft_config={}), object(), "stage3_gather_16bit_weights_on_model_save"
    with pytest.raises(TaskError, match=f"ZeRO-3 without {gather} leaves .* in pieces"):
        check_saving(zero(whole, stage=3))
    for trainer in (zero(adapters, stage=3), zero(whole, stage=2), zero(whole, stage=3, **{gather: True})):
        check_saving(trainer)
    with pytest.raises(TaskError, match=r"would save .*SHARDED_STATE_DICT, .*; set .* FSDP_STATE_DICT_TYPE"):
        check_saving(fsdp(None))  # as transformers 5.0 leaves it
    check_saving(fsdp("FULL_STATE_DICT"))
    check_saving(build({}, Session(make_task()), lambda *_: None, tmp_path))


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
