"""Which `transformers.TrainingArguments` are the task's own, and what to set instead.

Each of them, set behind the task's back, changes the order of the data, the schedule, or what a resumed run goes on
from: the mixture that is searched would no longer be the one that is trained.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs_ray.lm.errors import TaskError

_BATCH = "Task.batch_size (rows a step, over all workers) and Task.accumulation"
_STEPS = "Task.max_steps, and config['max_steps'] for a short run"
_EVALUATION = "Task.eval_every"
_SAVING = "Task.save"
_DATA = "nothing: rows are read in the order of the mixture's plan"
OWNED: Mapping[str, str] = {
    "output_dir": "RunConfig.storage_path (or run(keep=...))",
    "max_steps": _STEPS,
    "num_train_epochs": _STEPS,
    "seed": "Task.seed or config['seed']",
    "data_seed": "Task.seed or config['seed']",
    "learning_rate": "Task.lr or config['lr']",
    "weight_decay": "Task.weight_decay or config['weight_decay']",
    "warmup_steps": "Task.warmup or config['warmup'], a fraction of the full run",
    "warmup_ratio": "Task.warmup or config['warmup'], a fraction of the full run",
    "lr_scheduler_type": "Task.schedule",
    "per_device_train_batch_size": _BATCH,
    "gradient_accumulation_steps": _BATCH,
    "auto_find_batch_size": _BATCH,
    "accelerator_config": _BATCH,
    "per_device_eval_batch_size": "Task.eval_batch_size",
    "eval_strategy": _EVALUATION,
    "eval_steps": _EVALUATION,
    "eval_delay": _EVALUATION,
    "eval_on_start": _EVALUATION,
    "save_strategy": _SAVING,
    "save_steps": _SAVING,
    "save_only_model": _SAVING,
    "save_total_limit": "CheckpointConfig(num_to_keep=...)",
    "load_best_model_at_end": "Task.save='best'",
    "metric_for_best_model": "Task.save='best' and Task.target",
    "greater_is_better": "Task.save='best' and Task.target",
    "resume_from_checkpoint": "config['resume_from']",
    "gradient_checkpointing": "Task.activation_checkpointing",
    "gradient_checkpointing_kwargs": "Task.activation_checkpointing",
    "activation_checkpointing": "Task.activation_checkpointing",
    "activation_checkpointing_kwargs": "Task.activation_checkpointing",
    "ignore_data_skip": _DATA,
    "dataloader_drop_last": _DATA,
    "dataloader_in_order": _DATA,
    "remove_unused_columns": _DATA,
    "group_by_length": _DATA,
    "train_sampling_strategy": _DATA,
    "length_column_name": _DATA,
    "fp16": "Model.dtype='float16'",
    "run_name": "nothing: runs are named after their trials",
    "use_cache": "nothing: with a cache, the examples packed into a row would see each other",
}

_FILES = ("fsdp_config", "deepspeed")  # arguments that may be a dict or the path of a JSON file
_PIECES = "leaves checkpoints in pieces that lm.load cannot open"


def check(trainer_args: Mapping[str, Any]) -> None:
    """Raises TaskError naming each owned argument among `trainer_args` and what to use instead."""
    found = [f"{name} (use {OWNED[name]})" for name in trainer_args if name in OWNED]
    if found:
        raise TaskError(f"trainer_args must not set what the task owns: {'; '.join(found)}")
    read = {name: _read(name, trainer_args.get(name)) for name in _FILES}
    fsdp = read["fsdp_config"]
    for name, value in fsdp.items() if isinstance(fsdp, Mapping) else ():
        # accelerate's files say fsdp_state_dict_type
        if str(name).removeprefix("fsdp_") == "state_dict_type" and "FULL" not in str(value or "FULL").upper():
            raise TaskError(f"trainer_args fsdp_config {name} {value} {_PIECES}; use FULL_STATE_DICT")


def settled(trainer_args: Mapping[str, Any]) -> dict[str, Any]:
    """`trainer_args` with the JSON files they name read: workers run in other folders, perhaps on other nodes.

    A file that is not here is left to those who have it. Raises TaskError for one that is not JSON.
    """
    # a dict as text is left to transformers, which makes numbers of its strings
    return {
        name: _read(name, value) if name in _FILES and not str(value).startswith("{") else value
        for name, value in trainer_args.items()
    }


def _read(name: str, value: Any) -> Any:
    """The dict that `value` is, or holds as JSON (base64 of it, too, of DeepSpeed), or is the path of; None of None."""
    if not isinstance(value, str | os.PathLike):
        return value
    text = os.path.expanduser(value)
    try:
        if os.path.isfile(text):
            text = Path(text).read_text("utf-8")
        elif text.endswith(".json") or os.sep in text:
            return value
        elif name == "deepspeed" and not text.startswith("{"):
            text = base64.urlsafe_b64decode(text).decode()
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
    except (OSError, ValueError) as error:
        raise TaskError(
            f"trainer_args {name} must be a dict or the path of a JSON file with one, got {str(value)!r:.200} "
            f"({error}); check the path (relative to {Path.cwd()}) and the file"
        ) from error
    return found


def check_saving(trainer: Any) -> None:
    """Raises TaskError where this Trainer would write checkpoints without the weights, as only the built one tells.

    FSDP: transformers before it read state_dict_type (5.0 does not), or a variable of the environment. DeepSpeed: all
    weights trained under ZeRO-3, not gathered; adapters are gathered in any case (`Trainer.save_model`).
    """
    if trainer.is_fsdp_enabled:
        kind = str(trainer.accelerator.state.fsdp_plugin.state_dict_type)
        if "FULL_STATE_DICT" not in kind:
            raise TaskError(
                f"FSDP would save {kind}, which {_PIECES}; set the environment variable "
                "FSDP_STATE_DICT_TYPE=FULL_STATE_DICT on the workers, or install a newer transformers"
            )
    gather = "stage3_gather_16bit_weights_on_model_save"
    if trainer.is_deepspeed_enabled and not hasattr(trainer.model, "peft_config"):
        deepspeed = trainer.args.hf_deepspeed_config
        if deepspeed.is_zero3() and not deepspeed.is_true(f"zero_optimization.{gather}"):
            raise TaskError(
                f"trainer_args deepspeed: ZeRO-3 without {gather} {_PIECES}, where all weights are trained; set it to "
                "true in zero_optimization"
            )


_OF_MODEL: Mapping[str, str] = {
    "revision": "Model.revision",
    "gguf_file": "Model.gguf_file",
    "dtype": "Model.dtype",
    "torch_dtype": "Model.dtype",
    "device_map": "nothing: the trainer places the model",
    "load_in_4bit": "quantization_config=BitsAndBytesConfig(...)",
    "load_in_8bit": "quantization_config=BitsAndBytesConfig(...)",
}


def check_model(kwargs: Mapping[str, Any]) -> None:
    """Raises TaskError for arguments of `Model.kwargs` that have a field of their own, or would train wrongly."""
    found = [f"{name} (use {_OF_MODEL[name]})" for name in kwargs if name in _OF_MODEL]
    if found:
        raise TaskError(f"Model.kwargs must not set {'; '.join(found)}")
