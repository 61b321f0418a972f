"""From a Ray result dict to one reading `(t, value)`: whatever a trial reports, nothing here raises.

An exception in `on_trial_result` would abort the whole experiment (DESIGN 5.3), so what cannot be used is said
once, in one line, and becomes a missing reading.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from jobs_ray.tune.pulse import mark_of

logger = logging.getLogger(__name__)

TRAINING_ITERATION = "training_iteration"
TRAIN_CHECKPOINT_KEY = "checkpoint_path"  # ray.tune.integration.ray_train.CHECKPOINT_PATH_KEY

TIMELESS = 25
"""Results without a usable time after which a trial that had none with it is stopped: the first few may be of warming
up, but nothing can be learned from it, and nothing it trains can be charged."""

_COUNTERS = {TRAINING_ITERATION, "time_total_s", "time_since_restore", "iterations_since_restore", "timesteps_total"}
"""Ray's own counters of a trial, which start again in a new one."""

Reading: TypeAlias = tuple[float, float | None]
"""Absolute time of a report, and its value."""

_RAYS = {
    *("trial_id", "experiment_tag", "date", "timestamp", "done", "pid", "hostname", "node_ip", "timesteps_total"),
    *("time_this_iter_s", "time_total_s", "time_since_restore", "iterations_since_restore", "should_checkpoint"),
    *("checkpoint_dir_name", "episodes_total", "timesteps_since_restore", "experiment_id", "warmup_time"),
}


@dataclass
class Resume:
    """How a promoted trial counts its time and its cost. `start`: t of the checkpoint that it was given; `cost`: what
    the short run had cost there.

    Ray's own counter starts at 1 again, unless the trainable restored it: its first report tells which. So does that
    of a cost: whether it is nearer to what the steps since the checkpoint should cost, or to that and `cost`.
    """

    start: float
    relative: bool | None = None
    cost: float = 0.0
    cost_goes_on: bool | None = None

    def absolute(self, t: float) -> float:
        if self.relative is None:
            self.relative = t <= self.start
        return t + self.start if self.relative else t

    def own_cost(self, t: float, reading: float) -> float:
        """Without what the short run had cost. `t`: absolute."""
        if self.cost_goes_on is None:
            expected = self.cost * (t - self.start) / self.start if self.start > 0 else 0.0
            self.cost_goes_on = reading >= self.cost and reading > expected + self.cost / 2.0
        return reading - self.cost if self.cost_goes_on else reading


@dataclass
class Reader:
    """Reads `metric` and `cost_attr` at `time_attr`, with the resumed trials' offsets. `said`: complaints made."""

    metric: str
    time_attr: str
    cost_attr: str | None = None
    resumes: dict[str, Resume] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    complaints: dict[str, str] = field(default_factory=dict)
    _timeless: dict[str, int] = field(default_factory=dict)
    _marks: dict[str, Any] = field(default_factory=dict)  # of the last result counted: each comes several times

    def timeless(self, trial_id: str) -> int:
        """How many results in a row, from its first one on, had no usable time."""
        return max(self._timeless.get(trial_id, 0), 0)

    def complaint(self, trial_id: str) -> str | None:
        """What was wrong with the last result of a trial, which has ended; None if it was usable."""
        self._timeless.pop(trial_id, None)
        self._marks.pop(trial_id, None)
        return self.complaints.pop(trial_id, None)

    def time(self, trial_id: str, result: Mapping[str, Any]) -> float | None:
        """The absolute t of a result; None (and one line in the log) when it has none."""
        raw = as_number(result.get(self.time_attr))
        if raw is None or not math.isfinite(raw) or raw <= 0:
            mark = mark_of(result)
            if mark is None or mark != self._marks.get(trial_id):
                self._marks[trial_id] = mark
                self._timeless[trial_id] = self._timeless.get(trial_id, 0) + 1
            got = _got(result[self.time_attr]) if self.time_attr in result else f"only {_keys(result)}"
            self._complain(
                "time",
                trial_id,
                f"reported no usable {self.time_attr!r} (got {got}); "
                f"such results are ignored: report a positive number under {self.time_attr!r}, "
                "or set time_attr of JoBSSearcher to what you report",
            )
            return None
        self._timeless[trial_id] = -(2**31)
        resume = self.resumes.get(trial_id)
        # any other attribute is the user's own count, which goes on where the checkpoint left off
        if resume is None or self.time_attr not in _COUNTERS:
            return raw
        return resume.absolute(raw)

    def value(self, trial_id: str, result: Mapping[str, Any]) -> float | None:
        """The metric as a float; NaN and infinities as they are; None if missing or not a number."""
        if self.metric not in result:
            self._complain(
                "missing",
                trial_id,
                f"reported no {self.metric!r}, only {_keys(result)}; it counts as a failed report: report what was "
                "evaluated only (a class: train up to the next evaluation in each step)",
            )
            return None
        value = as_number(result[self.metric])
        if value is None:
            self._complain(
                "value",
                trial_id,
                f"reported {self.metric!r}, which is not a number (got {_got(result[self.metric])}); "
                "it counts as a failed report",
            )
        else:
            self.complaints.pop(trial_id, None)
        return value

    def cost(self, trial_id: str, t: float, result: Mapping[str, Any]) -> float | None:
        """What the trial has cost by itself, up to its report at `t`; None (and one line in the log) if not said."""
        name = self.cost_attr
        if name is None:
            return None
        cost = as_number(result.get(name))
        if cost is None or not math.isfinite(cost) or cost < 0:
            if "cost" not in self.said:
                self.said.add("cost")
                got = f"got {_got(result[name])}" if name in result else f"only {_keys(result)}"
                logger.warning(
                    "trial %s reported no usable %r (%s); such steps are charged what others cost, and while no trial "
                    "reports it, eight short runs are all that is started: report a number that grows while a trial "
                    "trains, or set cost_attr of JoBSSearcher to what you report, or to Ray's 'time_total_s'",
                    trial_id, name, got,
                )  # fmt: skip
            return None
        resume = self.resumes.get(trial_id)
        return cost if resume is None or name in _RAYS else resume.own_cost(t, cost)

    def checkpoint(self, trial_id: str, result: Mapping[str, Any]) -> tuple[str, float] | None:
        """Path and t of the checkpoint that Ray Train's TuneReportCallback put into the result, if any."""
        path = result.get(TRAIN_CHECKPOINT_KEY)
        if not isinstance(path, str):
            return None
        t = self.time(trial_id, result)
        return None if t is None else (path, t)

    def _complain(self, kind: str, trial_id: str, message: str) -> None:
        self.complaints[trial_id] = message
        if kind not in self.said:
            self.said.add(kind)
            logger.warning("trial %s %s", trial_id, message)


def _got(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__} {value!r}"


def _keys(result: Mapping[str, Any]) -> str:
    """The keys that a user may have meant: without what Ray and the callback add themselves."""
    ours = [key for key in result if key not in _RAYS and not str(key).startswith(("config/", "jobs/"))]
    return ", ".join(repr(key) for key in sorted(map(str, ours))) or "what Ray adds itself"


def as_number(value: Any) -> float | None:
    """`float(value)` for numbers, numpy scalars, and arrays and tensors of one element; None for anything else."""
    try:
        if callable(getattr(value, "item", None)):
            value = value.item()  # `float` of an array is deprecated; and what a numpy bool is
        if value is None or isinstance(value, bool | str | bytes):
            return None
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # RuntimeError: a tensor of several elements
        return None
