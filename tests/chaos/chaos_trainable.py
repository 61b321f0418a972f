"""A trainable that writes down every step it trains, and that some configurations make misbehave."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from ray import tune

MAX_T = 8


def trouble_of(config: dict[str, Any]) -> str:
    """What a configuration suffers from: the same each time it is trained."""
    chance = random.Random(repr(config["x"]))
    return chance.choice(config["troubles"]) if chance.random() < config["troubled"] else "none"


def loss(x: float, t: int) -> float:
    """A bowl that sinks as 1/t."""
    return (x - 0.3) ** 2 + 0.5 / t


class Chaotic(tune.Trainable):
    """A bowl in `x` whose loss falls as 1/t. Each trained step is a line `trial t pid` of the file `steps`."""

    def setup(self, config: dict[str, Any]) -> None:
        self.t = 0
        self.trouble = trouble_of(config)
        if config.get("resume_from"):
            self.load_checkpoint(config["resume_from"])

    def step(self) -> dict[str, Any]:
        time.sleep(self.config["pace"])
        if self.t == self.config["trouble_after"]:
            self._trouble()
        self.t += 1
        line = f"{self.trial_id} {self.t} {os.getpid()}\n".encode()
        steps = os.open(Path(self.config["folder"], "steps"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(steps, line)  # one call: whole lines, whoever else writes and whenever we are killed
        os.close(steps)
        value = loss(self.config["x"], self.t)
        if self.trouble == "nan" and self.t > self.config["trouble_after"]:
            self._happened()
            value = float("nan")
        return {"loss": value, "step": self.t, "done": self.t >= MAX_T}

    def _trouble(self) -> None:
        if self.trouble.endswith("once"):
            marker = Path(self.config["folder"], f"{self.trouble} {self.config['x']!r}")
            if marker.exists():
                return
            marker.touch()
        if self.trouble not in ("none", "nan"):
            self._happened()
        if self.trouble.startswith("crash"):
            raise RuntimeError("the trainable fails on purpose")
        if self.trouble == "die once":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "back once":
            self.t = 0
        if self.trouble == "hang":
            time.sleep(3600)

    def _happened(self) -> None:
        Path(self.config["folder"], f"happened {self.trouble}").touch()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "t.json").write_text(json.dumps(self.t))

    def load_checkpoint(self, checkpoint: str) -> None:
        self.t = json.loads(Path(checkpoint, "t.json").read_text())
