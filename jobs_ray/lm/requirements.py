"""What a search asks of the cluster, checked before it starts: places for its trials, and files that every node sees.

Ray waits without a word for resources that are not there: Tune does not count the workers of a Ray Train group (they
have a placement group of their own), so with four-GPU groups, eight GPUs and `max_concurrent_trials=3` the third
trial stands still, and JoBS with it.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from jobs_ray import cluster
from jobs_ray.lm import sources, travel
from jobs_ray.lm.domain import Domain
from jobs_ray.lm.task import Task

logger = logging.getLogger(__name__)


def worker_resources(scaling_config: Any = None) -> dict[str, float]:
    """What one worker holds, as `lm.trainable` asks for it: {"CPU": 1, "GPU": 1}, for example."""
    if scaling_config is None:
        return {"CPU": 1.0, **({"GPU": 1.0} if sees_gpu() or cluster.has_gpus() else {})}
    each = dict(scaling_config._resources_per_worker_not_none)  # accelerator_type among them
    if scaling_config.num_workers == 1 and "CPU" not in (scaling_config.resources_per_worker or {}):
        return {"CPU": 1.0, **each}  # a Tune actor: Ray Train's workers hold no CPU beside a GPU
    return each


def sees_gpu() -> bool:
    """Whether this process has a GPU that torch can use."""
    import torch

    return torch.cuda.is_available()


def preflight(task: Task, scaling_config: Any = None, *, concurrent: int = 1, storage: str | None = None) -> list[str]:
    """What will go wrong with this search on this cluster, a sentence each; logged as warnings too.

    scaling_config: as given to `lm.trainable`. concurrent: `TuneConfig(max_concurrent_trials=...)`. storage: the
    `storage_path` of RunConfig; a Ray Client's is not looked at. Starts Ray on this machine if this process is not
    connected to one, as `Tuner.fit` would; runs a task of no CPU on each node. Raises OSError where a folder for
    `storage` or the task's cache_dir cannot be made, ray.exceptions.GetTimeoutError when a node does not answer.
    """
    import ray

    if not ray.is_initialized():
        ray.init()
    workers = 1 if scaling_config is None else int(scaling_config.num_workers)
    found = [
        *_cpus_only(task, scaling_config),
        *_places(worker_resources(scaling_config), workers, concurrent),
        *_files(task, storage),
    ]
    for sentence in found:
        logger.warning(sentence)
    return found


def _cpus_only(task: Task, scaling_config: Any) -> list[str]:
    if scaling_config is not None or task.model.name is None or "GPU" in worker_resources():
        return []
    return [
        "trials will ask for CPUs only: the cluster has no GPU, and no ScalingConfig asks for one. If GPU nodes are "
        "still to come (a cluster that grows by itself adds them for who asks), give ScalingConfig(num_workers=1, "
        "use_gpu=True)"
    ]


def _places(each: dict[str, float], workers: int, concurrent: int) -> list[str]:
    have = cluster.totals()
    places = (int(have.get(name, 0.0) / (amount * workers) + 1e-9) for name, amount in each.items() if amount > 0)
    fit = min(places, default=concurrent)
    if fit >= concurrent:
        return []
    asked = ", ".join(f"{amount * workers * concurrent:g} {name}" for name, amount in each.items())
    there = ", ".join(f"{have.get(name, 0.0):g} {name}" for name in each)
    remedy = (
        f"set max_concurrent_trials={fit}, fewer workers, or add nodes"
        if fit
        else "not even one fits: ask for fewer workers or add nodes (a cluster that grows by itself adds them)"
    )
    return [
        f"{concurrent} trials at once of {workers} worker(s) ask for {asked}; the cluster has {there}. The trials that "
        f"find no place wait without a word: {remedy}"
    ]


def _files(task: Task, storage: str | None) -> list[str]:
    import ray
    import ray.util.client

    if sum(bool(node["Alive"]) for node in ray.nodes()) < 2:
        return []
    data = _local_files(task)
    said = []
    with tempfile.TemporaryDirectory(prefix=".jobs-ray-", dir=_made(task.cache_dir)) as cached:
        kept = None
        # under Ray Client the search runs on the cluster: the path is one of its machines', and not of this one
        if storage is not None and "://" not in storage and not ray.util.client.ray.is_connected():
            kept = _made(storage)
        with tempfile.TemporaryDirectory(prefix=".jobs-ray-", dir=kept) as stored:
            places = [cached, *([stored] if kept else [])]
            missing = cluster.missing_on_nodes([*data, *places])
    for node, paths in missing.items():
        files = [path for path in paths if path in data]
        if files:
            said.append(
                f"node {node} does not see {', '.join(files)}; put data and model on a file system that all nodes "
                "share, or at the same path on each"
            )
        elif cached in paths:
            said.append(
                f"node {node} does not share Task.cache_dir ({task.cache_dir}): it "
                + (
                    f"would not find what was packed of {staying}, and needs the files that they were loaded from; "
                    "share it, or `save_to_disk` them where all nodes see them"
                    if (staying := _staying(task))
                    else "tokenises the data itself, once, while its first trial waits; a shared cache_dir saves that"
                )
            )
        if kept and stored in paths:
            said.append(
                f"node {node} does not see the storage_path {storage}, and the checkpoints of its trials would be "
                "lost; use a shared file system or a bucket"
            )
    return said


def _made(folder: str) -> str:
    path = Path(folder).expanduser().resolve()
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


def _local_files(task: Task) -> list[str]:
    """Local files and folders that a worker reads: of the domains and targets, of the model and its tokenizer."""
    domains = [*task.domains.values(), *(target.domain for target in task.targets().values())]
    if task.accuracy is not None:
        domains.append(task.accuracy.domain)
    found = {path for domain in domains for path in _of_domain(domain)}
    found |= {name for name in (task.model.name, task.model.tokenizer) if name and Path(name).expanduser().exists()}
    return sorted(str(Path(name).expanduser().absolute()) for name in found)


def _staying(task: Task) -> list[str]:
    """Domains, targets and questions that are loaded data sets on a disk of this machine."""
    named = {**task.domains, **{name: target.domain for name, target in task.targets().items()}}
    named |= {} if task.accuracy is None else {"accuracy": task.accuracy.domain}
    stay = {name for name, domain in named.items() if (data := travel.loaded(domain)) is not None and data.cache_files}
    return sorted(stay)


def _of_domain(domain: Domain) -> list[str]:
    if domain.streaming or sources.is_rows(domain.source) or travel.loaded(domain) is not None:
        return []
    files = sources.find(domain.source)
    return [] if files is None else [str(file) for file in files.files]
