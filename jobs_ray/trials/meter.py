"""Meter: what one trial has cost, from the readings of a counter that increases while it trains.

Idempotent by t, the last reading wins, as for the values of a curve. A counter may go back when a trial is started
anew: to nothing, or, if a checkpoint holds it, to what it read there. What it had counted until then stays charged. One
that goes on across a restart (a meter outside the trial) has counted everything already.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

MAX_READINGS = 128  # more are thinned: they only tell what the counter read where a restart went on from


@dataclass(frozen=True)
class Meter:
    """`(t, reading)` pairs, readings never falling; `base`: what this count began at; `paid`: by the counts before."""

    t: tuple[float, ...] = ()
    reading: tuple[float, ...] = ()
    base: float = 0.0
    paid: float = 0.0

    def __post_init__(self) -> None:
        if len(self.t) != len(self.reading) or not all(math.isfinite(number) for number in (*self.t, *self.reading)):
            raise ValueError("a meter needs as many readings as times, all of them finite")
        if not (self.base >= 0 and 0 <= self.paid < math.inf):
            raise ValueError(f"a meter counts up from 0, got base {self.base} and paid {self.paid}")

    @property
    def cost(self) -> float:
        """Of all that was trained so far, in units of the counter."""
        return self.paid + (self.reading[-1] - self.base if self.reading else 0.0)

    def at(self, t: float) -> float:
        """The last reading up to `t`; 0 before the first one."""
        return max((r for s, r in zip(self.t, self.reading, strict=True) if s <= t), default=0.0)

    def read(self, t: float, reading: float, *, restarted: bool = False) -> Meter:
        """The meter after `reading` at `t`. restarted: known to come from a new process, see `Trial.report`."""
        known = bisect_left(self.t, t)
        times, readings, base, paid = self.t[:known], self.reading[:known], self.base, self.paid
        before = readings[-1] if readings else 0.0
        anew = bool(self.t) and (restarted or t < self.t[-1])
        # started again: only a counter outside the trial has gone on, one inside has less to count
        if reading <= self.reading[-1] if anew else reading < before:
            paid = self.cost if anew else paid + before - base
            # a checkpoint held it: it is nearer to what it read here the last time than to that less what was before
            held = anew and known < len(self.t) and before <= reading
            restored = held and reading > self.reading[known] - before / 2.0
            times, readings, base = (times, readings, before) if restored else ((), (), 0.0)
        return Meter((*times, t), (*readings, reading), base, paid)._thinned()

    def _thinned(self) -> Meter:
        if len(self.t) <= MAX_READINGS:
            return self
        half = MAX_READINGS // 2
        t, reading = (all_[:half:2] + all_[half:] for all_ in (self.t, self.reading))
        return Meter(t, reading, self.base, self.paid)
