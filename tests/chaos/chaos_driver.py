"""The driver of one leg: a process that runs or restores the experiment, with what is to go wrong in it built in.

Forked from a server that has Ray and torch loaded: a fresh interpreter would take six CPU seconds to get so far.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import sys
from pathlib import Path
from typing import Any

import ray
from chaos_schedule import Leg, Schedule
from chaos_trainable import MAX_T, Chaotic
from ray import tune
from ray.tune import TuneError

from jobs_ray import JoBSScheduler, JoBSSearcher
from jobs_ray.models.late_import import import_models
from jobs_ray.trials import state
from jobs_ray.tune import recovery

import_models()


def trainable() -> Any:
    """A quarter of a CPU each: four at once on a Ray of one."""
    return tune.with_resources(Chaotic, {"cpu": 0.25})


def space(schedule: Schedule, folder: str) -> dict[str, Any]:
    return {
        "x": tune.uniform(0.0, 1.0),
        "kind": tune.choice(["a", "b"]),
        "folder": folder,
        "pace": 0.03,
        "troubled": schedule.troubled,
        "troubles": list(schedule.troubles),
        "trouble_after": schedule.trouble_after,
    }


class Raising(tune.Callback):
    """Raises once the file `raise` lies in the folder."""

    def __init__(self, folder: str) -> None:
        self.marker = Path(folder, "raise")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if self.marker.exists():
            raise RuntimeError("the callback fails on purpose")


def tuner(schedule: Schedule, folder: str, storage: str, state: str | None = None) -> tune.Tuner:
    """A new experiment in `storage`/run, with what the search knows by that state."""
    searcher = JoBSSearcher(
        max_t=MAX_T,
        short_t=2,
        budget=schedule.budget,
        seed=schedule.seed,
        time_attr=schedule.time_attr,
        resume_key="resume_from" if schedule.resume else None,
        trial_timeout_s=schedule.timeout_s,
    )
    if state is not None:
        searcher.restore(state)
    return tune.Tuner(
        trainable(),
        param_space=space(schedule, folder),
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=-1,
            max_concurrent_trials=schedule.concurrent,
            reuse_actors=True,
            search_alg=searcher,
            scheduler=JoBSScheduler() if schedule.scheduled else None,
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=storage,
            verbose=0,
            callbacks=[Raising(folder)],
            failure_config=tune.FailureConfig(max_failures=schedule.max_failures),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=schedule.resume),
        ),
    )


def save_with_trouble(folder: Path, leg: Leg) -> None:
    """While the file `disk full` lies there a save fails, and `unsaved` lies there, too, until one does not; with
    `kill in save` the next one kills this process, however it writes. `saving` names the file."""
    write, opened = state.write, Path.open

    def dies(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def troubled(path: Any, text: str) -> None:
        if (folder / "disk full").exists():
            (folder / "unsaved").touch()
            (folder / "happened disk full").touch()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        killed = (folder / "kill in save").exists()
        (folder / "saving").write_text(str(path))

        def half(file: Path, *arguments: Any, **named: Any) -> Any:
            stream = opened(file, *arguments, **named)
            if Path(path).name in file.name:
                stream.write(text[: len(text) // 2])
                stream.flush()
                dies()
            return stream

        if killed and leg.stage == "half written":
            Path.open = half  # type: ignore[method-assign, assignment]
        if killed and leg.stage == "before the rename":
            Path.replace = dies  # type: ignore[method-assign, assignment]
        write(path, text)
        if killed:
            dies()
        (folder / "unsaved").unlink(missing_ok=True)

    state.write = troubled


def restored(path: str, schedule: Schedule, folder: str, leg: Leg) -> Any:
    """Goes on with the experiment at `path`, or does what the error says where a kill has torn Ray's own files."""
    try:
        return tune.Tuner.restore(path, trainable=trainable(), **leg.restore).fit()
    except (ValueError, TuneError) as error:
        if "Ray could not restore the experiment" not in str(error):
            raise
        print(f"---- {error}", flush=True)
    state = next(recovery.states(path), None)
    anew = f"{folder}/anew{len(list(Path(folder).glob('anew*')))}"
    return tuner(schedule, folder, anew, state).fit()


def drive(address: str, folder: str, path: str | None, schedule: Schedule, leg: Leg) -> None:
    """Runs the experiment of the schedule, or restores that at `path`. Whatever it says goes to `folder`/log."""
    log = os.open(Path(folder, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.register(signal.SIGUSR1)  # the stacks of one that hangs
    print(f"---- {leg}", flush=True)
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(schedule.save_every_s)
    save_with_trouble(Path(folder), leg)
    ray.init(address=address, log_to_driver=False)
    try:
        results = tuner(schedule, folder, folder).fit() if path is None else restored(path, schedule, folder, leg)
        print(f"---- ended: {len(results)} trials, {len(results.errors)} errors", flush=True)
    finally:
        ray.shutdown()
        sys.stdout.flush()
