"""What a checkpoint says of the run it belongs to, and whether a run may go on from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.task import Task

RUN_FILE = "jobs_ray_run.json"  # in a checkpoint: the config and step it belongs to


def comparable(config: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The part of a config that a resumed run must share with the run it goes on from."""
    skip = {task.steps_key, task.resume_key}
    return json.loads(json.dumps({k: v for k, v in config.items() if k not in skip}, sort_keys=True, default=str))  # type: ignore[no-any-return]


def check_resume(checkpoint: Path, config: Mapping[str, Any], task: Task) -> None:
    if not (checkpoint / RUN_FILE).exists():
        raise TaskError(f"config[{task.resume_key!r}]={checkpoint} is not a checkpoint of this trainable")
    saved = json.loads((checkpoint / RUN_FILE).read_text())
    if saved["config"] != comparable(config, task):
        raise TaskError(
            f"the checkpoint {checkpoint} is of another config ({saved['config']}), not of "
            f"{comparable(config, task)}; a run resumes only its own"
        )
    if saved["max_steps"] != task.max_steps:
        raise TaskError(
            f"the checkpoint's full run has {saved['max_steps']} steps, the task's {task.max_steps}: "
            "another learning-rate schedule"
        )
    if saved["step"] >= task.granted_steps(config):
        raise TaskError(
            f"the checkpoint stands at step {saved['step']}, and the trial is granted "
            f"{task.granted_steps(config)}: nothing left to train"
        )
