"""What was reported, as a number or as nothing: a bad report never raises."""

from __future__ import annotations

from typing import Any

_HUGE = 1e100  # beyond, a value is a failed observation: its square would overflow
_TINY = 1e-100  # below, it is 0: its square would vanish


def number(value: Any) -> float | None:
    """A finite number of ordinary size; None for anything else."""
    try:
        found = None if value is None else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: a tensor of several elements
        return None
    if found is None or not abs(found) < _HUGE:
        return None
    return found if abs(found) > _TINY else 0.0


def amount(value: Any) -> float | None:
    """A number that is not negative; None for anything else."""
    found = number(value)
    return found if found is not None and found >= 0 else None
