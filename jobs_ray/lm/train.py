"""`lm.trainable`: the training function as a Ray Tune trainable, with one worker or with many.

One worker: a class trainable that trains in the Tune actor itself. With `TuneConfig(reuse_actors=True)` the actor,
its imports, tokens and LoRA base serve trial after trial.
Several workers: a function trainable that runs a Ray Train (V2) `TorchTrainer`; pass a ScalingConfig. It must not
be used with `reuse_actors=True`.

What is reported: `step` (optimiser steps since the start of the full run: the time attribute), `eval_loss`,
`eval_<target>_loss`, `accuracy`, `train_loss`, `tokens`, `loss_tokens` (those learned) and `epochs` by domain,
`tokens_per_second`, `learning_rate`, `startup_s`. So `JoBSSearcher(max_t=task.max_steps, time_attr="step",
steps_key="max_steps", resume_key="resume_from")`.
"""

from __future__ import annotations

from typing import Any

from jobs_ray.cluster import has_gpus
from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.requirements import sees_gpu, worker_resources
from jobs_ray.lm.task import Task


def trainable(
    task: Task,
    scaling_config: Any = None,
    *,
    group: bool | None = None,
    prepare: bool = True,
    failure_config: Any = None,
) -> Any:
    """A trainable for `tune.Tuner` that trains `task` with a trial's config.

    scaling_config: `ray.train.ScalingConfig`; None: one worker with one CPU (and a GPU, if this process sees one or the
        cluster has any when the trials start; where GPU nodes are added only once something asks for them, give
        `ScalingConfig(num_workers=1, use_gpu=True)`).
    group: True runs even one worker through TorchTrainer; by default only several.
    prepare: tokenise and pack now, in this process, so that no trial has to, nor to ask the hub for data: what is
        packed is found in the task's cache_dir (a node that does not share it packs for itself, once).
    failure_config: `ray.train.FailureConfig` of a group. By default a group goes on when one of its workers was
        pre-empted, and the trial ends when a worker fails; `FailureConfig(max_failures=2)` also starts a group with a
        failed worker again, twice. Either way the trial stays: it goes on from its last checkpoint, where that holds
        the optimiser (`Task.keep_optimizer`), else from the start. One worker is Tune's: `tune.FailureConfig`.

    Raises TaskError for what these workers cannot do; with `prepare`, DataError for rows that cannot be read or packed,
    or that are not the questions which `Task.accuracy` asks.
    """
    workers = 1 if scaling_config is None else scaling_config.num_workers
    if not isinstance(workers, int) or workers < 1:
        raise TaskError(f"scaling_config.num_workers must be a positive integer, got {workers!r}")
    if task.batch_size % (workers * task.accumulation):
        raise TaskError(
            f"batch_size={task.batch_size} is not a multiple of workers x accumulation = "
            f"{workers} x {task.accumulation}"
        )
    if group is None:
        group = workers > 1
    if group and scaling_config is None:
        from ray.train import ScalingConfig

        scaling_config = ScalingConfig(num_workers=1, use_gpu=sees_gpu() or has_gpus())
    _check(task, scaling_config, group)
    from jobs_ray.lm.packing import packed_for_workers, settled

    task = settled(task, look=prepare)
    if prepare:
        task = packed_for_workers(task)
    if group:
        from jobs_ray.lm.group import group_trainable

        return group_trainable(task, scaling_config, failure_config)
    if failure_config is not None:
        raise TaskError(
            "one worker is a Tune trial and not a group; set RunConfig(failure_config=tune.FailureConfig(...)) instead"
        )
    if workers > 1:
        raise TaskError(f"{workers} workers need group=True")
    from jobs_ray.lm.actor import actor_trainable

    if scaling_config is None:
        return actor_trainable(task, {"CPU": 1.0, **({"GPU": 1.0} if sees_gpu() else {})}, or_gpu=True)
    return actor_trainable(task, worker_resources(scaling_config))


def _check(task: Task, scaling_config: Any, group: bool) -> None:
    """Raises TaskError for what would be left out without a word."""
    if not group and getattr(scaling_config, "label_selector", None):
        raise TaskError(
            f"scaling_config.label_selector={scaling_config.label_selector!r} places the workers of a group, and one "
            "worker is a Tune trial, which is placed by its resources; give group=True, or accelerator_type instead"
        )
    if not task.trainer_args.get("fsdp"):
        return
    if not group:
        raise TaskError(
            "trainer_args ask for fsdp, which shards a model over the workers of a group, and this is one worker; give "
            "ScalingConfig(num_workers=...) more than one, or remove fsdp"
        )
    if set(scaling_config._resources_per_worker_not_none) <= {"CPU", "memory"}:
        # accelerate's AcceleratorState takes its plugin for groups of accelerators only
        raise TaskError(
            "trainer_args ask for fsdp, which needs GPUs, and the workers of this group have none: each would hold the "
            "whole model (plain DDP); give ScalingConfig(use_gpu=True), or remove fsdp"
        )
