"""The joint search space of a task: data mixture and model configuration (the paper's, by default)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.lora import lora_modules
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

    The mixture over the task's domains (bounded above when the task has `max_epochs_per_domain`), the learning
    rate, and for a pretrained base the paper's LoRA space: rank 1-128, alpha 1-48, dropout 0-0.1, the modules (of a
    model that has not the paper's five: all linear ones of its layers), the number of layers and from which end. A
    fresh model gets depth and width around the task's own instead.

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
        space["mixture"] = mixture(*task.domains, max=bounds)
    if model:
        space["lr"] = tune.loguniform(1e-5, 1e-2)
        if task.model.config is None:
            if fixed.get("lora", {}) is not None:
                space["lora"] = _lora_space(task, layers)
        else:
            space["model"] = _architecture(task.model.config)
    return _merge(space, fixed)


def _lora_space(task: Task, layers: int | None) -> dict[str, Any]:
    from ray import tune

    model = empty_model(task.model)
    layers = layers or int(model.config.num_hidden_layers)
    return {
        "r": tune.lograndint(1, 129),
        "alpha": tune.randint(1, 49),
        "dropout": tune.uniform(0.0, 0.1),
        **{name: tune.choice([False, True]) for name in lora_modules(model)},
        "num_layers": tune.randint(1, layers + 1),
        "end": tune.choice(["last", "first"]),
    }


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    from ray import tune

    hidden, depth, head = config.get("hidden_size"), config.get("num_hidden_layers"), config.get("head_dim")
    if not hidden or not depth:
        raise TaskError("Model.config needs hidden_size and num_hidden_layers to search around them")
    step = head or 64
    return {
        "num_hidden_layers": tune.randint(max(1, depth // 2), 2 * depth + 1),
        "hidden_size": tune.qrandint(max(step, hidden // 2 // step * step), 2 * hidden // step * step, step),
    }


def _merge(space: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(space)
    for name, value in fixed.items():
        inner = merged.get(name)
        merged[name] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged
