"""How property tests look for counter-examples: always the same ones, or, in `make fuzz`, many others."""

from __future__ import annotations

import os

from hypothesis import settings

_TIMES = int(os.environ.get("JOBS_RAY_EXAMPLES", "1"))


def examples(number: int) -> settings:
    """So many of them, `JOBS_RAY_EXAMPLES` times as many if that is set, and then new ones in each run."""
    return settings(max_examples=number * _TIMES, deadline=None, derandomize=_TIMES == 1)
