"""Adapters beyond the paper's: rsLoRA, DoRA, modules trained whole; float16; logs of every step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from ray import tune

from jobs_ray.lm import Model, Session, Task, TaskError, load, param_space, run
from jobs_ray.lm.actor import actor_trainable
from jobs_ray.lm.loop import train
from jobs_ray.lm.lora import lora_config

PLAIN = {"r": 4, "alpha": 8, "q_proj": True, "v_proj": True}


def curve(reports: list[dict[str, Any]]) -> list[float]:
    return [r["eval_loss"] for r in reports]


def test_settings_reach_peft() -> None:
    made = lora_config({**PLAIN, "rslora": True, "dora": True, "modules_to_save": ["lm_head"]}, 2)
    assert (made.use_rslora, made.use_dora, made.modules_to_save) == (True, True, ["lm_head"])
    plain = lora_config(PLAIN, 2)
    assert (plain.use_rslora, plain.use_dora, plain.modules_to_save) == (False, False, None)
    made = lora_config({**PLAIN, "alpha": 32, "dropout": 0.05}, 2)
    assert (made.r, made.lora_alpha, made.lora_dropout) == (4, 32, 0.05)
    made = lora_config({"r": 4, "v_proj": False, "q_proj": False}, 2)
    assert (made.lora_alpha, made.lora_dropout, set(made.target_modules)) == (4, 0.0, {"v_proj"})


@pytest.mark.slow
def test_each_trains_and_leaves_the_shared_base_as_it_was(
    make_task: Callable[..., Task], base_dir: Path, tmp_path: Path
) -> None:
    task = make_task(model=Model(name=str(base_dir)), max_steps=6, lr=1e-2)
    session = Session(task)
    first = curve(run(task, {"lora": PLAIN}, session=session))
    for extra in ({"rslora": True}, {"dora": True}, {"modules_to_save": ["norm"]}):
        found = curve(run(task, {"lora": {**PLAIN, **extra}}, session=session, keep=tmp_path / "c"))
        assert found[-1] < found[0]
        assert found != first
        assert curve(run(task, {"lora": PLAIN}, session=session)) == first  # the next trial of the same process
        model, _ = load(tmp_path / "c")
        kept = {name for name, _ in model.named_parameters() if "modules_to_save" in name}
        assert any("norm" in name for name in kept) == ("modules_to_save" in extra)


def test_a_run_with_modules_of_its_own_goes_on(
    make_task: Callable[..., Task], base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(model=Model(name=str(base_dir)))
    config = {"lora": {**PLAIN, "dora": True, "modules_to_save": ["norm"]}, "lr": 1e-2}
    full = run(task, config)
    run(task, {**config, "max_steps": 6}, keep=tmp_path / "short")
    places: list[str] = []
    load_adapter = PeftModel.load_adapter

    def noted(model: Any, *args: Any, **kwargs: Any) -> Any:
        places.append(kwargs["torch_device"])
        return load_adapter(model, *args, **kwargs)

    monkeypatch.setattr(PeftModel, "load_adapter", noted)
    rest = run(task, {**config, "resume_from": str(tmp_path / "short")})
    assert curve(rest) == pytest.approx(curve(full)[2:], abs=1e-6)
    assert places == ["cpu"]  # peft's own choice is the node's first GPU, for all workers there


def test_the_space_fixes_or_searches_them(make_task: Callable[..., Task], base_dir: Path) -> None:
    task = make_task(model=Model(name=str(base_dir)))
    space = param_space(task, {"lora": {"dora": True, "rslora": tune.choice([False, True])}})["lora"]
    assert space["dora"] is True
    assert space["rslora"].sample() in (False, True)
    sampled = {name: value.sample() if hasattr(value, "sample") else value for name, value in space.items()}
    assert lora_config(sampled, 2).use_dora


def test_float16_needs_a_gpu_and_keeps_what_is_trained_in_float32(
    make_task: Callable[..., Task], base_dir: Path
) -> None:
    task = make_task(model=Model(name=str(base_dir), dtype="float16"))
    session = Session(task)
    model = session.models.build({"lora": PLAIN}, 0)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.float16}
    assert {p.dtype for p in session.models.build({}, 0).parameters()} == {torch.float32}
    if not torch.cuda.is_available():
        with pytest.raises(TaskError, match="needs a GPU"):
            run(task, {"lora": PLAIN}, session=session)
    with pytest.raises(TaskError, match=r"fp16 \(use Model.dtype='float16'\)"):
        make_task(trainer_args={"fp16": True})


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value)]} of TensorBoard's files: records of length, checksum, message, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for file in folder.glob("events*"):
        data = file.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_steps_and_evaluations_are_logged_run_by_run(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboardX")
    task = make_task(trainer_args={"report_to": "tensorboard", "logging_strategy": "steps", "logging_steps": 2})
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    session = Session(task)
    with pytest.raises(TaskError, match="TENSORBOARD_LOGGING_DIR"):
        run(task, {}, session=session)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path))
    for name in ("trial-1", "trial-2"):  # as a reused actor does
        session.run_name = name
        reports = run(task, {"lr": 1e-3 if name == "trial-1" else 3e-3}, session=session)
        logged = events(tmp_path / name)
        assert [step for step, _ in logged["train/loss"]] == [2, 4, 6, 8, 10, 12]
        assert logged["eval/loss"] == [(r["step"], pytest.approx(r["eval_loss"], rel=1e-5)) for r in reports]


def test_an_actor_names_its_runs_after_their_trials(make_task: Callable[..., Task]) -> None:
    actor = actor_trainable(make_task(max_steps=3), {"CPU": 1.0})({})
    actor.train()
    assert actor._session.run_name == actor.trial_id
    actor.stop()


def test_a_trial_that_was_stopped_leaves_no_noise_to_the_next(
    make_task: Callable[..., Task], base_dir: Path, tmp_path: Path
) -> None:
    """NEFTune's noise is a hook on the embeddings, which the trials of a process share."""

    class Stop(BaseException):
        pass

    def stop(metrics: dict[str, Any], checkpoint: Path | None) -> None:
        raise Stop

    task = make_task(model=Model(name=str(base_dir)), max_steps=6, trainer_args={"neftune_noise_alpha": 5.0})
    session = Session(task)
    first = [r["train_loss"] for r in run(task, {"lora": PLAIN}, session=session)]
    with pytest.raises(Stop):
        train({"lora": PLAIN}, session, stop, tmp_path, save=False)
    assert [r["train_loss"] for r in run(task, {"lora": PLAIN}, session=session)] == first
