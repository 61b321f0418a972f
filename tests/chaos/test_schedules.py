"""Experiments that are killed, interrupted, moved and restored: nothing is lost, charged twice, or recommended unseen.

`make chaos` plays JOBS_RAY_CHAOS schedules from seed JOBS_RAY_CHAOS_FROM on; `make test-all` a few. Without that
variable no other is collected.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from chaos_judge import judge
from chaos_play import play
from chaos_schedule import BETWEEN, INTERRUPTIONS, NUISANCES, TROUBLES, draw

HAPPENED: Counter[str] = Counter()
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
    print(dict(+course.happened))
    faults = judge(schedule, course, tmp_path)
    HAPPENED.update(course.happened)
    assert not faults, "\n".join([str(schedule), *faults, f"see {tmp_path}/log"])


@pytest.mark.chaos
@pytest.mark.skipif(int(os.environ.get("JOBS_RAY_CHAOS", "0")) < 100, reason="what is rare may not be among so few")
def test_everything_that_is_drawn_has_happened() -> None:
    """A kind of trouble that comes too late, or not at all, would test nothing."""
    print(dict(HAPPENED.most_common()))
    restores = {"resume_errored", "restart_errored", "resume_unfinished=False", "a restore amid trials"}
    expected = {*INTERRUPTIONS, *NUISANCES, *BETWEEN, *TROUBLES, *restores} - {"none", "nothing"}
    assert expected <= {kind for kind, number in HAPPENED.items() if number}
