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

from jobs_ray.space.base import Array, SpaceError, is_scalar, number
from jobs_ray.space.mixture import Mixture

__all__ = ["Array", "Categorical", "Integer", "Mixture", "Parameter", "Real", "Scalar", "SpaceError"]

Scalar: TypeAlias = str | int | float | bool | None

_DIGITS = 12  # significant digits of a decoded real: far above float noise, so decode(encode(v)) == v exactly


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
        value = number(value, self.lower, self.upper)
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
        value = number(value, self.lower, self.upper)
        if value != int(value):
            raise SpaceError(f"is {value!r}; expected a whole number")
        low, high = self._range()
        return [((math.log(value) if self.log else value) - low) / (high - low)]

    def decode(self, x: Array) -> int:
        return int(min(max(int(self._values(x)[0]), self.lower), self.upper))

    def snap(self, x: Array) -> Array:
        low, high = self._range()
        values = self._values(x)
        return ((np.log(values) if self.log else values) - low) / (high - low)

    def features(self, x: Array) -> Array:
        return x

    def bins(self, x: Array) -> Array:
        """From each value to the next larger one; far enough the other way, too."""
        low, high = self._range()
        return (np.log1p(1.0 / self._values(x)) if self.log else np.ones_like(x)) / (high - low)

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
            if not is_scalar(choice):
                raise SpaceError(f"has the choice {choice!r}; expected a string, finite number, bool or None")
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
        # (to take rows of np.eye would let go of the interpreter, for which Ray's loop then waits)
        return np.asarray((self._indices(x) == np.arange(len(self.choices))) / math.sqrt(2.0))

    def _indices(self, x: Array) -> NDArray[np.int64]:
        count = len(self.choices)
        return np.clip(np.floor(x * count), 0, count - 1).astype(np.int64)


Parameter: TypeAlias = Real | Integer | Categorical | Mixture


def _check_bounds(lower: float, upper: float, log: bool) -> None:
    if not all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in (lower, upper)):
        raise SpaceError(f"has lower {lower!r} and upper {upper!r}; expected numbers")
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper and math.isfinite(upper - lower)):
        raise SpaceError(f"has lower {lower!r} and upper {upper!r}; expected finite numbers, lower < upper")
    if log and lower <= 0:
        raise SpaceError(f"has lower {lower!r} on a log scale; expected a positive number")
    if log and math.log(lower) == math.log(upper):
        raise SpaceError(f"has lower {lower!r} and upper {upper!r}, whose logarithms are the same; leave out log=True")
