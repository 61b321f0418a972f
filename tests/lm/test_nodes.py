"""Two nodes of one CPU each: DDP across them, and a worker that dies in the middle of a run."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.cluster_utils import Cluster
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs_ray.lm import Session, Task, TaskError, run, trainable
from jobs_ray.lm.group import _on_head
from jobs_ray.lm.loop import build

pytestmark = pytest.mark.filterwarnings(
    "default::ResourceWarning", "default::FutureWarning", "default::DeprecationWarning"
)
SPREAD = ScalingConfig(num_workers=2, placement_strategy="STRICT_SPREAD")


@pytest.fixture
def two_nodes(cluster: Cluster) -> Cluster:
    return cluster


def _train_and_tell(arguments: dict[str, Any]) -> None:
    """Run in each worker: train, then write this rank's node and every parameter to a file."""
    import torch

    session = Session(arguments["task"])
    rank = ray.train.get_context().get_world_rank()
    trainer = build({}, session, lambda *_: None, Path(arguments["out"]) / f"scratch{rank}", save=False)
    trainer.train()
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).tolist()
    told = {"node": ray.get_runtime_context().get_node_id(), "weights": weights}
    (Path(arguments["out"]) / f"rank{rank}.json").write_text(json.dumps(told))
    ray.train.report({"rank": rank})


@pytest.mark.slow
def test_gradients_are_synchronised_across_nodes(
    two_nodes: Cluster, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    import torch

    task = make_task(max_steps=10, eval_every=10)
    TorchTrainer(
        _train_and_tell,
        train_loop_config={"task": task, "out": str(tmp_path)},
        scaling_config=SPREAD,
        run_config=RunConfig(name="ddp", storage_path=str(tmp_path)),
    ).fit()
    told = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0]["node"] != told[1]["node"]
    assert told[0]["weights"] == told[1]["weights"]
    # Identical could also mean that both read the same rows; this says that each read its half of every batch.
    session = Session(task)
    alone = build({}, session, lambda *_: None, tmp_path / "alone", save=False)
    start = torch.cat([p.detach().flatten() for p in alone.model.parameters()])
    alone.train()
    end = torch.cat([p.detach().flatten() for p in alone.model.parameters()])
    both = torch.tensor(told[0]["weights"])
    assert (end - both).norm() < 0.01 * (end - start).norm()


@pytest.mark.slow
def test_the_state_api_is_asked_where_it_listens(two_nodes: Cluster) -> None:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    there = ray.remote(num_cpus=0)(_on_head)
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    found = ray.get([there.options(scheduling_strategy=place).remote() for place in places])
    assert found == [node["NodeID"] == two_nodes.head_node.node_id for node in nodes]
    assert sorted(found) == [False, True]


def kill_one(cluster: Cluster, experiments: Path, killed: list[int]) -> None:
    """Kills a worker of the group once its trial has reported."""
    from ray.util.state import list_actors

    deadline = time.monotonic() + 400  # on a busy machine a group takes minutes to start
    while time.monotonic() < deadline and not killed:
        time.sleep(1)
        if [f for f in experiments.glob("x/*/result.json") if f.stat().st_size > 0]:
            alive = [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]
            workers = list_actors(address=cluster.address, filters=alive)
            if workers:
                os.kill(workers[0].pid, signal.SIGKILL)
                killed.append(workers[0].pid)


@pytest.mark.slow
def test_a_dead_worker_fails_its_trial_and_frees_its_place(
    two_nodes: Cluster, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    task = make_task(max_steps=20_000, eval_every=200, eval_rows=4)
    before = ray.cluster_resources()["CPU"]
    killed: list[int] = []

    killer = threading.Thread(target=kill_one, args=(two_nodes, tmp_path, killed))
    killer.start()
    # The second trial is a short one: it can only run in the place the first has left.
    results = tune.Tuner(
        trainable(task, SPREAD),
        param_space={"lr": 1e-3, "max_steps": tune.grid_search([20_000, 200])},
        tune_config=tune.TuneConfig(metric="eval_loss", mode="min", max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(tmp_path), name="x", verbose=0),
    ).fit()
    killer.join()
    assert killed
    dead, next_one = results[0], results[1]
    assert "TrainingError" in str(dead.error)
    assert "worker" in str(dead.error)
    assert len(dead.metrics_dataframe) >= 1
    assert dead.metrics["step"] < 20_000
    assert next_one.error is None
    assert next_one.metrics["step"] == 200
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert ray.available_resources()["CPU"] == before


@pytest.mark.slow
def test_a_group_starts_again_after_a_dead_worker_and_its_trial_stays(
    two_nodes: Cluster, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    task = make_task(max_steps=1_200, eval_every=100, eval_rows=4, lr=1e-3, keep_optimizer=True)
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(two_nodes, tmp_path, killed))
    killer.start()
    [result] = tune.Tuner(
        trainable(task, SPREAD, failure_config=FailureConfig(max_failures=1)),
        run_config=tune.RunConfig(storage_path=str(tmp_path), name="x", verbose=0),
    ).fit()
    killer.join()
    assert killed
    assert result.error is None
    assert result.metrics["step"] == 1_200
    # it went on from a checkpoint: the curve is the unbroken one, and not all of it was trained twice
    frame = result.metrics_dataframe
    unbroken = {r["step"]: r["eval_loss"] for r in run(task, {})}
    assert dict(zip(frame["step"], frame["eval_loss"], strict=True)) == pytest.approx(unbroken, abs=1e-3)
    assert len(frame) < 2 * len(unbroken)
    with pytest.raises(TaskError, match=r"tune\.FailureConfig"):
        trainable(task, failure_config=FailureConfig(max_failures=1))
