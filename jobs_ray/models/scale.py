"""The scale on which values are modelled: the logarithm of a positive loss, or the value itself.

Values are maximised inside the core, so a loss arrives as a negative number and its scale is `-log(-value)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

_FLOOR = 1e-6  # of the smallest loss: one of 0, as an error rate may be, lies that far below, and not endlessly


@dataclass(frozen=True)
class Scale:
    """`is_log`: z = -log(-value), for values that are all negative (losses); else z = value. `tiny`: the least loss."""

    is_log: bool
    tiny: float = 1e-12

    def forward(self, values: Array) -> Array:
        return -np.log(np.maximum(-values, self.tiny)) if self.is_log else np.asarray(values, dtype=float)

    def to_values(self, z: Array, stddev: Array) -> tuple[Array, Array]:
        """Back to values: the median, and the standard deviation by the delta method (`d value = -value dz`)."""
        if not self.is_log:
            return z, stddev
        values = -np.exp(-np.clip(z, -700.0, 700.0))
        return values, -values * stddev

    def from_values(self, mean: Array, stddev: Array) -> tuple[Array, Array]:
        """The inverse of `to_values`."""
        return (self.forward(mean), stddev / np.maximum(-mean, self.tiny)) if self.is_log else (mean, stddev)


def choose_scale(scale: str, values: Array) -> Scale:
    """ "log", "raw", or "auto": log when all `values` are negative, that is, when a positive loss is minimised."""
    if scale not in ("auto", "log", "raw"):
        raise ValueError(f"scale is {scale!r}; expected 'auto', 'log' or 'raw'")
    negative = bool(np.all(values < 0.0))
    if scale == "log" and not negative:
        raise ValueError("scale='log' needs losses that are all positive; use scale='raw'")
    is_log = negative if scale == "auto" else scale == "log"
    return Scale(is_log, _FLOOR * float(-values.max())) if is_log and len(values) else Scale(is_log)
