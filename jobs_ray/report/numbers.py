"""Numbers of the command line: argparse shows what was expected and what came, and ends with exit code 2."""

from __future__ import annotations

import argparse
import math


def number(text: str) -> float:
    """Raises ArgumentTypeError, as all here."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def positive(text: str) -> float:
    """Finite and above 0."""
    value = number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def full_runs(text: str) -> float:
    """A budget: finite, and one full run or more. Less buys no answer."""
    value = number(text)
    if not (math.isfinite(value) and value >= 1):
        raise argparse.ArgumentTypeError(f"expected at least 1 (one full run), got {text!r}")
    return value


def whole(text: str) -> int:
    """A whole number from 1 on."""
    value = number(text)
    if value != int(value if math.isfinite(value) else 0) or value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(value)
