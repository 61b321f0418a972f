"""Which `transformers.TrainingArguments` are the task's own, and what to set instead.

Each of them, set behind the task's back, changes the order of the data, the schedule, or what a resumed run goes on
from: the mixture that is searched would no longer be the one that is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def check(trainer_args: Mapping[str, Any]) -> None:
    """Raises TaskError naming each owned argument among `trainer_args` and what to use instead."""
    found = [f"{name} (use {OWNED[name]})" for name in trainer_args if name in OWNED]
    if found:
        raise TaskError(f"trainer_args must not set what the task owns: {'; '.join(found)}")
    fsdp = trainer_args.get("fsdp_config")
    if isinstance(fsdp, Mapping) and "SHARDED" in str(fsdp.get("state_dict_type", "")).upper():
        raise TaskError(
            "trainer_args fsdp_config state_dict_type SHARDED_STATE_DICT leaves checkpoints in pieces that lm.load "
            "cannot open; use FULL_STATE_DICT"
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
