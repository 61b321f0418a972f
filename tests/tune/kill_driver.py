"""A driver that is meant to be killed: `python kill_driver.py ADDRESS STORAGE`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune
from tune_trainables import STEPS, Paced, half

from jobs_ray import JoBSScheduler, JoBSSearcher

TRIALS = 16


def tuner(storage: str) -> Any:
    """One trial at a time; nothing but the number of trials ends the search. Slow while `slow` lies in the storage."""
    return tune.Tuner(
        half(Paced),
        param_space={"x": tune.uniform(0.0, 1.0), "y": tune.choice(["a", "b"]), "slow_while": f"{storage}/slow"},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=TRIALS,
            max_concurrent_trials=1,
            reuse_actors=True,
            search_alg=JoBSSearcher(max_t=STEPS, short_t=3, num_full="auto", seed=5),
            scheduler=JoBSScheduler(),
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=storage,
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


if __name__ == "__main__":
    ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
    Path(sys.argv[2], "slow").touch()
    tuner(sys.argv[2]).fit()
