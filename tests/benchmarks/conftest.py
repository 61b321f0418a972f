"""Tables for the benchmark tests: synthetic ones, so that nothing depends on the shared data being there."""

import numpy as np
import pytest

from benchmarks.data import MAX_T, Task, data_folder, load_tasks, random_rows


def synthetic(name: str, n: int, seed: int) -> Task:
    """Falling losses that depend on one domain, rank and layers; accuracies that rise with one minus the loss."""
    rows = random_rows(n, np.random.default_rng(seed))
    level = 1.0 - 0.5 * np.sqrt(rows[:, 0]) + 0.05 * np.log2(rows[:, 15]) - 0.005 * rows[:, 9]
    t = np.arange(1, MAX_T + 1)
    loss = level[:, None] + (0.5 + rows[:, [1]]) * t**-0.7
    return Task(name, rows, loss, np.clip(1 - loss / 3, 0, 1))


@pytest.fixture(scope="session")
def tasks() -> list[Task]:
    return [synthetic("one", 60, 1), synthetic("two", 60, 2)]


@pytest.fixture(scope="session")
def real_tasks() -> list[Task]:
    try:
        return load_tasks()
    except FileNotFoundError:
        pytest.skip(f"the shared tables are not in {data_folder()} (set JOBS_RAY_DATA)")
