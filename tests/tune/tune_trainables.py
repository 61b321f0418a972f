"""Tiny trainables: a bowl in `x` whose loss falls as 1/t. Importable, so that a restored run finds them."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from typing import Any

from ray import tune

STEPS = 12


def loss(config: dict[str, Any], t: float) -> float:
    """Falls with t; lowest at x = 0.3."""
    return (config["x"] - 0.3) ** 2 + 0.5 / t


def function(config: dict[str, Any]) -> None:
    """Reports every step, up to `steps` of the config or STEPS."""
    for t in range(1, int(config.get("steps", STEPS)) + 1):
        time.sleep(config.get("sleep", 0.0))
        tune.report({"loss": loss(config, t), "score": -loss(config, t)})


class Class(tune.Trainable):
    """The same as a class that can be reused, reset and checkpointed."""

    def setup(self, config: dict[str, Any]) -> None:
        self.t = 0
        if config.get("resume_from"):
            self.load_checkpoint(config["resume_from"])

    def step(self) -> dict[str, Any]:
        time.sleep(self.config.get("sleep", 0.0))
        self.t += 1
        value = loss(self.config, self.t)
        done = self.t >= self.config.get("steps", STEPS)
        return {"loss": value, "score": -value, "step": self.t, "done": done}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        with open(os.path.join(checkpoint_dir, "t.json"), "w") as file:
            json.dump(self.t, file)

    def load_checkpoint(self, checkpoint: str) -> None:
        with open(os.path.join(checkpoint, "t.json")) as file:
            self.t = json.load(file)


class SlowStart(Class):
    """Takes 2 s to start in every process but the first."""

    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        try:
            os.close(os.open(config["marker"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            time.sleep(2.0)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config, self.t = new_config, 0
        return True


class Paced(Class):
    """Slow enough to be killed in between, as long as the file `slow_while` exists."""

    def step(self) -> dict[str, Any]:
        time.sleep(0.1 if os.path.exists(self.config["slow_while"]) else 0.0)
        return super().step()


def checkpointing(config: dict[str, Any]) -> None:
    """Leaves a checkpoint at every second step; goes on from `resume_from`."""
    start = 0
    if config.get("resume_from"):
        with open(os.path.join(config["resume_from"], "t.json")) as file:
            start = json.load(file)
    for t in range(start + 1, STEPS + 1):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if t % 2 == 0:
                with open(os.path.join(folder, "t.json"), "w") as file:
                    json.dump(t, file)
                checkpoint = tune.Checkpoint.from_directory(folder)
            tune.report({"loss": loss(config, t), "start": start, "step": t}, checkpoint=checkpoint)


def like_ray_train(config: dict[str, Any]) -> None:
    """What TuneReportCallback makes of a Ray Train run: no checkpoint for Tune, its path among the metrics."""
    start = 0
    if config.get("resume_from"):
        with open(os.path.join(config["resume_from"], "t.json")) as file:
            start = json.load(file)
    for t in range(start + 1, STEPS + 1):
        metrics = {"loss": loss(config, t), "start": start, "step": t}
        if t % 2 == 0:
            folder = tempfile.mkdtemp(dir=config["folder"])
            with open(os.path.join(folder, "t.json"), "w") as file:
                json.dump(t, file)
            metrics["checkpoint_path"] = folder
        tune.report(metrics)


def in_a_bucket(config: dict[str, Any]) -> None:
    """Like `like_ray_train`, its checkpoints in the experiment's own storage, wherever that is."""
    from ray.train._internal.session import get_session

    storage = get_session().storage
    start = 0
    if config.get("resume_from"):
        with config["resume_from"].as_directory() as folder, open(os.path.join(folder, "t.json")) as file:
            start = json.load(file)
    for t in range(start + 1, STEPS + 1):
        metrics = {"loss": loss(config, t), "start": start, "step": t}
        if t % 2 == 0:
            path = f"{storage.trial_fs_path}/by_train_{t}"
            storage.storage_filesystem.create_dir(path)
            with storage.storage_filesystem.open_output_stream(f"{path}/t.json") as stream:
                stream.write(json.dumps(t).encode())
            metrics["checkpoint_path"] = path
        tune.report(metrics)


def checkpointing_in_a_bucket(config: dict[str, Any]) -> None:
    """`checkpointing`, handed the `Checkpoint` that a storage without local paths makes of it."""
    if config.get("resume_from"):
        with config["resume_from"].as_directory() as folder:
            checkpointing({**config, "resume_from": folder})
    else:
        checkpointing(config)


class Troubled(Class):
    """Reports something unusable from the second step on, as `trouble` says."""

    def step(self) -> dict[str, Any]:
        result = super().step()
        kind = self.config["trouble"]
        if kind == "number as text":
            result["loss"] = "1.5"
        elif self.t >= 2 and kind != "fine":
            result.pop("loss")
            bad = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf"), "text": "diverged"}
            if kind in bad:
                result["loss"] = bad[kind]
        return result


class Fragile(Class):
    """Raises at step `fail_at`; only once if `fail_once` names a file to remember it by."""

    def step(self) -> dict[str, Any]:
        if self.t + 1 == self.config["fail_at"]:
            marker = self.config.get("fail_once")
            if marker is None or not os.path.exists(marker):
                if marker is not None:
                    open(marker, "w").close()
                raise RuntimeError("the trainable fails on purpose")
        return super().step()


class Unpredictable(Class):
    """No report of the first half of a run tells anything of the second. (If none told of the next: that is noise.)"""

    def step(self) -> dict[str, Any]:
        first, last = (random.Random(f"{self.config['x']} {half}").random() for half in (1, 2))
        result = super().step()
        return result | {"loss": first + (last - first) * max(2 * self.t / STEPS - 1, 0)}


def half(trainable: Any) -> Any:
    """With half a CPU each, so that the four CPUs of the tests run eight."""
    return tune.with_resources(trainable, {"cpu": 0.5})
