"""Which observations a model learns from, and how far an outlier may lie. `z`: `(n,)`, maximised, as asked."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from jobs_ray.space import Array

MAX_POINTS = 192  # above, the best half and the newest are kept: one `ask` costs the same at 500 trials and at 5,000
_GRID, _EVERY_ONE = 1.15, 8
_WINSOR = 3.0
_DIVERGED = 15.0  # median deviations: ten standard deviations
_FIRST = 8  # points that are space-filling at least


def winsorised(z: Array) -> Array:
    """Diverged runs of `(n,)` in the order asked pulled in: far below the median says "bad" and no more than that.

    The median of the first points, which fill the space: that of all moves up to the best as the search closes in, and
    then every value but the best looked alike, the unknown too, and the search never left its first good region.
    """
    if len(z) <= 2:
        return z
    middle = min(float(np.median(z)), float(np.median(z[: max(_FIRST, len(z) // 4)])))
    return np.maximum(z, middle - _WINSOR * max(float(np.max(z)) - middle, 1e-12))


def undiverged(gain: Array, least: int) -> NDArray[np.int64]:
    """The full runs to learn from, by their gains `(n,)` from the first report to the last: not those that lost and are
    far from what others gained, while most, and at least `least`, are left. One that diverged says nothing of how
    others go on; of ten runs it made the error for the others 700 times what it is. Those that overfit stay: the error
    was .15 for .03 without them where a third of the runs do.
    """
    if len(gain) == 0:
        return np.arange(0)
    middle = np.median(gain)
    kept = np.flatnonzero(gain >= min(middle - _DIVERGED * np.median(np.abs(gain - middle)), 0.0))
    return kept if len(kept) >= max(len(gain) // 2 + 1, least) else np.arange(len(gain))


def informative(z: Array) -> NDArray[np.int64]:
    """The rows of `(n,)` in the order asked that are worth their cost: the best and the newest, `MAX_POINTS` in all."""
    if len(z) <= MAX_POINTS:
        return np.arange(len(z))
    best = np.argsort(-z, kind="stable")[: MAX_POINTS // 2]
    rest = np.setdiff1d(np.arange(len(z)), best)
    return np.sort(np.concatenate([best, rest[-(MAX_POINTS - len(best)) :]]))


def on_grid(n: int) -> int:
    """How many of `n` observations to fit to: all up to 8, then as many as there were when 15 % more had come.

    One more observation then seldom means a fit, deterministically: half of the fits are saved, at no loss in regret.
    """
    m = min(n, _EVERY_ONE)
    while m and math.ceil(_GRID * m) <= n:
        m = math.ceil(_GRID * m)
    return m
