"""The four kinds of parameter and their columns in `[0, 1]^d`.

    notation   meaning                                     shape
    x          one parameter's block of columns            n x width
    value      what the user's trainable receives          Python scalar, or {domain: weight} for a Mixture
    feature    what the Gaussian processes see of a block  n x num_features

A block of an Integer or a Categorical holds bin centres, so that uniform columns give every value its due
probability; a Mixture's block holds the weights themselves, so that the simplex stays a *linear* constraint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Scalar: TypeAlias = str | int | float | bool | None

_DIGITS = 12  # significant digits of a decoded real: far above float noise, so decode(encode(v)) == v exactly
_SUM_TOLERANCE = 1e-9


class SpaceError(ValueError):
    """A search space or a configuration that cannot be used; the message names the parameter."""


@dataclass(frozen=True)
class Real:
    """A real in `[lower, upper]`, uniform in the value or (`log=True`) in its logarithm.

    `when={"path/to/categorical": value_or_tuple}` makes the parameter exist only for those values.
    """

    lower: float
    upper: float
    log: bool = field(default=False, kw_only=True)
    when: Mapping[str, Any] | None = field(default=None, kw_only=True)
    width = 1

    def check(self) -> None:
        _check_bounds(self.lower, self.upper, self.log)

    def encode(self, value: Any) -> list[float]:
        value = _number(value, self.lower, self.upper)
        low, high = self._range()
        return [min(max(((math.log(value) if self.log else value) - low) / (high - low), 0.0), 1.0)]

    def decode(self, x: Array) -> float:
        if not 0.0 < x[0] < 1.0:  # the bounds themselves, to the last bit
            return float(self.upper if x[0] >= 1.0 else self.lower)
        low, high = self._range()
        value = low + float(x[0]) * (high - low)
        if self.log:
            value = math.exp(value)
            scale = value
        else:
            scale = max(abs(self.lower), abs(self.upper))
        rounded = round(value, _DIGITS - 1 - math.floor(math.log10(scale)))
        return float(min(max(rounded, self.lower), self.upper))

    def snap(self, x: Array) -> Array:
        return np.clip(x, 0.0, 1.0)

    def features(self, x: Array) -> Array:
        return x

    def _range(self) -> tuple[float, float]:
        return (math.log(self.lower), math.log(self.upper)) if self.log else (self.lower, self.upper)


@dataclass(frozen=True)
class Integer:
    """An integer in `[lower, upper]`, both inclusive, uniform or (`log=True`) log-uniform."""

    lower: int
    upper: int
    log: bool = field(default=False, kw_only=True)
    when: Mapping[str, Any] | None = field(default=None, kw_only=True)
    width = 1

    def check(self) -> None:
        _check_bounds(self.lower, self.upper, self.log)
        if self.lower != int(self.lower) or self.upper != int(self.upper):
            raise SpaceError(f"has bounds {self.lower!r} and {self.upper!r}; an Integer needs whole numbers")

    def encode(self, value: Any) -> list[float]:
        value = _number(value, self.lower, self.upper)
        if value != int(value):
            raise SpaceError(f"is {value!r}; expected a whole number")
        low, high = self._range()
        return [((math.log(value) if self.log else value) - low) / (high - low)]

    def decode(self, x: Array) -> int:
        return int(self._values(x)[0])

    def snap(self, x: Array) -> Array:
        low, high = self._range()
        values = self._values(x)
        return ((np.log(values) if self.log else values) - low) / (high - low)

    def features(self, x: Array) -> Array:
        return x

    def _range(self) -> tuple[float, float]:
        low, high = self.lower - 0.5, self.upper + 0.5
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def _values(self, x: Array) -> Array:
        low, high = self._range()
        values = low + x * (high - low)
        return np.clip(np.rint(np.exp(values) if self.log else values), self.lower, self.upper)


@dataclass(frozen=True)
class Categorical:
    """One of `choices` (distinct JSON scalars; `True` and `1` are distinct), unordered."""

    choices: Sequence[Scalar]
    when: Mapping[str, Any] | None = field(default=None, kw_only=True)
    width = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))

    def check(self) -> None:
        if not self.choices:
            raise SpaceError("has no choices; a Categorical needs at least one")
        for choice in self.choices:
            if not isinstance(choice, str | int | float | bool | None):
                raise SpaceError(f"has the choice {choice!r}; expected a string, number, bool or None")
        if len({(type(c), c) for c in self.choices}) < len(self.choices):
            raise SpaceError(f"has duplicate choices {list(self.choices)!r}")

    def index(self, value: Any) -> int:
        for i, choice in enumerate(self.choices):
            if type(choice) is type(value) and choice == value:
                return i
        for i, choice in enumerate(self.choices):  # 1 for 1.0, numpy scalars
            if choice == value and not isinstance(value, bool) and not isinstance(choice, bool):
                return i
        raise SpaceError(f"is {value!r}; expected one of {list(self.choices)!r}")

    def encode(self, value: Any) -> list[float]:
        return [(self.index(value) + 0.5) / len(self.choices)]

    def decode(self, x: Array) -> Scalar:
        return self.choices[int(self._indices(x)[0])]

    def snap(self, x: Array) -> Array:
        return (self._indices(x) + 0.5) / len(self.choices)

    def features(self, x: Array) -> Array:
        """One-hot over sqrt(2): any two different choices are at distance 1."""
        return np.asarray(np.eye(len(self.choices))[self._indices(x)[:, 0]] / math.sqrt(2.0))

    def _indices(self, x: Array) -> NDArray[np.int64]:
        count = len(self.choices)
        return np.clip(np.floor(x * count), 0, count - 1).astype(np.int64)


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

    def check(self) -> None:
        if not self.names:
            raise SpaceError("is a mixture of no domains; name at least one")
        if not all(isinstance(name, str) for name in self.names) or len(set(self.names)) < len(self.names):
            raise SpaceError(f"needs distinct strings as domain names, not {list(self.names)!r}")
        for bounds in (self.min, self.max):
            unknown = set(bounds) - set(self.names) if isinstance(bounds, Mapping) else set()
            if unknown:
                raise SpaceError(f"bounds the unknown domains {sorted(unknown)!r} of {list(self.names)!r}")
        lower, upper = self.lower, self.upper
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
        weights = np.array([_number(value[name], 0.0, 1.0 + _SUM_TOLERANCE) for name in self.names])
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
        valid = np.all((x >= lower) & (x <= upper), axis=1) & (np.abs(x.sum(axis=1) - 1.0) <= 1e-12)
        return np.where(valid[:, None], x, project_to_simplex(x, lower, upper))

    def features(self, x: Array) -> Array:
        """`sqrt(w)`: Euclidean distance becomes the Hellinger distance, which tells 0 from 0.02 (as data does).

        DESIGN section 3: on the emulator the encoding mattered as much as the fidelity.
        """
        return np.sqrt(np.maximum(x, 0.0))

    def _bounds(self, bounds: float | Mapping[str, float] | None, default: float) -> Array:
        if isinstance(bounds, Mapping):
            return np.array([float(bounds.get(name, default)) for name in self.names])
        return np.full(len(self.names), default if bounds is None else float(bounds))


Parameter: TypeAlias = Real | Integer | Categorical | Mixture


def project_to_simplex(x: Array, lower: Array, upper: Array) -> Array:
    """Row-wise Euclidean projection of `x` (`n x k`) on the bounded simplex, by bisection on the shift."""
    low = (lower - x).min(axis=1, keepdims=True)
    high = (upper - x).max(axis=1, keepdims=True)
    for _ in range(60):  # 2^-60 of the first bracket: below double precision
        middle = (low + high) / 2.0
        too_big = np.clip(x + middle, lower, upper).sum(axis=1, keepdims=True) > 1.0
        low, high = np.where(too_big, low, middle), np.where(too_big, middle, high)
    return np.asarray(np.clip(x + (low + high) / 2.0, lower, upper))


def _check_bounds(lower: float, upper: float, log: bool) -> None:
    if not all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in (lower, upper)):
        raise SpaceError(f"has lower {lower!r} and upper {upper!r}; expected numbers")
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper and math.isfinite(upper - lower)):
        raise SpaceError(f"has lower {lower!r} and upper {upper!r}; expected finite numbers, lower < upper")
    if log and lower <= 0:
        raise SpaceError(f"has lower {lower!r} on a log scale; expected a positive number")


def _number(value: Any, lower: float, upper: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SpaceError(f"is {value!r}; expected a number in [{lower}, {upper}]") from None
    if not lower <= number <= upper:
        raise SpaceError(f"is {value!r}; expected a number in [{lower}, {upper}]")
    return number
