"""Two Ray nodes, eight trials at once, one node killed mid-run: prints what came of it as JSON.

    python cluster_driver.py STORAGE

A process of its own: the other tests of this folder are connected to another cluster.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import ray
from ray import tune
from ray.cluster_utils import Cluster
from ray.tune import Callback
from tune_trainables import STEPS, Class

from jobs_ray import JoBSScheduler, JoBSSearcher

TRIALS = 10


class NodeKiller(Callback):
    """Kills the node after some results, and counts all results that Tune delivers."""

    def __init__(self, cluster: Any, node: Any, after: int) -> None:
        self.cluster, self.node, self.after = cluster, node, after
        self.results = 0
        self.recovered = 0

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.results += 1
        if self.results == self.after:
            self.cluster.remove_node(self.node, allow_graceful=False)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.recovered += 1

    def __getstate__(self) -> dict[str, Any]:
        return {"results": 0, "recovered": 0}  # the cluster's processes are not for the Tuner's pickle


def main(storage: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    second = cluster.add_node(num_cpus=4)
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    cluster.wait_for_nodes()
    nodes = [len([node for node in ray.nodes() if node["Alive"]])]
    searcher = JoBSSearcher(max_t=STEPS, short_t=3, seed=0)
    killer = NodeKiller(cluster, second, after=12)
    results = tune.Tuner(
        tune.with_resources(Class, {"cpu": 1}),
        param_space={"x": tune.uniform(0.0, 1.0), "sleep": 0.3},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=TRIALS,
            max_concurrent_trials=8,
            search_alg=searcher,
            scheduler=JoBSScheduler(),
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=storage,
            verbose=0,
            callbacks=[killer],
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    deadline = time.monotonic() + 60  # Ray may take note of the dead node only after the trials went on elsewhere
    while len(alive := [node for node in ray.nodes() if node["Alive"]]) > 1 and time.monotonic() < deadline:
        time.sleep(0.5)
    nodes.append(len(alive))
    report = searcher.report()
    answer = {
        "nodes": nodes,
        "errors": len(results.errors),
        "trials": len(results),
        "recovered": killer.recovered,
        "results": killer.results,
        "spent": report["budget"]["spent"],
        "status": [row["status"] for row in report["trials"]],
        "max_t": STEPS,
    }
    print("ANSWER " + json.dumps(answer), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    warnings.simplefilter("default")
    main(sys.argv[1])
