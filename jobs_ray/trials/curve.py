"""LearningCurve: what one trial has reported, as increasing `(t, value)` pairs. Values are *maximised* throughout.

A curve of more than `MAX_REPORTS` is thinned as it grows: of all but the newest quarter 16 reports are kept for each
doubling of t, since a curve bends in log t. A report then costs the same after 100,000 as after 500, and the state
stays small. Models and the report see the thinned curve; what a trial is charged for is counted from its times as they
come (`Trial.report`), not from what is left of them.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

MAX_REPORTS = 512
_AN_OCTAVE = 16  # reports kept


@dataclass(frozen=True)
class LearningCurve:
    """Increasing `(t, value)` pairs, and the times `failed_at` whose value was NaN, infinite or missing.

    thinned: there were more. (No `cached_property`: it gives each curve a dict, one object more for the garbage
    collector, whose whole collections hold Ray's loop up at ten thousand trials.)
    """

    t: tuple[float, ...] = ()
    value: tuple[float, ...] = ()
    failed_at: tuple[float, ...] = ()
    thinned: bool = False

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
        last = self.t[-1] if self.t else 0.0
        return max(last, self.failed_at[-1]) if self.failed_at else last

    @property
    def ends_failed(self) -> bool:
        return bool(self.failed_at) and self.failed_at[-1] == self.last_t

    def add(self, t: float, value: float | None) -> LearningCurve:
        """The curve with the report at `t` (None: a failed observation); what was reported after `t` is dropped."""
        kept, failed = bisect_left(self.t, t), bisect_left(self.failed_at, t)
        times, values, failures = self.t[:kept], self.value[:kept], self.failed_at[:failed]
        if value is None:
            return LearningCurve(times, values, (*failures, t), self.thinned)
        return LearningCurve((*times, t), (*values, value), failures, self.thinned)._thinned()

    def _thinned(self) -> LearningCurve:
        if len(self.t) <= MAX_REPORTS:
            return self
        newest, first, kept, last = len(self.t) - MAX_REPORTS // 4, self.t[0], [], -1
        for i, t in enumerate(self.t):
            cell = math.floor(_AN_OCTAVE * math.log2(t / first))
            if cell > last or i >= newest:
                kept.append(i)
                last = cell
        return LearningCurve(tuple(self.t[i] for i in kept), tuple(self.value[i] for i in kept), self.failed_at, True)

    def up_to(self, t: float) -> LearningCurve:
        """The prefix of the curve with times <= `t`; the curve itself where that is all of it."""
        kept, failed = bisect_right(self.t, t), bisect_right(self.failed_at, t)
        if kept == len(self.t) and failed == len(self.failed_at):
            return self
        return LearningCurve(self.t[:kept], self.value[:kept], self.failed_at[:failed], self.thinned)

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
