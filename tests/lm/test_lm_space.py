"""`param_space`: every configuration of it can be trained, and it can be had for every task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from jobs_ray.lm import Domain, Model, Task, TaskError, param_space, run
from jobs_ray.lm.mixing import weight_bounds
from jobs_ray.lm.model import fresh_config, load_tokenizer
from jobs_ray.lm.packing import prepare

LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "max_position_embeddings": 64, "intermediate_size": 32}


def widths(space: Any) -> list[int]:
    """Every width of the space."""
    domain = space["model"]["hidden_size"]
    return list(range(domain.lower, domain.upper + 1, domain.sampler.q))


def trains(config: dict[str, Any], changes: dict[str, Any], tokenizer: Any) -> bool:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(fresh_config(config, changes, tokenizer))
    ids = torch.arange(8)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    return True


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (
            {"hidden_size": 48, "num_attention_heads": 12},
            [24, 48, 72, 96],
        ),  # an odd size of a head has no rotary embedding
        ({"hidden_size": 36, "num_attention_heads": 6, "num_key_value_heads": 2}, [12, 24, 36, 48, 60, 72]),
        ({"hidden_size": 32, "head_dim": 8, "num_key_value_heads": 2}, [16, 32, 48, 64]),
        ({"hidden_size": 32, "head_dim": 16}, [16, 32, 48, 64]),
        ({"hidden_size": 256, "num_attention_heads": 4}, [128, 192, 256, 320, 384, 448, 512]),
        ({"hidden_size": 64}, [64, 128]),  # Llama's own 32 heads
        ({"hidden_size": 32, "head_dim": 12, "num_attention_heads": 8}, [16, 32, 48, 64]),
    ],
)
def test_every_width_of_the_space_trains(
    make_task: Callable[..., Task], tokenizer_dir: Path, shape: dict[str, int], expected: list[int]
) -> None:
    config = {**LLAMA, **shape}
    task = make_task(model=Model(config=config, tokenizer=str(tokenizer_dir)))
    found = widths(param_space(task))
    assert found == expected
    tokenizer = load_tokenizer(task.model)
    assert all(trains(config, {"hidden_size": width, "num_hidden_layers": 1}, tokenizer) for width in found)


def test_heads_that_do_not_share_out_are_refused(make_task: Callable[..., Task], tokenizer_dir: Path) -> None:
    def model(**shape: Any) -> Model:
        return Model(config={**LLAMA, "hidden_size": 32, **shape}, tokenizer=str(tokenizer_dir))

    grouped = make_task(model=model(head_dim=8, num_key_value_heads=2))
    with pytest.raises(
        TaskError, match=r"num_attention_heads=3 is not a multiple of num_key_value_heads=2.*head_dim=8"
    ):
        run(grouped, {"model": {"hidden_size": 24}})
    # what is fixed counts as if the task had it
    assert widths(param_space(grouped, {"model": {"num_key_value_heads": 4}})) == [32, 64]
    with pytest.raises(TaskError, match=r"hidden_size=32 .* head_dim=8 x num_key_value_heads=3.*48 for example"):
        param_space(make_task(model=model(head_dim=8, num_key_value_heads=3)))
    with pytest.raises(TaskError, match=r"hidden_size=32 .* num_attention_heads=5.*35 for example"):
        param_space(make_task(model=model(num_attention_heads=5)))


def test_the_callers_own_architectures(make_task: Callable[..., Task], tokenizer_dir: Path) -> None:
    """A type with other names for width and depth can be searched, too."""

    def model(**config: Any) -> Model:
        return Model(config=config, tokenizer=str(tokenizer_dir))

    gpt2 = make_task(model=model(model_type="gpt2", n_embd=32, n_layer=2, n_head=2))
    with pytest.raises(TaskError, match=r"needs hidden_size and num_hidden_layers.*n_embd.*param_space\(task"):
        param_space(gpt2)
    assert param_space(gpt2, {"model": {"n_layer": 3}})["model"] == {"n_layer": 3}
    whole = tune.choice([{"n_layer": 1}, {"n_layer": 3}])
    assert param_space(gpt2, {"model": whole})["model"] is whole
    assert set(param_space(make_task(), {"model": {"num_hidden_layers": 1}})["model"]) == {
        "hidden_size",
        "num_hidden_layers",
    }
    # as long as the depth
    layered = model(model_type="qwen3", hidden_size=32, head_dim=8, num_hidden_layers=1, layer_types=["full_attention"])
    assert set(param_space(make_task(model=layered))["model"]) == {"hidden_size"}


def test_a_single_domain_has_no_mixture(make_task: Callable[..., Task], base_dir: Path) -> None:
    domains = {"animals": make_task().domains["animals"]}
    task = make_task(domains=domains, model=Model(name=str(base_dir)), max_steps=3)
    space = param_space(task)
    assert set(space) == {"lr", "lora"}
    sampled = {"lr": space["lr"].sample(), "lora": {n: d.sample() for n, d in space["lora"].items()}}
    assert [r["step"] for r in run(task, sampled)] == [3]
    with pytest.raises(TaskError, match="raise it to at least"):  # repeated more often than the task allows
        param_space(make_task(domains=domains, max_epochs_per_domain=0.01))


def test_bounds_follow_the_tasks_unit(make_task: Callable[..., Task]) -> None:
    pairs = Domain([{"prompt": "one plus two plus three " * 2, "completion": " six"}] * 80)
    domains = {"pairs": pairs, "text": make_task().domains["animals"]}
    how: dict[str, Any] = {"domains": domains, "target": {"t": pairs}, "max_steps": 40}
    rows = prepare(make_task(**how))["train"]
    most = 1.2 * 160 * 31 / sum(packed.info.loss_tokens for packed in rows.values())
    expected = {unit: weight_bounds(rows, 160, 32, most, unit) for unit in ("tokens", "loss_tokens")}
    assert expected["tokens"] != expected["loss_tokens"]
    for unit, bounds in expected.items():
        space = param_space(make_task(**how, unit=unit, max_epochs_per_domain=most))["mixture"]
        drawn = [space.sample() for _ in range(300)]
        for name, bound in bounds.items():
            assert bound - 0.05 < max(weights[name] for weights in drawn) <= bound + 1e-9


def test_the_layers_of_a_composed_model_are_those_of_its_text(
    make_task: Callable[..., Task], tokenizer_dir: Path, tmp_path: Path
) -> None:
    from transformers import AutoConfig

    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = size | {"num_hidden_layers": 3, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 300}
    vision = size | {"num_hidden_layers": 1, "image_size": 28, "patch_size": 14, "vision_use_head": False}
    made = AutoConfig.for_model("gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4)
    made.save_pretrained(tmp_path)
    task = make_task(
        model=Model(name=str(tmp_path), tokenizer=str(tokenizer_dir)), target={"d": Domain([{"text": "one"}])}
    )
    lora = param_space(task)["lora"]
    assert (lora["num_layers"].lower, lora["num_layers"].upper) == (1, 4)
