"""What both `tune` and `lm` must ask of a Ray cluster. It imports neither of them, and Ray only when asked."""

from __future__ import annotations


def state_api_error(timeout_s: int = 5) -> BaseException | None:
    """Why Ray's State API does not answer on this driver's Ray; None when it does.

    Without it (it needs `ray[default]` and a running dashboard) a Ray Train group that is stopped from outside keeps
    its workers' placement group, and the next trial hangs.
    """
    import ray

    try:
        from ray._private.worker import global_worker
        from ray.util.state import list_placement_groups

        # A Ray without a dashboard writes down the default address of one all the same (dashboard/head.py of 2.60),
        # where the dashboard of another Ray on this machine may answer in its place. Only this key, then empty, tells.
        if not global_worker.gcs_client.internal_kv_get(b"webui:url", b"dashboard"):
            raise ConnectionError("this Ray was started without its dashboard, or without ray[default]")
        # Without an address the State API asks the machine's *newest* Ray, perhaps somebody else's, and when that one
        # goes away this process is killed with it (seen with several Rays on one machine).
        address = ray.get_runtime_context().gcs_address
        list_placement_groups(address=address, limit=1, timeout=timeout_s, raise_on_missing_output=False)
    except Exception as error:  # every way of not answering (import, connection, timeout) counts
        return error
    return None


def has_gpus() -> bool:
    """Whether this driver's Ray knows of GPUs, on whatever node; False while it is not connected to one."""
    import ray

    return ray.is_initialized() and float(ray.cluster_resources().get("GPU", 0.0)) >= 1.0


def totals() -> dict[str, float]:
    """CPUs, GPUs and whatever else this driver's Ray has in all, on the nodes that live."""
    import ray

    return {name: float(amount) for name, amount in ray.cluster_resources().items()}


def missing_on_nodes(paths: list[str], timeout_s: float = 60.0) -> dict[str, list[str]]:
    """{address of a node: those of `paths` that it does not see}, of the nodes that miss any.

    One task of no CPU on each living node. Raises ray.exceptions.GetTimeoutError when a node does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def absent(names: list[str]) -> list[str]:
        from pathlib import Path

        return [name for name in names if not Path(name).exists()]

    nodes = [node for node in ray.nodes() if node["Alive"]]
    look = ray.remote(num_cpus=0, max_retries=0)(absent)
    asked = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(paths)
        for node in nodes
    ]
    found = ray.get(asked, timeout=timeout_s)
    return {
        f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})": names
        for node, names in zip(nodes, found, strict=True)
        if names
    }
