"""What is added up over trials."""

from __future__ import annotations

import math
from typing import NamedTuple

from jobs_ray.trials.trials import Trial


class Total(NamedTuple):
    """A sum of finite floats that numbers are added to and taken off again for ever, exact to the last bit.

    A plain running sum keeps the rounding errors of all that has passed through it, and depends on the order. Shewchuk
    1997, "Adaptive Precision Floating-Point Arithmetic": the errors are kept as further, smaller numbers, as in
    `math.fsum`. (Whole steps make none.) `parts` add up to it.
    """

    parts: tuple[float, ...] = ()

    @property
    def value(self) -> float:
        """Rounded once."""
        return math.fsum(self.parts)

    def plus(self, number: float) -> Total:
        """With `number` more."""
        rest = []
        for part in self.parts:
            large, small = (number, part) if abs(number) >= abs(part) else (part, number)
            number = large + small
            if lost := small - (number - large):
                rest.append(lost)
        return Total((*rest, number))


class CostSums(NamedTuple):
    """Sums over trials: their costs, the steps of those that reported none, and the costs a step of the others."""

    cost: float = 0.0
    unread_steps: float = 0.0
    rates: float = 0.0
    rated: int = 0

    def add(self, trial: Trial) -> CostSums:
        rate = trial.rate
        unread = trial.steps if rate is None else 0.0
        known = rate is not None
        return CostSums(self.cost + trial.meter.cost, self.unread_steps + unread, self.rates + (rate or 0.0),
                     self.rated + known)  # fmt: skip

    def less(self, other: CostSums) -> CostSums:
        return CostSums(self.cost - other.cost, self.unread_steps - other.unread_steps, self.rates - other.rates,
                     self.rated - other.rated)  # fmt: skip

    @property
    def rate(self) -> float | None:
        """Mean cost a step over the trials that reported any, each counting once; None before the first one."""
        return self.rates / self.rated if self.rated else None

    @property
    def spent(self) -> float:
        """With the steps that nothing was reported of at the mean rate, so that nobody trains for nothing."""
        return self.cost + self.unread_steps * (self.rate or 0.0)
