"""The training function: one run of one config with `transformers.Trainer`, reporting as it goes.

The same function runs in a Tune actor and in each worker of a Ray Train group (`train.py`), or right here
(`run`). Whoever calls it passes `report(metrics, checkpoint)`, called at every report with the folder of a
checkpoint just written, or None.
"""

from __future__ import annotations

import gc
import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs_ray.lm import owned
from jobs_ray.lm.apart import refuse_to_mix
from jobs_ray.lm.errors import TaskError, TrainingError, out_of_memory
from jobs_ray.lm.model import refuse_long_rows
from jobs_ray.lm.resume import check_resume, local_folder
from jobs_ray.lm.session import Session, pinned_threads
from jobs_ray.lm.task import Task

if TYPE_CHECKING:
    from jobs_ray.lm.trainer import Report

_KEYS = ("mixture", "lr", "weight_decay", "warmup", "lora", "model", "seed")  # of a trial's configuration


def run(
    task: Task,
    config: Mapping[str, Any] | None = None,
    *,
    keep: str | Path | None = None,
    session: Session | None = None,
) -> list[dict[str, Any]]:
    """Train one config in this process, without Ray; returns its reports.

    keep: folder that receives the last checkpoint written (replaced when it exists); None keeps none.
    """
    reports: list[dict[str, Any]] = []

    def report(metrics: dict[str, Any], checkpoint: Path | None) -> None:
        reports.append(metrics)
        if checkpoint is not None and keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(checkpoint, keep)

    with tempfile.TemporaryDirectory(prefix="jobs-ray-") as scratch:
        train(dict(config or {}), session or Session(task), report, Path(scratch), save=keep is not None)
    return reports


def train(
    config: Mapping[str, Any],
    session: Session,
    report: Report,
    scratch: Path,
    *,
    save: bool = True,
    best: float = math.inf,
    restored: Path | None = None,
) -> None:
    """One run, to the steps granted by `config`, from scratch or from `config[task.resume_key]`.

    scratch: a folder of this process's own for checkpoints on their way to `report`; one is kept at a time.
    restored: checkpoint of this very run, that it goes on from; best: its evaluation loss, if the caller keeps it.
    Raises TaskError for a config that cannot be trained, TrainingError for out of memory and NaN losses.
    """
    import torch

    task = session.task
    with pinned_threads(task.threads):
        trainer = build(config, session, report, scratch, save=save, best=best)
        try:
            _go(trainer, config, restored)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if isinstance(error, TrainingError) or not out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory at step {trainer.state.global_step} with {trainer.args.per_device_train_batch_size} "
                f"rows of {task.seq_len} tokens a pass; raise Task.accumulation (now {task.accumulation}), set "
                f"activation_checkpointing, or narrow the space. ({str(error)[:200]})"
            ) from error
        finally:
            _let_go(trainer)


def _go(trainer: Any, config: Mapping[str, Any], restored: Path | None) -> None:
    resume = restored or config.get(trainer.lm_task.resume_key)
    if not resume:
        trainer.train()
        return
    with local_folder(resume) as folder:
        check_resume(folder, config, trainer.lm_task, trainer.session.train)
        trainer.train(resume_from_checkpoint=str(folder))


def _let_go(trainer: Any) -> None:
    """Free the model and the optimiser now: the next trial of this process needs their memory.

    accelerate and the callback handler hold them too, and the trainer is part of a circle (its callbacks know it), so
    that without this two full models were in memory while the next trial's was built.
    """
    import torch

    if "wandb" in trainer.args.report_to:
        import wandb

        wandb.finish()  # else the next trial of this process would go on in this one's run
    trainer.accelerator.free_memory()
    handler = trainer.callback_handler
    handler.callbacks.clear()
    handler.model = handler.optimizer = handler.lr_scheduler = handler.train_dataloader = None
    trainer.model = trainer.model_wrapped = trainer.optimizer = trainer.lr_scheduler = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def build(
    config: Mapping[str, Any],
    session: Session,
    report: Report,
    scratch: Path,
    *,
    save: bool = True,
    best: float = math.inf,
) -> Any:
    """The Trainer of one run, ready to `train()`."""
    from jobs_ray.lm.mixing import MixedRows, MixturePlan, weights_of
    from jobs_ray.lm.trainer import MixtureTrainer

    task = session.task
    _refuse_unknown(config, task)
    seed = task.seed_of(config)
    weights = weights_of(config.get("mixture"), list(task.domains))
    plan = MixturePlan(session.train, weights, task.max_steps * task.batch_size, seed=seed, unit=task.unit)
    # before the model: DeepSpeed's ZeRO-3 shards it as it is made
    args = arguments(config, task, scratch, session.run_name)
    start = time.perf_counter()
    model = session.models.build(config, seed)
    refuse_long_rows(model, task.seq_len)
    # With a cache, transformers takes the packed examples of a row for one and lets them see each other.
    model.config.use_cache = False
    built = time.perf_counter()
    trainer = MixtureTrainer(
        model=model,
        args=args,
        train_dataset=MixedRows(session.train, plan),
        session=session,
        config=config,
        report=report,
        save=save,
        best=best,
        startup={**session.seconds, "model": built - start},
    )
    _name_logs(trainer)
    refuse_to_mix(trainer, session)
    if save:
        owned.check_saving(trainer)
    return trainer


