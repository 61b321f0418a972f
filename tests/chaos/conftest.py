"""A small Ray of its own for the chaos suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# before Ray starts: its workers inherit both. The trainable of this folder must be importable there
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("OMP_NUM_THREADS", "1")

import ray  # noqa: E402  # the environment above must stand first


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    """Of a Ray with one logical CPU, for four trials of a quarter; never a stranger's."""
    ray.shutdown()
    info = ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield info.address_info["gcs_address"]
    ray.shutdown()
