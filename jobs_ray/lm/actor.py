"""One worker: the training function inside a Tune actor that is reused from trial to trial.

Trainer owns its loop and Tune wants to own it too (`step()` returns one report). The training function
therefore runs in a thread that stands still at every report until the next `step()`: never ahead of Tune, so that
a stop takes effect at once and no state changes while Tune reads a checkpoint.
"""

from __future__ import annotations

import math
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune

from jobs_ray.cluster import has_gpus
from jobs_ray.lm.errors import TrainingError
from jobs_ray.lm.process import give_back_memory, leave_others_gpus, own_process
from jobs_ray.lm.session import Session
from jobs_ray.lm.task import Task

_STOP_TIMEOUT_S = 60.0


class _Abandoned(BaseException):
    """Raised inside the training thread at a report to unwind it; not an Exception, so that nobody swallows it."""


class _Steps:
    """A function that reports, turned into one that is asked for its next report.

    run: called in a thread with `report(item)`; `report` returns when the next item is wanted.
    """

    def __init__(self, run: Callable[[Callable[[Any], None]], None]) -> None:
        self._wanted: queue.Queue[bool] = queue.Queue()
        self._items: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._body, args=(run,), daemon=True, name="lm-train")
        self._thread.start()

    def _body(self, run: Callable[[Callable[[Any], None]], None]) -> None:
        try:
            self._pause()
            run(self._report)
            self._items.put(("end", None))
        except _Abandoned:
            self._items.put(("end", None))
        except BaseException as error:
            self._items.put(("error", error))

    def _pause(self) -> None:
        if not self._wanted.get():
            raise _Abandoned

    def _report(self, item: Any) -> None:
        self._items.put(("item", item))
        self._pause()

    def next(self) -> Any:
        """The next report, or None when the function has returned. Raises what it raised."""
        if not self._thread.is_alive() and self._items.empty():
            return None
        self._wanted.put(True)
        kind, value = self._items.get()
        if kind == "error":
            raise value
        return value if kind == "item" else None

    def close(self) -> None:
        """Unwind the function, wherever it stands."""
        self._wanted.put(False)
        self._thread.join(_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise TrainingError(f"the training thread did not stop within {_STOP_TIMEOUT_S:.0f} s")


class ActorTrainable(tune.Trainable):  # type: ignore[misc]
    """See `lm.trainable`. Subclasses made by `actor_trainable` carry the task."""

    task: Task
    resources: Mapping[str, float]
    or_gpu: bool

    @classmethod
    def default_resource_request(cls, config: Any) -> Any:
        # asked when the trials start: a driver on a node without a GPU does not mean a cluster without any
        gpu = {"GPU": 1.0} if cls.or_gpu and "GPU" not in cls.resources and has_gpus() else {}
        return tune.PlacementGroupFactory([{**cls.resources, **gpu}])

    def setup(self, config: dict[str, Any]) -> None:
        leave_others_gpus()
        own_process()
        self._scratch = Path(tempfile.mkdtemp(prefix="jobs-ray-"))
        self._session = Session(self.task)
        self._steps: _Steps | None = None
        self._restore: Path | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._end_run()
        self._session.seconds = dict.fromkeys(self._session.seconds, 0.0)  # paid by the actor's first trial
        return True

    def step(self) -> dict[str, Any]:
        if self._steps is None:
            self._steps = self._begin_run()
        metrics = self._steps.next()
        if metrics is None:
            raise TrainingError("the run has ended; it has no further steps")
        return dict(metrics)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The run's last checkpoint (its best, for a full run); nothing before there is one."""
        if (self._scratch / "kept").exists():
            shutil.copytree(self._scratch / "kept", checkpoint_dir, dirs_exist_ok=True)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from a checkpoint of this very trial, after its actor died; from the start, where it cannot be."""
        from jobs_ray.lm.resume import can_go_on

        if can_go_on(Path(checkpoint)):
            self._restore = self._scratch / "kept"  # read before the first report, and kept until a better one comes
            shutil.copytree(checkpoint, self._restore, dirs_exist_ok=True)

    def cleanup(self) -> None:
        self._end_run()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _begin_run(self) -> _Steps:
        from jobs_ray.lm.loop import train
        from jobs_ray.lm.resume import loss_of

        restored = self._restore
        best = math.inf if restored is None else loss_of(restored)
        kept = self._scratch / "kept"
        self._session.run_name = self.trial_id

        def body(hand_over: Callable[[Any], None]) -> None:
            def report(metrics: dict[str, Any], checkpoint: Path | None) -> None:
                if checkpoint is not None:
                    shutil.rmtree(kept, ignore_errors=True)
                    checkpoint.rename(kept)
                hand_over({**metrics, "should_checkpoint": checkpoint is not None})

            train(dict(self.config), self._session, report, self._scratch / "run", best=best, restored=restored)

        return _Steps(body)

    def _end_run(self) -> None:
        if self._steps is not None:
            self._steps.close()
            self._steps = None
            give_back_memory()
        self._restore = None
        for name in ("kept", "run"):
            shutil.rmtree(self._scratch / name, ignore_errors=True)


def actor_trainable(task: Task, resources: Mapping[str, float], *, or_gpu: bool = False) -> type[ActorTrainable]:
    """The class trainable of a task, each actor holding `resources`; or_gpu: and a GPU, where the cluster has any."""
    return type("LMTrainable", (ActorTrainable,), {"task": task, "resources": dict(resources), "or_gpu": or_gpu})
