"""LearningCurve: what one trial has reported, as increasing `(t, value)` pairs. Values are *maximised* throughout."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property


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

    @cached_property
    def last_t(self) -> float:
        """Largest time reported, failed reports included; 0 for an empty curve."""
        return max((*self.t[-1:], *self.failed_at[-1:]), default=0.0)

    @cached_property
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