def _refuse_unknown(config: Mapping[str, Any], task: Task) -> None:
    """A misspelt key would be searched over in trials that are all the same. (Ray's own begin with two underscores: a
    Repeater's `__trial_index__`.)"""
    known = {*_KEYS, task.steps_key, task.resume_key}
    if unknown := sorted(key for key in set(config) - known if not str(key).startswith("__")):
        raise TaskError(
            f"nothing here reads the keys {unknown} of the configuration; it has {sorted(known)}, and the rest of "
            "TrainingArguments is fixed for all trials in Task.trainer_args"
        )


def _name_logs(trainer: Any) -> None:
    """TensorBoard's files of each run in a folder of its own, and not beside the checkpoints, which are moved away."""
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__name__ == "TensorBoardCallback":
            if callback.logging_dir is None:
                raise TaskError(
                    "report_to='tensorboard' needs the environment variable TENSORBOARD_LOGGING_DIR (of the workers: "
                    "set it where Ray is started): a folder for the logs of all runs"
                )
            callback.logging_dir = str(Path(callback.logging_dir) / trainer.args.run_name)


def arguments(config: Mapping[str, Any], task: Task, scratch: Path, run_name: str | None = None) -> Any:
    """TrainingArguments: the schedule over the full run, no saving, evaluating or (unless asked) logging of its own."""
    from dataclasses import fields

    import torch
    from transformers import TrainingArguments

    from jobs_ray.lm.model import bf16_available

    known = {f.name for f in fields(TrainingArguments)}
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    share, rest = divmod(task.batch_size, world * task.accumulation)
    if rest:
        raise TaskError(
            f"batch_size={task.batch_size} is not a multiple of workers x accumulation = {world} x {task.accumulation}"
        )
    on_cpu = not torch.cuda.is_available()
    if on_cpu and task.model.dtype == "float16":
        raise TaskError("Model.dtype='float16' needs a GPU; on CPUs leave it at 'auto' (float32)")
    given: dict[str, Any] = {
        "output_dir": str(scratch),
        "max_steps": task.max_steps,
        "per_device_train_batch_size": share,
        "gradient_accumulation_steps": task.accumulation,
        "learning_rate": float(config.get("lr", task.lr)),
        "weight_decay": float(config.get("weight_decay", task.weight_decay)),
        "warmup_steps": round(float(config.get("warmup", task.warmup)) * task.max_steps),
        "lr_scheduler_type": task.schedule,
        "seed": task.seed_of(config),
        "data_seed": task.seed_of(config),
        "bf16": bf16_available() and task.model.dtype != "float16",
        "fp16": task.model.dtype == "float16",
        "run_name": run_name or scratch.name,
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "ddp_find_unused_parameters": False,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    if on_cpu and world > 1:
        given["ddp_backend"] = "gloo"
    if task.activation_checkpointing:
        name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
        given[name] = True
        given[f"{name}_kwargs"] = {"use_reentrant": False}
    unknown = sorted(set(task.trainer_args) - known)
    if unknown:
        raise TaskError(f"transformers.TrainingArguments has no {unknown}; remove them from trainer_args")
    made = TrainingArguments(**{**given, **task.trainer_args})
    if made.n_gpu > 1:
        # One process that sees several GPUs: transformers would wrap the model in DataParallel and read n_gpu times
        # the planned rows a step. More GPUs are more workers.
        made._n_gpu = 1
    return made
