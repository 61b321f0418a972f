"""What a space and a trial learn from the model, the device and the cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs_ray.lm import Domain, Model, Session, Task, TaskError, load, loop, param_space, run, trainable
from jobs_ray.lm.actor import actor_trainable
from jobs_ray.lm.lora import PAPERS_MODULES
from jobs_ray.lm.model import bf16_available

TINY = {"model_type": "llama", "num_hidden_layers": 2, "max_position_embeddings": 64, "tie_word_embeddings": True}
SMALL = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "phi3": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 1,
    },
}  # fmt: skip
MODULES = {"gpt2": ["c_attn", "c_proj", "c_fc"], "phi3": ["o_proj", "qkv_proj", "gate_up_proj", "down_proj"]}


@pytest.mark.parametrize("kind", ["gpt2", "phi3"])
@pytest.mark.slow
def test_the_space_has_the_models_own_modules_and_each_trains(
    make_task: Callable[..., Task], tokenizer_dir: Path, tmp_path: Path, kind: str
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    made = AutoConfig.for_model(kind, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=1, **SMALL[kind])
    AutoModelForCausalLM.from_config(made).save_pretrained(tmp_path / kind)
    tokenizer.save_pretrained(tmp_path / kind)
    task = make_task(model=Model(name=str(tmp_path / kind)), max_steps=3)
    space = param_space(task)["lora"]
    flags = [name for name in space if name not in ("r", "alpha", "dropout", "num_layers", "end")]
    assert sorted(flags) == sorted(MODULES[kind])
    session = Session(task)
    for lora in [*({name: True} for name in flags), dict.fromkeys(flags, False), {}]:
        [report] = run(task, {"lora": {"r": 2, "num_layers": 1, **lora}}, session=session)
        assert report["step"] == 3


def test_of_a_composed_model_the_text_part_is_adapted(
    make_task: Callable[..., Task], tokenizer_dir: Path, tmp_path: Path
) -> None:
    """Gemma 3 from 4B on is a text and a vision model, whose configuration has no layers of its own."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text = {"vocab_size": 300, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64}
    made = AutoConfig.for_model(
        "gemma3", text_config=small | text, vision_config=small | {"image_size": 28, "patch_size": 14},
        mm_tokens_per_image=1, pad_token_id=1, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(made).save_pretrained(tmp_path / "gemma")
    tokenizer.save_pretrained(tmp_path / "gemma")
    task = make_task(model=Model(name=str(tmp_path / "gemma")), max_steps=3)
    flags = {name for name, _ in param_space(task)["lora"].items() if name.endswith("_proj")}
    assert set(PAPERS_MODULES) <= flags
    session = Session(task)
    model = session.models.build({"lora": {"r": 2, "modules": "all-linear"}}, 0)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained
    assert not [name for name in trained if "vision" in name or "multi_modal" in name]
    [report] = run(task, {"lora": {"r": 2, "q_proj": True, "num_layers": 1}}, session=session)
    assert report["step"] == 3


def test_llamas_space_is_the_papers(make_task: Callable[..., Task], base_dir: Path) -> None:
    space = param_space(make_task(model=Model(name=str(base_dir))))["lora"]
    assert set(PAPERS_MODULES) < set(space)
    assert "k_proj" not in space


def test_arguments_of_from_pretrained(make_task: Callable[..., Task], base_dir: Path, tmp_path: Path) -> None:
    task = make_task(model=Model(name=str(base_dir), kwargs={"attn_implementation": "eager"}), max_steps=3)
    session = Session(task)
    assert session.models.build({}, 0).config._attn_implementation == "eager"
    [with_eager] = run(task, {}, session=session, keep=tmp_path / "c")
    [plain] = run(make_task(model=Model(name=str(base_dir)), max_steps=3), {})
    assert with_eager["eval_loss"] == pytest.approx(plain["eval_loss"], abs=1e-5)
    assert load(tmp_path / "c", dtype=torch.bfloat16)[0].dtype == torch.bfloat16
    for kwargs, match in (
        ({"dtype": torch.float16}, "use Model.dtype"),
        ({"load_in_4bit": True}, "quantization_config=BitsAndBytesConfig"),
    ):
        with pytest.raises(TaskError, match=match):
            Model(name="x", kwargs=kwargs)


def test_adapters_on_quantised_weights(make_task: Callable[..., Task], tmp_path: Path) -> None:
    """QLoRA; bitsandbytes computes on CPUs too."""
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    base_dir = tmp_path / "base"  # its blocks are of 64 weights
    wide = Session(make_task(model=replace(make_task().model, config={**TINY, "hidden_size": 64, "head_dim": 64,
                                                                       "intermediate_size": 128})))  # fmt: skip
    wide.models.build({}, 0).save_pretrained(base_dir)
    wide.tokenizer.save_pretrained(base_dir)

    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    task = make_task(model=Model(name=str(base_dir), kwargs={"quantization_config": four_bits}))
    session = Session(task)
    lora = {"r": 4, "q_proj": True, "v_proj": True}
    curves = [run(task, {"lora": lora, "lr": 1e-2}, session=session, keep=tmp_path / "c") for _ in range(2)]
    assert curves[0][-1]["eval_loss"] < curves[0][0]["eval_loss"]
    # on the same frozen base, whose scales bitsandbytes rounds at the first evaluation on a CPU
    assert [r["eval_loss"] for r in curves[0]] == pytest.approx([r["eval_loss"] for r in curves[1]], abs=0.01)
    base = session.models.build({"lora": lora}, 0).base_model.model.model.layers[0]
    assert type(base.self_attn.k_proj).__name__ == "Linear4bit"
    assert load(tmp_path / "c")[0].num_parameters() > 0
    with pytest.raises(TaskError, match="cannot be trained themselves"):
        run(task, {}, session=session)


def test_emulated_bf16_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A T4 says it supports bfloat16, unless asked without its emulation."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not bf16_available()


def test_arguments_come_before_the_model(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZeRO-3 shards a model as it is made, and knows from TrainingArguments that it shall."""
    order: list[str] = []
    session = Session(make_task())
    build, arguments = session.models.build, loop.arguments

    def noted(name: str, function: Any) -> Any:
        return lambda *args: (order.append(name), function(*args))[1]

    monkeypatch.setattr(session.models, "build", noted("model", build))
    monkeypatch.setattr(loop, "arguments", noted("arguments", arguments))
    loop.build({}, session, lambda *_: None, tmp_path, save=False)
    assert order == ["arguments", "model"]


@pytest.mark.filterwarnings("default::ResourceWarning", "default::FutureWarning", "default::DeprecationWarning")
@pytest.mark.slow
def test_trials_get_the_clusters_gpu_though_the_driver_has_none(no_ray: None, make_task: Callable[..., Task]) -> None:
    import ray

    asked = actor_trainable(make_task(), {"CPU": 1.0}, or_gpu=True)
    assert asked.default_resource_request({}).required_resources == {"CPU": 1.0}
    ray.init("local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        assert asked.default_resource_request({}).required_resources == {"CPU": 1.0, "GPU": 1.0}
        told = actor_trainable(make_task(), {"CPU": 2.0})
        assert told.default_resource_request({}).required_resources == {"CPU": 2.0}
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("default::ResourceWarning", "default::FutureWarning", "default::DeprecationWarning")
@pytest.mark.slow
def test_trials_without_a_gpu_see_none(
    no_ray: None, make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray leaves those of the machine visible to them: all would train on the first, and groups on CPUs fail."""
    import ray
    from ray import tune
    from ray.train import ScalingConfig

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    file = tmp_path / "seen"

    def noting(row: dict[str, str]) -> str:
        file.write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        return row["text"]

    ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        for name, scaling, seen in (
            ("actor", ScalingConfig(num_workers=1), {""}),
            ("actor of a GPU", ScalingConfig(num_workers=1, use_gpu=True), {"0", "1"}),
            ("group", ScalingConfig(num_workers=2), {""}),
        ):
            texts = [{"text": f"the cat sees {name} {i}"} for i in range(200)]
            text = {"t": Domain(texts, format=noting)}  # the workers read it: nothing is packed before
            task = make_task(domains=text, target=text, max_steps=1, eval_every=1)
            [result] = tune.Tuner(
                trainable(task, scaling, prepare=False),
                run_config=tune.RunConfig(storage_path=str(tmp_path), name=name, verbose=0),
            ).fit()
            assert result.error is None
            assert file.read_text() in seen, name
    finally:
        ray.shutdown()


def test_an_actor_tried_by_hand_leaves_its_gpus_to_the_process(
    cluster: Any, make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the user's own process, beside a Ray without GPUs; what they start afterwards would find none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    actor = actor_trainable(make_task(), {"CPU": 1.0})({})
    try:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    finally:
        actor.stop()


@pytest.mark.parametrize("kind", ["gpt2", pytest.param("opt", marks=pytest.mark.slow), "roberta", "llama"])
def test_rows_longer_than_what_a_model_learned_are_refused(
    make_task: Callable[..., Task], tokenizer_dir: Path, kind: str
) -> None:
    """On a GPU a position beyond the table is a failed assertion that the process does not survive."""
    small = {
        "gpt2": SMALL["gpt2"],
        "opt": {
            "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 64,
            "word_embed_proj_dim": 32, "max_position_embeddings": 64, "pad_token_id": 1,
        },
        "roberta": {  # its positions begin after the padding's
            "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
            "max_position_embeddings": 66, "pad_token_id": 1, "is_decoder": True, "type_vocab_size": 1,
        },
        "llama": {"hidden_size": 32, "head_dim": 16, **TINY},
    }[kind]  # fmt: skip
    model = Model(config={**small, "model_type": kind}, tokenizer=str(tokenizer_dir))
    text = {"animals": Domain([{"text": "the cat sees the dog. " * 60}])}
    how: dict[str, Any] = {"domains": text, "target": text, "model": model, "max_steps": 1, "eval_every": 1}
    assert len(run(make_task(**how, seq_len=64, batch_size=1))) == 1
    task = make_task(**how, seq_len=65, batch_size=1)
    if kind == "llama":
        assert len(run(task)) == 1
        return
    name = {"gpt2": "wpe", "opt": "embed_positions", "roberta": "position_embeddings"}[kind]
    with pytest.raises(TaskError, match=f"seq_len=65 is beyond the 64 positions that '.*{name}' has"):
        run(task)
