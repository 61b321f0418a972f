"""The paper's setting on the same code: a Llama-3 with its chat tokenizer's features, LoRA, nine data sets.

Only the sizes differ from `meta-llama/Meta-Llama-3-8B-Instruct`: the architecture is shrunk and the data sets are
local rows in the hub's column formats.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.llama3_nine_datasets import DATASETS, hub_rows, scaling
from jobs_ray.lm import Accuracy, Domain, Model, Session, Task, TaskError, load, param_space, run, trainable
from jobs_ray.lm.lora import lora_config

NAMES = tuple(DATASETS)


@pytest.fixture(scope="module")
def llama3_dir(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama-3's architecture (grouped-query attention, its rope base, untied head), shrunk, saved as a hub folder."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=1,
        rope_theta=500_000.0, vocab_size=len(tokenizer), max_position_embeddings=256, tie_word_embeddings=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("llama3")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama3_task(llama3_dir: Path, make_task: Callable[..., Task]) -> Task:
    domains = {name: Domain(hub_rows(name, 60), held_out=0.1) for name in NAMES}
    return make_task(
        domains=domains,
        target={"mmlu": domains["mmlu"].validation()},
        model=Model(name=str(llama3_dir)),
        max_steps=40,
        eval_every=20,
        seq_len=96,
        accumulation=2,
        activation_checkpointing=True,
        accuracy=Accuracy(domains["mmlu"].validation(), questions=6),
    )


def test_nine_data_sets_with_the_papers_configuration(llama3_task: Task, tmp_path: Path) -> None:
    config = {
        "mixture": dict.fromkeys(NAMES, 1 / 9),
        "lr": 5e-3,
        "lora": {
            "r": 8, "alpha": 16, "dropout": 0.05, "q_proj": True, "v_proj": True, "up_proj": False,
            "down_proj": False, "gate_proj": True, "num_layers": 2, "end": "first",
        },
    }  # fmt: skip
    session = Session(llama3_task)
    reports = run(llama3_task, config, session=session, keep=tmp_path / "c")
    assert [r["step"] for r in reports] == [20, 40]
    assert reports[-1]["eval_loss"] < reports[0]["eval_loss"]
    assert all(6 * r["accuracy"] == pytest.approx(round(6 * r["accuracy"])) for r in reports)  # of six questions
    total = sum(reports[-1]["tokens"].values())
    for name in NAMES:
        assert reports[-1]["tokens"][name] / total == pytest.approx(1 / 9, abs=0.02)
    model, _ = load(tmp_path / "c")
    adapted = {n.split(".layers.")[1].split(".lora")[0] for n, _ in model.named_parameters() if "lora_A" in n}
    assert adapted == {
        f"{layer}.{part}" for layer in (0, 1) for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj")
    }


def test_the_space_samples_configurations_that_train(llama3_task: Task) -> None:
    space = param_space(llama3_task)
    assert set(space["mixture"].sample()) == set(NAMES)
    session = Session(llama3_task)
    sampled = {k: v.sample() for k, v in space["lora"].items()}
    config = {"mixture": space["mixture"].sample(), "lr": 1e-3, "lora": sampled, "max_steps": 20}
    assert run(llama3_task, config, session=session)[-1]["step"] == 20


@pytest.mark.parametrize(("dry_run", "bundle"), [(False, {"CPU": 1.0, "GPU": 1.0}), (True, {"CPU": 1.0})])
def test_one_worker_asks_for_its_gpu_where_none_is_yet(
    llama3_task: Task, dry_run: bool, bundle: dict[str, float]
) -> None:
    asked = scaling(argparse.Namespace(groups=1, dry_run=dry_run))
    assert trainable(llama3_task, asked, prepare=False).default_resource_request({}).bundles == [bundle]
    assert scaling(argparse.Namespace(groups=4, dry_run=dry_run)).use_gpu is not dry_run


def test_lora_settings() -> None:
    last = lora_config({"r": 4, "num_layers": 3, "v_proj": True, "q_proj": False}, 10)
    assert (last.layers_to_transform, last.target_modules, last.lora_alpha) == ([7, 8, 9], {"v_proj"}, 4)
    assert lora_config({"r": 4, "num_layers": 3, "end": "first", "q_proj": True}, 10).layers_to_transform == [0, 1, 2]
    assert lora_config({"r": 4, "q_proj": False, "v_proj": False}, 10).target_modules == {"q_proj"}
    assert lora_config({"r": 4, "modules": "all-linear"}, 10).target_modules == "all-linear"
    with pytest.raises(TaskError, match=r"in 1\.\.10"):
        lora_config({"r": 4, "num_layers": 11}, 10)
    with pytest.raises(TaskError, match="module flags"):
        lora_config({"r": 4, "rank_pattern": "x"}, 10)


def test_accuracy_by_likelihood_and_by_generation(make_task: Callable[..., Task]) -> None:
    """A model that has learned the answer by heart gets it right both ways, a fresh one does not."""
    learned = [{"question": "Who sees?", "answer": "a fox"}] * 20
    chosen = [
        {"question": "Who sees?", "choices": ["a fox", "wolf bird two three"], "answer": 0, "subject": "x"}
    ] * 4  # fmt: skip
    results = {}
    for name, domain in {"open": Domain(learned, format="gsm8k"), "choice": Domain(chosen, format="mmlu")}.items():
        task = make_task(
            domains={"d": domain},
            target={"d": domain},
            max_steps=60,
            eval_every=60,
            lr=1e-2,
            seq_len=64,
            accuracy=Accuracy(domain, questions=4, max_new_tokens=8),
        )
        session = Session(task)
        results[name] = [run(task, {"lr": lr}, session=session)[-1]["accuracy"] for lr in (1e-9, 1e-2)]
    assert results["open"] == [0.0, 1.0]
    assert results["choice"][1] == 1.0
