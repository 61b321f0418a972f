"""The joint search space of a task: data mixture and model configuration (the paper's, by default)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.lora import SETTINGS, lora_modules
from jobs_ray.lm.model import empty_model
from jobs_ray.lm.task import Task


def param_space(
    task: Task,
    fixed: Mapping[str, Any] | None = None,
    *,
    data: bool = True,
    model: bool = True,
    layers: int | None = None,
) -> dict[str, Any]:
    """Ray Tune domains for `tune.Tuner(param_space=...)`.

    The mixture over the task's domains (bounded above when the task has `max_epochs_per_domain`; none for a single
    domain, whose weight is always 1), the learning rate, and for a pretrained base the paper's LoRA space: rank 1-128,
    alpha 1-48, dropout 0-0.1, the modules (of a model that has not the paper's five: all linear ones of its layers),
    the number of layers and from which end. A fresh model gets depth and width around the task's own instead.

    fixed: anything to fix or replace, by nested key: `{"lr": 3e-4, "lora": {"r": 16}}`, `{"lora": None}` for
        full fine-tuning, `{"mixture": {...}}`. A value may also be another Tune domain.
    data, model: False leaves that half out ("model only", "data only": the task's defaults apply).
    layers: layers of the pretrained base; by default read from its configuration.
    """
    from ray import tune

    from jobs_ray import mixture
    from jobs_ray.lm.mixing import weight_bounds
    from jobs_ray.lm.packing import prepare

    fixed = dict(fixed or {})
    space: dict[str, Any] = {}
    if data and "mixture" not in fixed:
        bounds = None
        if task.max_epochs_per_domain is not None:
            bounds = weight_bounds(
                prepare(task)["train"],
                task.max_steps * task.batch_size,
                task.seq_len,
                task.max_epochs_per_domain,
                task.unit,
            )
        if len(task.domains) > 1:
            space["mixture"] = mixture(*task.domains, max=bounds)
    if model:
        space["lr"] = tune.loguniform(1e-5, 1e-2)
        if task.model.config is None:
            if fixed.get("lora", {}) is not None:
                space["lora"] = _lora_space(task, layers)
                own = fixed.get("lora")
                if isinstance(own, Mapping) and "modules" in own:  # a list of them in the place of the flags
                    space["lora"] = {n: domain for n, domain in space["lora"].items() if n in SETTINGS}
        elif architecture := _architecture(task.model.config, fixed.get("model", {})):
            space["model"] = architecture
    return _merge(space, fixed)


def _lora_space(task: Task, layers: int | None) -> dict[str, Any]:
    from ray import tune

    model = empty_model(task.model)
    # of Gemma 3 and other composed models, the layers of the part that reads text
    layers = layers or int(model.config.get_text_config().num_hidden_layers)
    return {
        "r": tune.lograndint(1, 129),
        "alpha": tune.randint(1, 49),
        "dropout": tune.uniform(0.0, 0.1),
        **{name: tune.choice([False, True]) for name in lora_modules(model)},
        "num_layers": tune.randint(1, layers + 1),
        "end": tune.choice(["last", "first"]),
    }


def _architecture(config: Mapping[str, Any], fixed: Any) -> dict[str, Any]:
    """Depth and width around the task's own, as far as `fixed`, the caller's own for "model", leaves them open."""
    from ray import tune

    if not isinstance(fixed, Mapping):  # the whole of it is the caller's: None, a tune.choice of dicts
        return {}
    # what is fixed to a value holds for every trial, as if Model.config had it
    config = {**config, **{name: value for name, value in fixed.items() if isinstance(value, int | list)}}
    hidden, depth = config.get("hidden_size"), config.get("num_hidden_layers")
    if not hidden or not depth:
        if fixed:
            return {}  # a type with other names (gpt2: n_embd, n_layer); the caller says what is searched
        raise TaskError(
            "Model.config needs hidden_size and num_hidden_layers to search around them, got "
            f"{sorted(config)}; name them, or give the space yourself: param_space(task, {{'model': {{...}}}})"
        )
    space: dict[str, Any] = {}
    if "num_hidden_layers" not in fixed and not config.get("layer_types"):  # a list with an entry for each layer
        space["num_hidden_layers"] = tune.randint(max(1, depth // 2), 2 * depth + 1)
    if "hidden_size" not in fixed:
        step = _width_step(config, hidden)
        space["hidden_size"] = tune.qrandint(max(step, hidden // 2 // step * step), 2 * hidden // step * step, step)
    return space


def _width_step(config: Mapping[str, Any], hidden: int) -> int:
    """Step between widths all of which can be trained: whole heads, shared out evenly among the key-value heads."""
    head, heads, groups = (config.get(n) for n in ("head_dim", "num_attention_heads", "num_key_value_heads"))
    if head and not heads:  # the number of heads follows the width
        unit, of = head * (groups or 1), f"head_dim={head}" + (f" x num_key_value_heads={groups}" if groups else "")
    else:  # the size of a head follows the width, and rotary embeddings need it even
        own = heads or _default_heads(config["model_type"]) or 1
        unit, of = own if hidden % (2 * own) else 2 * own, f"num_attention_heads={own}"
        if hidden % own and (head or not heads):
            unit = 1  # some types have heads of a size of their own, whatever the width
    if hidden % unit:
        raise TaskError(
            f"hidden_size={hidden} of Model.config is not a multiple of {of}: no such model can be trained; "
            f"make it one, {-(-hidden // unit) * unit} for example"
        )
    # steps of 64 suit a GPU, where that leaves several widths
    coarse = math.lcm(64, unit)
    return coarse if (heads or not head) and coarse <= hidden // 2 else unit


def _default_heads(kind: str) -> int | None:
    from transformers import AutoConfig

    heads = getattr(AutoConfig.for_model(kind).get_text_config(), "num_attention_heads", None)
    return heads if isinstance(heads, int) else None


def _merge(space: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(space)
    for name, value in fixed.items():
        inner = merged.get(name)
        merged[name] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged
