"""Frozen records of what was asked and observed: LearningCurve, Trial. Values are *maximised* throughout.

Reports are idempotent by `(trial, t)`, the last one wins, because Ray delivers a report through the scheduler and
again through the searcher. A report that goes back in `t` comes from a restarted trial: it replaces the tail of the
curve, and the steps of that tail are charged a second time, since they were trained a second time.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """LEARN: learn the predictor. SEARCH: short, predicted runs. CONFIRM: full runs of the most promising."""

    LEARN = "learn"
    SEARCH = "search"
    CONFIRM = "confirm"


class TrialStatus(StrEnum):
    RUNNING = "running"  # asked for and not yet told
    STOPPED = "stopped"  # ended before max_t: a short run
    COMPLETED = "completed"  # trained to max_t (or to its own end where there is no max_t)
    FAILED = "failed"  # told with error=True, or ended on a failed observation


@dataclass(frozen=True)
class LearningCurve:
    """Increasing `(t, value)` pairs, and the times `failed_at` whose value was NaN, infinite or missing."""

    t: tuple[float, ...] = ()
    value: tuple[float, ...] = ()
    failed_at: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.t) != len(self.value):
            raise ValueError(f"a curve needs as many values as times, not {len(self.value)} and {len(self.t)}")
        if not all(math.isfinite(number) for number in (*self.t, *self.value)):
            raise ValueError("a curve holds finite numbers only; put the time of a failed report in failed_at")
        for times in (self.t, self.failed_at):
            if any(a >= b for a, b in itertools.pairwise(times)):
                raise ValueError(f"the times of a curve must increase, got {times}")

    @property
    def last_t(self) -> float:
        """Largest time reported, failed reports included; 0 for an empty curve."""
        return max((*self.t[-1:], *self.failed_at[-1:]), default=0.0)

    @property
    def ends_failed(self) -> bool:
        return bool(self.failed_at) and self.failed_at[-1] == self.last_t

    def add(self, t: float, value: float | None) -> LearningCurve:
        """The curve with the report at `t` (None: a failed observation); what was reported after `t` is dropped."""
        kept, failed = bisect_left(self.t, t), bisect_left(self.failed_at, t)
        times, values, failures = self.t[:kept], self.value[:kept], self.failed_at[:failed]
        if value is None:
            return LearningCurve(times, values, (*failures, t))
        return LearningCurve((*times, t), (*values, value), failures)

    def up_to(self, t: float) -> LearningCurve:
        """The prefix of the curve with times <= `t`."""
        kept, failed = bisect_right(self.t, t), bisect_right(self.failed_at, t)
        return LearningCurve(self.t[:kept], self.value[:kept], self.failed_at[:failed])

    def at(self, t: float) -> float:
        """Value at `t`, linear in log t between reports, constant outside. Raises ValueError when empty."""
        if not self.t:
            raise ValueError("an empty curve has no value; check `curve.t` first")
        right = bisect_left(self.t, t)
        if right == len(self.t):
            return self.value[-1]
        if right == 0 or self.t[right] == t:
            return self.value[right]
        low, high = self.t[right - 1], self.t[right]
        weight = math.log(t / low) / math.log(high / low) if low > 0 else (t - low) / (high - low)
        return self.value[right - 1] + weight * (self.value[right] - self.value[right - 1])


@dataclass(frozen=True)
class Trial:
    """One trial as the optimiser knows it.

    `grant`: the `t` it may train to (None: to its own end). `start`: the `t` it resumed from (0: from scratch).
    `wasted`: steps that were trained and lost to restarts. `charged=False`: given as an observation.
    """

    trial_id: str
    config: Mapping[str, Any]
    x: tuple[float, ...]
    phase: Phase
    grant: float | None
    status: TrialStatus = TrialStatus.RUNNING
    curve: LearningCurve = field(default_factory=LearningCurve)
    start: float = 0.0
    wasted: float = 0.0
    promotes: str | None = None
    charged: bool = True

    def __post_init__(self) -> None:
        if self.grant is not None and not self.grant > 0:
            raise ValueError(f"trial {self.trial_id!r} is granted {self.grant!r} steps; expected a positive number")
        if self.start < 0 or self.wasted < 0:
            raise ValueError(f"trial {self.trial_id!r} has a negative start or waste")

    @property
    def running(self) -> bool:
        return self.status is TrialStatus.RUNNING

    @property
    def completed(self) -> bool:
        return self.status is TrialStatus.COMPLETED

    @property
    def final(self) -> float | None:
        """The confirmed value: the last one of a completed trial."""
        return self.curve.value[-1] if self.completed and self.curve.value else None

    @property
    def steps(self) -> float:
        """Steps trained by this trial so far, in units of `t`."""
        return max(self.curve.last_t - self.start, 0.0) + self.wasted

    def report(self, t: float, value: float | None, source: LearningCurve | None = None) -> Trial:
        """The trial after a report at `t`; `source`: the curve of the short run it resumes, if it does."""
        start, curve, wasted = self.start, self.curve, self.wasted
        if source is not None and t <= start:  # the checkpoint was older than the short run's end
            start = source.t[bisect_left(source.t, t) - 1] if source.t and source.t[0] < t else 0.0
            wasted += max(curve.last_t - self.start, 0.0)
            curve = source.up_to(start)
        elif t < curve.last_t:
            before = [s for s in (*curve.t, *curve.failed_at) if s < t]
            wasted += curve.last_t - max([start, *before])
        return replace(self, curve=curve.add(t, value), start=start, wasted=wasted)
