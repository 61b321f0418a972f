"""LoRA: which modules of a model can have adapters, and peft's configuration from a trial's `config["lora"]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jobs_ray.lm.errors import TaskError

PAPERS_MODULES = ("q_proj", "v_proj", "up_proj", "down_proj", "gate_proj")
OTHER_SENSES = r".*(vision|visual|image|audio|multi_modal).*"
"""Parts of composed models (Gemma 3, ...) that text never reaches: adapters there would get no gradient."""
SETTINGS = {"r", "alpha", "dropout", "num_layers", "end", "modules", "rslora", "dora", "modules_to_save"}


def lora_modules(model: Any) -> list[str]:
    """Names of the linear modules in the model's layers, as it has them; the paper's five, where it has those.

    Llama's names are not everybody's: gpt2 has c_attn, c_proj, c_fc; phi3 qkv_proj, o_proj, gate_up_proj, down_proj.
    """
    import torch

    names: dict[str, None] = {}
    for name, module in model.named_modules():
        linear = isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"  # quantised ones too
        if linear and any(part.isdigit() for part in name.split(".")) and not re.fullmatch(OTHER_SENSES, name):
            names[name.split(".")[-1]] = None
    found = list(names)
    return list(PAPERS_MODULES) if set(PAPERS_MODULES) <= set(found) else found


def refuse_unknown_flags(lora: Mapping[str, Any], model: Any) -> None:
    """Raises TaskError for a flag that is on and of no module: misspelt, it would be searched over in trials that are
    all the same."""
    on = {name for name, value in lora.items() if name not in SETTINGS and value}
    known = {name for name in on for module, _ in model.named_modules() if f".{module}".endswith(f".{name}")}
    if unknown := sorted(on - known):
        raise TaskError(
            f"lora keys {unknown} are neither settings ({sorted(SETTINGS)}) nor modules of {type(model).__name__} "
            f"(in its layers: {lora_modules(model)})"
        )


def lora_config(
    lora: Mapping[str, Any],
    num_layers: int,
    default: str = "q_proj",
    *,
    transposed: bool = False,
    composed: bool = False,
) -> Any:
    """A peft LoraConfig from the trial's `config["lora"]`.

    Keys: `r`, `alpha` (default r), `dropout`; the modules as flags (`"q_proj": True`) or as a list `modules`;
    `num_layers` (default all) from the `end` "last" (default) or "first". With every flag off, the first of them is
    used (without flags: `default`): an adapter on nothing has nothing to train, and the search space cannot exclude
    that corner. `rslora` scales by alpha / sqrt(r) (Kalajdzievski 2023), `dora` trains magnitude and direction apart
    (Liu et al. 2024), both flags; `modules_to_save` names modules to be trained and kept whole.

    transposed: the weights are stored as inputs x outputs (gpt2's Conv1D). composed: some of its modules are
    `OTHER_SENSES`, which get no adapters.
    """
    from peft import LoraConfig, TaskType

    flags = {name: bool(value) for name, value in lora.items() if name not in SETTINGS}
    odd = [name for name, value in lora.items() if name not in SETTINGS and value not in (True, False)]
    if odd:
        raise TaskError(f"lora keys {odd} are neither settings ({sorted(SETTINGS)}) nor module flags (bool)")
    if "r" not in lora:
        raise TaskError(f"config['lora'] needs the rank 'r', got {dict(lora)}")
    modules: Any = lora.get("modules")
    if modules is None:
        modules = [name for name, on in flags.items() if on] or [next(iter(flags), default)]
    elif not isinstance(modules, str):
        modules = list(modules)
    count = int(lora.get("num_layers", num_layers))
    if not 1 <= count <= num_layers:
        raise TaskError(f"lora num_layers must be in 1..{num_layers}, got {count}")
    end = lora.get("end", "last")
    if end not in ("first", "last"):
        raise TaskError(f"lora end must be 'first' or 'last', got {end!r}")
    layers = range(count) if end == "first" else range(num_layers - count, num_layers)
    r = int(lora["r"])
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=r,
        lora_alpha=lora.get("alpha", r),
        lora_dropout=float(lora.get("dropout", 0.0)),
        target_modules=modules,
        exclude_modules=OTHER_SENSES if composed else None,  # peft warns where none of them are
        fan_in_fan_out=transposed,
        use_rslora=bool(lora.get("rslora", False)),
        use_dora=bool(lora.get("dora", False)),
        modules_to_save=list(lora.get("modules_to_save") or ()) or None,
        layers_to_transform=list(layers) if count < num_layers else None,
    )
