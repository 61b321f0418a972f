"""Mixture: weights of named domains, a point on the (bounded) probability simplex; and the projection on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs_ray.space.base import Array, SpaceError, number

_SUM_TOLERANCE = 1e-9
_TRACE = 1e-3  # below this a suggested weight is 0


@dataclass(frozen=True)
class Mixture:
    """Weights >= 0 over `names` that sum to 1; `min`/`max`: one number, or a mapping from name to number.

    Random weights follow a symmetric Dirichlet of the given `concentration` (1: uniform on the simplex).
    """

    names: Sequence[str]
    min: float | Mapping[str, float] | None = field(default=None, kw_only=True)
    max: float | Mapping[str, float] | None = field(default=None, kw_only=True)
    concentration: float = field(default=1.0, kw_only=True)
    when: Mapping[str, Any] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        for name in ("min", "max"):  # the caller's may change
            if isinstance(bounds := getattr(self, name), Mapping):
                object.__setattr__(self, name, dict(bounds))

    @property
    def width(self) -> int:
        return len(self.names)

    @property
    def lower(self) -> Array:
        """`(width,)` smallest weights."""
        return self._bounds(self.min, 0.0)

    @property
    def upper(self) -> Array:
        """`(width,)` largest weights."""
        return self._bounds(self.max, 1.0)

    @property
    def fixed(self) -> Array | None:
        """`(width,)` the only weights there are, where the bounds leave no choice."""
        return _only(self.lower, self.upper)

    def check(self) -> None:
        if not self.names:
            raise SpaceError("is a mixture of no domains; name at least one")
        if not all(isinstance(name, str) for name in self.names) or len(set(self.names)) < len(self.names):
            raise SpaceError(f"needs distinct strings as domain names, not {list(self.names)!r}")
        for bounds in (self.min, self.max):
            unknown = set(bounds) - set(self.names) if isinstance(bounds, Mapping) else set()
            if unknown:
                raise SpaceError(f"bounds the unknown domains {sorted(unknown)!r} of {list(self.names)!r}")
        try:
            lower, upper = self.lower, self.upper
        except (TypeError, ValueError):
            raise SpaceError(
                f"has min {self.min!r}, max {self.max!r}; expected numbers, or mappings from domain to number"
            ) from None
        if not (np.all(lower >= 0.0) and np.all(lower <= upper) and np.all(upper <= 1.0)):
            raise SpaceError(f"needs 0 <= min <= max <= 1, not min {lower.tolist()}, max {upper.tolist()}")
        if lower.sum() > 1.0 + _SUM_TOLERANCE or upper.sum() < 1.0 - _SUM_TOLERANCE:
            raise SpaceError(
                f"has no valid weights: min sums to {lower.sum():g} (expected <= 1), "
                f"max to {upper.sum():g} (expected >= 1)"
            )
        if not (math.isfinite(self.concentration) and self.concentration > 0.0):
            raise SpaceError(f"has concentration {self.concentration!r}; expected a positive number")

    def encode(self, value: Any) -> list[float]:
        if not isinstance(value, Mapping) or set(value) != set(self.names):
            raise SpaceError(f"is {value!r}; expected a weight for each of {list(self.names)!r}")
        weights = np.array([number(value[name], 0.0, 1.0 + _SUM_TOLERANCE) for name in self.names])
        if abs(weights.sum() - 1.0) > 1e-6:
            raise SpaceError(f"has weights that sum to {weights.sum():.9g}; expected 1")
        if np.any(weights < self.lower - 1e-6) or np.any(weights > self.upper + 1e-6):
            raise SpaceError(f"has weights {weights.tolist()} outside its min or max")
        projected: list[float] = self.snap(weights[None])[0].tolist()
        return projected

    def decode(self, x: Array) -> dict[str, float]:
        return {name: float(w) for name, w in zip(self.names, self.snap(x[None])[0], strict=True)}

    def snap(self, x: Array) -> Array:
        """Euclidean projection on `{lower <= w <= upper, sum w = 1}`; points already there stay bit for bit."""
        lower, upper = self.lower, self.upper
        if (only := _only(lower, upper)) is not None:  # to the last bit: else one configuration is many points
            return np.repeat(only[None], len(x), axis=0)
        valid = np.all((x >= lower) & (x <= upper), axis=1) & (np.abs(x.sum(axis=1) - 1.0) <= 1e-12)
        result = x.copy()
        if not valid.all():  # a projection takes a millisecond, and most points of a search are there already
            result[~valid] = project_to_simplex(x[~valid], lower, upper)
        return result

    def without_traces(self, x: Array) -> Array:
        """Weights `n x width`, those below a thousandth 0 where they may be: a domain that trains nothing is noise to
        read and a file to open. The rest is scaled up; a row is as it was where that breaks a bound."""
        traces = (x > 0.0) & (x < _TRACE) & (self.lower <= 0.0)
        kept = np.where(traces, 0.0, x)
        total = kept.sum(axis=1, keepdims=True)
        kept = kept / np.where(total > 0.0, total, 1.0)
        usable = traces.any(axis=1) & (total[:, 0] > 0.0) & np.all(kept <= self.upper, axis=1)
        return np.where(usable[:, None], kept, x)

    def features(self, x: Array) -> Array:
        """`sqrt(w)`: Euclidean distance becomes the Hellinger distance, which tells 0 from 0.02 (as data does).

        DESIGN section 3: on the emulator the encoding mattered as much as the fidelity.
        """
        return np.sqrt(np.maximum(x, 0.0))

    def _bounds(self, bounds: float | Mapping[str, float] | None, default: float) -> Array:
        if isinstance(bounds, Mapping):
            return np.array([float(bounds.get(name, default)) for name in self.names])
        return np.full(len(self.names), default if bounds is None else float(bounds))


def _only(lower: Array, upper: Array) -> Array | None:
    """The one point of the bounded simplex `(width,)`, if there is no other."""
    low = np.maximum(lower, 1.0 - (upper.sum() - upper))  # what the others leave at least, and at most
    high = np.minimum(upper, 1.0 - (lower.sum() - lower))
    if np.any(high - low > _SUM_TOLERANCE):
        return None
    for bound in (lower, upper, low):
        if abs(bound.sum() - 1.0) <= 1e-12:
            return bound
    return np.asarray(project_to_simplex(low[None], lower, upper)[0])


def project_to_simplex(x: Array, lower: Array, upper: Array) -> Array:
    """Row-wise Euclidean projection of `x` (`n x k`) on the bounded simplex, by bisection on the shift."""
    low = (lower - x).min(axis=1, keepdims=True)
    high = (upper - x).max(axis=1, keepdims=True)
    for _ in range(60):  # 2^-60 of the first bracket: below double precision
        middle = (low + high) / 2.0
        too_big = np.clip(x + middle, lower, upper).sum(axis=1, keepdims=True) > 1.0
        low, high = np.where(too_big, low, middle), np.where(too_big, middle, high)
    return np.asarray(np.clip(x + (low + high) / 2.0, lower, upper))
