"""From a Ray result dict to one reading `(t, value)`: whatever a trial reports, nothing here raises.

An exception in `on_trial_result` would abort the whole experiment (DESIGN 5.3), so what cannot be used is said
once, in one line, and becomes a missing reading.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

TRAINING_ITERATION = "training_iteration"
TRAIN_CHECKPOINT_KEY = "checkpoint_path"  # ray.tune.integration.ray_train.CHECKPOINT_PATH_KEY


@dataclass
class Resume:
    """How a promoted trial counts its time. `start`: t of the checkpoint that it was given.

    Ray's own counter starts at 1 again, unless the trainable restored it: its first report tells which.
    """

    start: float
    relative: bool | None = None

    def absolute(self, t: float) -> float:
        if self.relative is None:
            self.relative = t <= self.start
        return t + self.start if self.relative else t


@dataclass
class Reader:
    """Reads `metric` at `time_attr`; adds the resumed trials' offsets. `said`: what was complained of already."""

    metric: str
    time_attr: str
    resumes: dict[str, Resume] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def time(self, trial_id: str, result: Mapping[str, Any]) -> float | None:
        """The absolute t of a result; None (and one line in the log) when it has none."""
        raw = as_number(result.get(self.time_attr))
        if raw is None or not math.isfinite(raw) or raw <= 0:
            self._say(
                "time",
                f"trial {trial_id} reported no usable {self.time_attr!r} (got {result.get(self.time_attr)!r}); "
                f"such results are ignored: report a positive number under {self.time_attr!r}, "
                "or set time_attr of JoBSSearcher to what you report",
            )
            return None
        resume = self.resumes.get(trial_id)
        # any other attribute is the user's own count, which goes on where the checkpoint left off
        if resume is None or self.time_attr != TRAINING_ITERATION:
            return raw
        return resume.absolute(raw)

    def value(self, trial_id: str, result: Mapping[str, Any]) -> float | None:
        """The metric as a float; NaN and infinities as they are; None if missing or not a number."""
        if self.metric not in result:
            self._say("missing", f"trial {trial_id} reported no {self.metric!r}; it counts as a failed report")
            return None
        value = as_number(result[self.metric])
        if value is None:
            self._say(
                "value",
                f"trial {trial_id} reported {self.metric!r} = {result[self.metric]!r}, which is not a number; "
                "it counts as a failed report",
            )
        return value

    def checkpoint(self, trial_id: str, result: Mapping[str, Any]) -> tuple[str, float] | None:
        """Path and t of the checkpoint that Ray Train's TuneReportCallback put into the result, if any."""
        path = result.get(TRAIN_CHECKPOINT_KEY)
        if not isinstance(path, str):
            return None
        t = self.time(trial_id, result)
        return None if t is None else (path, t)

    def _say(self, kind: str, message: str) -> None:
        if kind not in self.said:
            self.said.add(kind)
            logger.warning(message)


def as_number(value: Any) -> float | None:
    """`float(value)` for numbers, numpy scalars and one-element tensors; None for anything else."""
    if value is None or isinstance(value, bool | str | bytes):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # RuntimeError: a tensor of several elements
        return None
