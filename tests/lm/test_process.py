"""A process that trains keeps the memory it frees: glibc would give it back and ask for it at every step."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

GIVE_BACK = """
from pathlib import Path
import torch
from jobs_ray.lm.process import give_back_memory, keep_freed_memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

keep_freed_memory()
before = held()
kept = [torch.ones(1 << 20) for _ in range(16)]
del kept
after = held()
give_back_memory()
print(after - before, held() - before)
"""

COUNT = """
import resource, sys
import torch
from jobs_ray.lm.process import keep_freed_memory

told = keep_freed_memory() if "keep" in sys.argv else None

def step():
    kept = [torch.ones(1 << 20) for _ in range(8)]  # activations: 4 MB each, all freed at the step's end
    sum(kept)

for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(told, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


def run(code: str, *arguments: str, **environment: str) -> str:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=known | {"OMP_NUM_THREADS": "1"} | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def faults(*arguments: str, **environment: str) -> tuple[str, int]:
    """(what `keep_freed_memory` answered, page faults a step)"""
    told, count = run(COUNT, *arguments, **environment).split()
    return told, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc's malloc")
def test_what_a_trial_has_freed_is_given_back_at_its_end() -> None:
    kept, given_back = (float(number) for number in run(GIVE_BACK).split())
    assert kept > 50.0  # MB, of 64
    assert given_back < 10.0


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc's malloc")
def test_a_step_reuses_the_memory_of_the_one_before() -> None:
    told, after = faults("keep")
    if told == "False":
        pytest.skip("this C library has no mallopt")
    # what is mended shows in some processes only: where something small lies above it, glibc gives nothing back
    before = next((count for _ in range(8) if (count := faults()[1]) > 1000), None)
    if before is None:
        pytest.skip("glibc gave nothing back in eight processes")
    assert after < before / 10


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_set_stands(name: str) -> None:
    value = "glibc.malloc.arena_max=2" if name == "GLIBC_TUNABLES" else "1000000"
    assert faults("keep", **{name: value})[0] == "False"
