"""What every parameter needs: the error of this package, a name in front of it, and a number within its bounds."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


class SpaceError(ValueError):
    """A search space or a configuration that cannot be used; the message names the parameter."""


class naming:
    """Puts the parameter's name in front of a SpaceError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, SpaceError):
            raise SpaceError(f"parameter {self.name!r} {error}") from None


def is_number(value: Any) -> bool:
    """A finite int or float, no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_scalar(value: Any) -> bool:
    """What strict JSON can hold: a string, a bool, a finite number, or None."""
    return value is None or isinstance(value, str | int) or is_number(value)


def as_python(value: Any) -> Any:
    """A scalar of numpy's as Python's, anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def number(value: Any, lower: float, upper: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SpaceError(f"is {value!r}; expected a number in [{lower}, {upper}]") from None
    if not float(lower) <= number <= float(upper):  # a whole number of 2^53 and more may round up
        raise SpaceError(f"is {value!r}; expected a number in [{lower}, {upper}]")
    return number
