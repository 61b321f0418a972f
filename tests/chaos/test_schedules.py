"""Experiments that are killed, interrupted, moved and restored: nothing is lost, charged twice, or recommended unseen.

`make chaos` plays JOBS_RAY_CHAOS schedules from seed JOBS_RAY_CHAOS_FROM on; `make test-all` a few. Without that
variable no other is collected.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from chaos_play import judge, play
from chaos_schedule import draw

FIRST = int(os.environ.get("JOBS_RAY_CHAOS_FROM", "0"))
SHORT = (0, 1, 2)
SEEDS = [
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in SHORT),
    *(
        pytest.param(seed, marks=pytest.mark.chaos, id=f"chaos-{seed}")
        for seed in range(FIRST, FIRST + int(os.environ.get("JOBS_RAY_CHAOS", "0")))
    ),
]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost(address: str, tmp_path: Path, seed: int) -> None:
    schedule = draw(seed)
    print(schedule)
    course = play(schedule, address, tmp_path)
    faults = judge(schedule, course, tmp_path)
    assert not faults, "\n".join([str(schedule), *faults, f"see {tmp_path}/log"])
