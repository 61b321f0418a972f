"""What a search asks of the cluster: places, files that every node sees, memory of a GPU."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray import tune
from ray.cluster_utils import Cluster
from ray.train import ScalingConfig
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks import gpu
from jobs_ray.lm import Accuracy, Domain, Model, Session, Task, memory_per_gpu, preflight, trainable
from jobs_ray.lm.estimate import operations
from jobs_ray.lm.requirements import _local_files

pytestmark = pytest.mark.filterwarnings(
    "default::ResourceWarning", "default::FutureWarning", "default::DeprecationWarning"
)


def test_more_trials_than_places_are_said(
    cluster: Cluster, make_task: Callable[..., Task], caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task()
    assert preflight(task, concurrent=2, storage=task.cache_dir) == []
    assert preflight(task, ScalingConfig(num_workers=2), concurrent=1) == []
    with caplog.at_level(logging.WARNING):
        [said] = preflight(task, ScalingConfig(num_workers=2), concurrent=3)
    assert "3 trials at once of 2 worker(s) ask for 6 CPU; the cluster has 2 CPU" in said
    assert "set max_concurrent_trials=1" in said
    assert said in caplog.text
    [said] = preflight(task, ScalingConfig(num_workers=2, use_gpu=True))
    assert "2 GPU; the cluster has 0 GPU" in said
    assert "not even one fits" in said


def test_a_pretrained_model_on_a_cluster_without_gpus(
    cluster: Cluster, make_task: Callable[..., Task], base_dir: Path
) -> None:
    """A cluster that grows by itself has no GPU at first, and gets none that nobody asks for."""
    task = make_task(model=Model(name=str(base_dir)))
    [said] = preflight(task)
    assert "trials will ask for CPUs only" in said
    assert said.endswith("give ScalingConfig(num_workers=1, use_gpu=True)")
    assert preflight(task, ScalingConfig(num_workers=1)) == []
    [said] = preflight(task, ScalingConfig(num_workers=1, use_gpu=True, accelerator_type="H100"))
    assert "ask for 1 CPU, 1 GPU, 0.001 accelerator_type:H100; the cluster has" in said
    assert "a cluster that grows by itself adds them" in said


def test_files_that_only_the_driver_sees_are_named(
    cluster: Cluster, make_task: Callable[..., Task], tokenizer_dir: Path
) -> None:
    mine = f"/proc/self/task/{os.getpid()}"  # a folder that exists in this process only
    task = make_task(model=Model(name=mine, tokenizer=str(tokenizer_dir)))
    said = preflight(task, ScalingConfig(num_workers=1))
    assert len(said) == 2  # of each node
    assert all(f"does not see {mine}; put data and model" in sentence for sentence in said)
    assert str(tokenizer_dir) not in "".join(said)


CLIENT = """
import socket, sys
import ray
import ray.util.client.server.server as server
from ray._private.client_mode_hook import disable_client_hook
from ray.train import ScalingConfig
from ray.util.client import ray as client
from jobs_ray import lm

def connect(job_config=None, **_):
    with disable_client_hook():
        return ray.init(sys.argv[1], log_to_driver=False)

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
serving = server.serve("127.0.0.1", int(address.split(":")[1]), ray_connect_handler=connect)
client._inside_client_test = True  # as Ray's own tests: server and client are one process
client.connect(address)
rows = lm.Domain([{"text": "the cat"}])
task = lm.Task({"d": rows}, {"d": rows}, lm.Model("x"), 1, 1, cache_dir=sys.argv[2])
try:
    print("said", len(ray.nodes()), lm.preflight(task, ScalingConfig(num_workers=1), storage=sys.argv[3]))
finally:
    client.disconnect()
    serving.stop(0)
"""


@pytest.mark.slow
def test_a_clients_machine_is_not_the_clusters_storage(cluster: Cluster, tmp_path: Path) -> None:
    cache, storage = tmp_path / "cache", tmp_path / "storage"
    command = [sys.executable, "-c", CLIENT, cluster.address, str(cache), str(storage)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "said 2 []" in done.stdout, done.stderr[-2000:]
    assert cache.exists()
    assert not storage.exists()


@pytest.fixture
def node_of_its_own(cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A third node whose `cache`, `data` and `storage` folders are not the driver's."""
    folders = {name: tmp_path / name for name in ("cache", "data", "storage")}
    for folder in folders.values():
        folder.mkdir()
    mounts = " && ".join(f"mount -t tmpfs none {folder}" for folder in folders.values())
    if subprocess.run(["unshare", "-rm", "sh", "-c", mounts], capture_output=True).returncode:
        pytest.skip("this machine does not let us mount file systems")
    program = Path(sys.executable).parent / "ray"
    start = f"{mounts} && exec {program} start --block --num-cpus 1 --resources '{{\"far\": 2}}'"
    before = len(ray.nodes())
    node = subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", f"{start} --address {cluster.address}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while "far" not in ray.cluster_resources() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert len(ray.nodes()) > before
    yield folders
    node.terminate()
    node.wait(30)
    deadline = time.monotonic() + 60
    while "far" in ray.cluster_resources() and time.monotonic() < deadline:
        time.sleep(0.5)


