"""The Ray that the demo runs on, and the environment of its processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# The new output's boxes are printed even with verbose=0.
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "RAY_AIR_NEW_OUTPUT": "0"}


@contextmanager
def local_ray(cpus: int | None = None, *, dashboard: bool = True) -> Iterator[None]:
    """Ray on this machine, offline and quiet, unless one runs; ends what it started, and leaves the environment of
    this process as it was. What the user has set there is kept.

    dashboard: without it a trial of several workers that is stopped from outside leaks their placement group.
    """
    import ray

    missing = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(missing)  # before Ray starts: its processes inherit them
    started = not ray.is_initialized()
    try:
        if started:
            cpus = cpus or max(2, os.cpu_count() or 2)
            ray.init("local", num_cpus=cpus, include_dashboard=dashboard, log_to_driver=False, logging_level="error")
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
        if started:
            ray.shutdown()
