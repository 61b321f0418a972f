"""One local Ray for all tests of this folder, and runs of tiny trainables on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
# before Ray starts: its workers inherit both. The trainables of this folder must be importable there
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("OMP_NUM_THREADS", "1")

import ray  # noqa: E402  # the environment above must stand first
from ray import tune  # noqa: E402


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Address of a Ray with four logical CPUs (it starts as many workers at once); never a stranger's."""
    ray.shutdown()  # that of tests/lm, in one process with it
    info = ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield info.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture
def fit(cluster: str, tmp_path: Path) -> Callable[..., tune.ResultGrid]:
    """`fit(trainable, space, searcher, scheduler, **TuneConfig)`: a quiet run stored under tmp_path."""

    def run(
        trainable: Any, space: dict[str, Any], searcher: Any, scheduler: Any = None, **config: Any
    ) -> tune.ResultGrid:
        run_config = config.pop("run_config", {})
        config = {"metric": "loss", "mode": "min", "num_samples": 4} | config
        return tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(search_alg=searcher, scheduler=scheduler, **config),
            run_config=tune.RunConfig(**{"name": "run", "storage_path": str(tmp_path), "verbose": 0} | run_config),
        ).fit()

    return run
