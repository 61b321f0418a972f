"""Several workers: the training function in every worker of a Ray Train (V2) group, inside a Tune trial."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs_ray.cluster import state_api_error
from jobs_ray.lm.errors import TaskError, TrainingError
from jobs_ray.lm.process import NO_GPU, own_process
from jobs_ray.lm.session import Session
from jobs_ray.lm.task import Task

logger = logging.getLogger(__name__)


def group_trainable(task: Task, scaling_config: Any, failure_config: Any = None) -> Callable[[dict[str, Any]], None]:
    """The function trainable of a task. It holds no CPU itself: the workers' placement group does."""
    from ray import tune

    used: list[str] = []

    def lm_group(config: dict[str, Any]) -> None:
        trial = tune.get_context().get_trial_id()
        if used and used != [trial]:
            raise TaskError(
                "this trainable runs a worker group and cannot be reused by another trial; "
                "set TuneConfig(reuse_actors=False)"
            )
        used[:] = [trial]
        run_group(task, scaling_config, config, failure_config)

    # One byte of memory: Tune refuses an empty request, and a CPU held here would be one less for the workers.
    return tune.with_resources(lm_group, tune.PlacementGroupFactory([{"memory": 1}]))  # type: ignore[no-any-return]


def run_group(task: Task, scaling_config: Any, config: dict[str, Any], failure_config: Any = None) -> None:
    """Train one trial. Reports arrive through TuneReportCallback; the checkpoint is registered with Tune at the
    end, by repeating the last report. Raises TrainingError with the first worker's reason."""
    from ray import train, tune
    from ray.train._internal.session import get_session
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError
    from ray.tune.integration.ray_train import TuneReportCallback

    _preflight()
    _name_this_ray()
    storage = get_session().storage
    name = f"train-{tune.get_context().get_trial_id()}"
    # as for an actor (`leave_others_gpus`), but before Ray Train asks torch for the workers' devices
    hidden = {} if scaling_config._resources_per_worker_not_none.get("GPU") else {"env_vars": NO_GPU}
    trainer = TorchTrainer(
        worker,
        train_loop_config={"task": task, "config": config, "name": name},
        scaling_config=scaling_config,
        run_config=train.RunConfig(
            name=name,
            storage_path=storage.experiment_fs_path,
            storage_filesystem=storage.storage_filesystem,
            checkpoint_config=train.CheckpointConfig(num_to_keep=1),
            failure_config=failure_config or train.FailureConfig(max_failures=0),
            callbacks=[TuneReportCallback()],
            worker_runtime_env=hidden,
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {})
        reason = "; ".join(f"worker {rank}: {_short(f)}" for rank, f in sorted(failures.items()))
        raise TrainingError(reason or str(error)) from error
    if result.checkpoint is not None:
        # not result.metrics, which are those of the checkpoint: of the best step, that is, and time would go back
        tune.report(dict(result.return_value), checkpoint=result.checkpoint)
    # What Ray Train kept is now in the trial's own folder.
    _delete_dir(storage.storage_filesystem, f"{storage.experiment_fs_path}/{name}")


def worker(arguments: dict[str, Any]) -> dict[str, Any]:
    """One worker of the group; returns its last report. Every rank reports, and gives its part of each checkpoint."""
    from ray import train

    from jobs_ray.lm.loop import train as train_one
    from jobs_ray.lm.resume import can_go_on, ended, loss_of

    own_process()
    task: Task = arguments["task"]
    best, from_here = math.inf, None
    last: dict[str, Any] = {}

    def report(metrics: dict[str, Any], checkpoint: Path | None) -> None:
        # `done` would make Tune end the trial before the group has shut down, and leak its placement group.
        shown = {k: v for k, v in metrics.items() if k != "done"}
        last.update(shown)
        train.report(shown, checkpoint=train.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None)

    with tempfile.TemporaryDirectory(prefix="jobs-ray-") as scratch:
        before = train.get_checkpoint()
        if before is not None:  # this group was restarted
            restored = Path(before.to_directory(f"{scratch}/restored"))
            if (reported := ended(restored, task.granted_steps(arguments["config"]))) is not None:
                return {k: v for k, v in reported.items() if k != "done"}
            if can_go_on(restored):
                best, from_here = loss_of(restored), restored
        session = Session(task)
        session.run_name = arguments["name"]
        train_one(arguments["config"], session, report, Path(scratch) / "run", best=best, restored=from_here)
    return last


def _delete_dir(filesystem: Any, path: str) -> None:
    try:
        filesystem.delete_dir(path)
    except FileNotFoundError:  # a run that has left nothing
        logger.debug("%s was not there to delete", path)


def _preflight() -> None:
    """Say so when Ray's State API is silent: then a trial stopped from outside keeps its workers' resources.

    Asked on the head alone, as Ray Train's cleaner does: a dashboard listens there only, if not told otherwise.
    """
    if not _on_head():
        return
    error = state_api_error(timeout_s=10)
    if error is not None:
        logger.warning(
            "Ray's State API does not answer (%s). A trial stopped from outside would then leak the placement group "
            "of its workers, and the next trial would hang: install ray[default] and start Ray with its dashboard.",
            _short(error),
        )


def _on_head() -> bool:
    import ray

    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and "node:__internal_head__" in node["Resources"] for node in ray.nodes())


def _name_this_ray() -> None:
    """The address of this Ray, for the processes of the group. In this process, which is the trial's alone.

    Ray Train's cleaner (2.60), which frees the workers' resources once a trial was stopped from outside, asks the State
    API without an address. With several Rays on its machine it dies of that, and the next trial waits for ever.
    """
    import ray
    from ray.train.v2._internal import constants

    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    constants.ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")


def _short(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:500]
