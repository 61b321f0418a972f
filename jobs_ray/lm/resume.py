"""Where a checkpoint lies, what it says of the run it belongs to, and whether a run may go on from it.

A checkpoint is named by a local path, by a URI ("s3://bucket/...") or by Ray's `Checkpoint` (path and file system:
what a storage that is not local needs, since its bare paths say nothing on another machine).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.packed import PackedRows
from jobs_ray.lm.task import Task

_SHARED = ("batch_size", "seq_len", "unit", "schedule")
_OVERRIDDEN = ("lr", "weight_decay", "warmup")  # by a configuration that has them
RUN_FILE = "jobs_ray_run.json"  # in a checkpoint: the config and step it belongs to


@contextmanager
def local_folder(checkpoint: Any) -> Iterator[Path]:
    """The checkpoint as a folder of this machine while the context lasts; downloaded once a node if it is remote.

    checkpoint: path, URI or Ray `Checkpoint`. Raises TaskError when it cannot be read.
    """
    if isinstance(checkpoint, Path) or (isinstance(checkpoint, str) and "://" not in checkpoint):
        yield Path(checkpoint)
        return
    from ray.tune import Checkpoint

    with ExitStack() as stack:
        try:
            held = Checkpoint(checkpoint) if isinstance(checkpoint, str) else checkpoint
            folder = stack.enter_context(held.as_directory())
        except (OSError, ValueError, AttributeError) as error:
            raise TaskError(f"cannot read the checkpoint {checkpoint!r}: {type(error).__name__}: {error}") from error
        yield Path(folder)


def location(checkpoint: Any) -> tuple[Any, str]:
    """(pyarrow file system, path on it) of a checkpoint named by a path, a URI or a Ray `Checkpoint`."""
    from pyarrow.fs import FileSystem, LocalFileSystem

    if isinstance(checkpoint, str | Path):
        if "://" in str(checkpoint):
            found: tuple[Any, str] = FileSystem.from_uri(str(checkpoint))
            return found
        return LocalFileSystem(), str(checkpoint)
    return checkpoint.filesystem, str(checkpoint.path)


def _said(checkpoint: Path) -> dict[str, Any] | None:
    """What the checkpoint says of its run; None where it is none of ours."""
    file = checkpoint / RUN_FILE
    return json.loads(file.read_text()) if file.exists() else None


def can_go_on(checkpoint: Path) -> bool:
    """Whether the folder is a checkpoint of ours that holds the optimiser too."""
    saved = _said(checkpoint)
    return saved is not None and saved.get("resumable", True)


def ended(checkpoint: Path, granted: int) -> dict[str, Any] | None:
    """The last report of a run of so many steps, where the checkpoint stands at its end; None before it."""
    saved = _said(checkpoint) or {}
    return dict(saved.get("metrics", {})) if saved.get("step", 0) >= granted else None


def loss_of(checkpoint: Path) -> float:
    """The evaluation loss that it was saved with; infinite where it does not say."""
    return float((_said(checkpoint) or {}).get("metrics", {}).get("eval_loss", math.inf))


def shared_with(task: Task, train: Mapping[str, PackedRows], config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run that goes on shares with its beginning besides its configuration and steps: what the order of the data
    and the learning rate follow from. Numbers of rows stand for the data, since they are the same on every machine.
    (Workers and accumulation may change.)"""
    kept = {name: getattr(task, name) for name in _SHARED}
    kept |= {name: float(config.get(name, getattr(task, name))) for name in _OVERRIDDEN}
    return {**kept, "seed": task.seed_of(config), "rows": {name: len(rows) for name, rows in train.items()}}


def check_resume(checkpoint: Path, config: Mapping[str, Any], task: Task, train: Mapping[str, PackedRows]) -> None:
    """Raises TaskError when the run of this config, over these rows, cannot go on from the checkpoint."""
    saved = _said(checkpoint)
    if saved is None:
        raise TaskError(f"config[{task.resume_key!r}]={checkpoint} is not a checkpoint of this trainable")
    if not saved.get("resumable", True):
        raise TaskError(
            f"the checkpoint {checkpoint} of a full run holds the model without its optimiser; to go on from such, "
            "train with Task.keep_optimizer=True"
        )
    if saved["config"] != task.comparable(config):
        raise TaskError(
            f"the checkpoint {checkpoint} is of another config ({saved['config']}), not of "
            f"{task.comparable(config)}; a run resumes only its own"
        )
    if saved["max_steps"] != task.max_steps:
        raise TaskError(
            f"the checkpoint's full run has {saved['max_steps']} steps, the task's {task.max_steps}: "
            "another learning-rate schedule"
        )
    now = shared_with(task, train, config)
    if other := {name: was for name, was in saved.get("task", now).items() if was != now.get(name)}:
        raise TaskError(
            f"the checkpoint {checkpoint} was trained with {other}, and the task now says "
            f"{ {name: now.get(name) for name in other} }; give it the old values back, or train from the beginning"
        )
    if saved["step"] >= task.granted_steps(config):
        raise TaskError(
            f"the checkpoint stands at step {saved['step']}, and the trial is granted "
            f"{task.granted_steps(config)}: nothing left to train"
        )
