"""Examples of a packed row must not see each other, which not every model can tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from jobs_ray.lm import Domain, Model, Session, Task, TaskError, run
from jobs_ray.lm.apart import sees_its_neighbour

SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "head_dim": 16, "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 0,
    "eos_token_id": 1,
}  # fmt: skip
ALIKE = [{"prompt": f"one plus {word}", "completion": " equals six"} for word in ("two", "four", "five", "nine")]


@pytest.mark.parametrize(
    ("dtype", "autocast"), [(torch.float32, None), (torch.bfloat16, None), (torch.float32, "bf16")], ids=str
)
@pytest.mark.parametrize(
    ("kind", "extra", "mixes"),
    [
        ("llama", {}, False),
        ("gemma3_text", {}, False),
        ("mixtral", {"num_local_experts": 4}, False),
        ("gpt_oss", {"num_local_experts": 4, "sliding_window": 64}, True),
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}, True),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, True),
        ("mamba", {"state_size": 8}, True),
    ],
)
def test_those_that_mix_are_known(
    kind: str, extra: dict[str, Any], mixes: bool, dtype: torch.dtype, autocast: Any
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **extra), dtype=dtype)
    with torch.no_grad():  # as new weights are, nobody says much
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
    model.train()
    model.config.use_cache = False
    assert sees_its_neighbour(model, autocast) == mixes
    assert model.training


def test_a_model_that_mixes_is_refused_and_trains_on_one_example_a_row(
    make_task: Callable[..., Task], tokenizer_dir: Path
) -> None:
    config = {"model_type": "opt", **SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32}
    parts: dict[str, Any] = {
        "domains": {"sums": Domain(ALIKE)},
        "target": {"sums": Domain(ALIKE)},
        "model": Model(config=config, tokenizer=str(tokenizer_dir)),
        "max_steps": 2,
        "eval_every": 2,
    }
    with pytest.raises(TaskError, match=r"see each other in OPTForCausalLM.*Task\(pack=False\)"):
        run(make_task(**parts))
    alone = make_task(**parts, pack=False)
    session = Session(alone)
    assert [rows.info.rows for rows in (session.train["sums"], session.target["sums"])] == [len(ALIKE)] * 2
    assert run(alone, session=session)[-1]["step"] == 2


def test_texts_are_joined_by_any_model(make_task: Callable[..., Task], tokenizer_dir: Path) -> None:
    config = {"model_type": "opt", **SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32}
    task = make_task(model=Model(config=config, tokenizer=str(tokenizer_dir)), max_steps=2, eval_every=2)
    assert run(task)[-1]["step"] == 2