@pytest.mark.slow
def test_a_node_without_the_drivers_files(
    cluster: Cluster, node_of_its_own: dict[str, Path], make_task: Callable[..., Task]
) -> None:
    """What it cannot see is said; the tokens it cannot see it makes itself, once for two trials of the node."""
    folders = node_of_its_own
    task = make_task(cache_dir=str(folders["cache"]), max_steps=3)
    cache, storage = preflight(task, storage=str(folders["storage"]))
    assert f"does not share Task.cache_dir ({folders['cache']}): it tokenises the data itself, once" in cache
    assert "checkpoints of its trials would be lost" in storage
    file = folders["data"] / "a.jsonl"
    file.write_text('{"text": "the cat sees a bird"}\n')
    [said] = preflight(replace(task, domains={**task.domains, "file": Domain(file)}))
    assert f"does not see {file}" in said

    @ray.remote(num_cpus=0.5, resources={"far": 1})
    def packs() -> dict[str, int]:
        time.sleep(0.5)
        Session(task)
        return {p.name: p.stat().st_mtime_ns for p in Path(task.cache_dir).glob("*/info.json") for p in [p.parent]}

    one, two = ray.get([packs.remote(), packs.remote()])
    assert len(one) == 3  # two domains and the target
    assert one == two
    assert not list(folders["cache"].iterdir())  # on that node, not here


@pytest.mark.slow
def test_two_workers_that_find_no_tokens_make_them_once(
    cluster: Cluster, make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(cache_dir=str(tmp_path / "cache"), max_steps=3)
    what = trainable(task, ScalingConfig(num_workers=2), prepare=False)
    assert not list((tmp_path / "cache").glob("*/info.json"))
    [result] = tune.Tuner(
        what, run_config=tune.RunConfig(storage_path=str(tmp_path), name="x", verbose=0)
    ).fit()  # fmt: skip
    assert result.error is None
    assert len(list((tmp_path / "cache").glob("*/info.json"))) == 3
    assert not list((tmp_path / "cache").glob(".*-*"))


def test_memory_is_counted_from_shapes(make_task: Callable[..., Task], base_dir: Path) -> None:
    task = make_task(model=Model(name=str(base_dir)), accumulation=2)
    session = Session(task)
    whole = session.models.build({}, 0)
    parameters = sum(p.numel() for p in whole.parameters())
    full = memory_per_gpu(task, whole)
    assert (full.weights, full.training) == (6 * parameters, 12 * parameters)
    lora: dict[str, Any] = {"r": 4, "q_proj": True, "down_proj": True, "v_proj": False, "num_layers": 1}
    few = memory_per_gpu(task, whole, lora=lora)
    trained = sum(p.numel() for p in session.models.build({"lora": lora}, 0).parameters() if p.requires_grad)
    assert (few.weights, few.training) == (2 * parameters, 16 * trained)
    others: list[dict[str, Any]] = [
        {"r": 4, "modules": "all-linear"},
        {"r": 4, "modules": r".*\.mlp\.up_proj"},
        {"r": 4, "q_proj": False, "v_proj": False},
        {
            "r": 2,
            "modules": ["v_proj"],
            "modules_to_save": ["input_layernorm"],
            "dora": True,
            "end": "first",
            "num_layers": 1,
        },
    ]
    for other in others:
        model = session.models.build({"lora": other}, 0)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert memory_per_gpu(task, whole, lora=other).training == 16 * trained > 0, other
    halves = memory_per_gpu(task, whole, workers=2, sharded=True)
    assert halves.training == full.training / 2
    assert halves.activations == full.activations / 2
    assert halves.weights > full.weights / 2
    less = memory_per_gpu(replace(task, activation_checkpointing=True), whole)
    assert less.activations < full.activations
    assert full.total == pytest.approx(sum((full.weights, full.training, full.activations, full.logits, full.context)))


@pytest.mark.parametrize(
    ("shape", "lora", "measured"), [("8b", gpu.LORA, 24.5e9), ("1b", gpu.LORA, 7.6e9), ("1b", None, 29.5e9)]
)
def test_memory_is_what_an_h100_took(
    make_task: Callable[..., Task], shape: str, lora: dict[str, Any] | None, measured: float
) -> None:
    """torch's own peak, of `python -m benchmarks.gpu`."""
    task = make_task(batch_size=16, seq_len=512, accumulation=4, activation_checkpointing=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(tie_word_embeddings=False, **gpu.SHAPES[shape]))
    expected = memory_per_gpu(task, model, lora=lora)
    assert expected.total - expected.context == pytest.approx(measured, rel=0.05)


def test_operations_are_counted_by_tokens(make_task: Callable[..., Task]) -> None:
    task = make_task(max_steps=10, eval_every=4, batch_size=4, seq_len=32, eval_rows=5)
    model = Session(task).models.build({}, 0)
    parameters = sum(p.numel() for p in model.parameters())
    trained, evaluated = 10 * 4 * 32, 3 * 5 * 32
    assert operations(task, model, frozen=False) == parameters * (6 * trained + 2 * evaluated)
    assert operations(task, model, frozen=True) == parameters * (4 * trained + 2 * evaluated)
    again = replace(task, activation_checkpointing=True)
    assert operations(again, model, frozen=True) == parameters * (6 * trained + 2 * evaluated)


def test_files_of_the_accuracy_and_the_tokenizer_are_looked_for(
    make_task: Callable[..., Task], tokenizer_dir: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "q.jsonl"
    asked.write_text('{"question": "x", "answer": "y"}')
    task = make_task(accuracy=Accuracy(Domain(asked)))
    assert _local_files(task) == sorted([str(asked), str(tokenizer_dir)])
