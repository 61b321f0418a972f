"""A storage that is not local: promotions resume from it, short runs leave nothing in it, `load` reads it."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileSelector, LocalFileSystem, S3FileSystem, SubTreeFileSystem, copy_files
from ray import tune
from ray.train import ScalingConfig

from examples import smollm2
from jobs_ray import JoBSScheduler, JoBSSearcher
from jobs_ray.lm import Model, PruneCheckpoints, Session, Task, TaskError, load, run, trainable

pytestmark = pytest.mark.filterwarnings(
    "default::ResourceWarning",
    "default::FutureWarning",
    "default::DeprecationWarning",
    "ignore:.*torch.jit.script.*:DeprecationWarning",  # linear_operator, when the search imports it; as in pyproject
)


@pytest.fixture
def bucket(tmp_path: Path) -> SubTreeFileSystem:
    """A pyarrow file system that is not the local one: its paths name nothing on this machine."""
    (tmp_path / "bucket").mkdir()
    return SubTreeFileSystem(str(tmp_path / "bucket"), LocalFileSystem())


def curve(reports: list[dict[str, Any]]) -> dict[int, float]:
    return {r["step"]: r["eval_loss"] for r in reports}


def test_a_run_goes_on_from_a_remote_checkpoint_and_loads_from_it(
    make_task: Callable[..., Task], bucket: SubTreeFileSystem, tmp_path: Path
) -> None:
    task = make_task()
    session = Session(task)
    run(task, {"max_steps": 6}, session=session, keep=tmp_path / "bucket" / "exp" / "short")
    remote = tune.Checkpoint("exp/short", bucket)
    rest = run(task, {"resume_from": remote}, session=session)
    assert curve(rest) == pytest.approx({s: v for s, v in curve(run(task, {}, session=session)).items() if s > 6})
    uri = f"file://{tmp_path}/bucket/exp/short"
    assert curve(run(task, {"resume_from": uri}, session=session)) == curve(rest)
    for name in (remote, uri, tmp_path / "bucket" / "exp" / "short"):
        model, tokenizer = load(name)
        assert model.config.hidden_size == 32
        assert tokenizer.get_vocab() == session.tokenizer.get_vocab()
    with pytest.raises(TaskError, match="cannot read the checkpoint"):
        run(task, {"resume_from": tune.Checkpoint("exp/gone", bucket)}, session=session)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """`host:port` of an S3 server of this machine: moto's."""
    pytest.importorskip("moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    host, port = address.split(":")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", host, "-p", port],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as call:
            if call.connect_ex((host, int(port))) == 0:
                break
        time.sleep(0.2)
    yield address
    server.terminate()
    server.wait(30)


@pytest.fixture
def s3_bucket(s3_server: str, tmp_path: Path) -> SubTreeFileSystem:
    """A folder of the one bucket, this test's own."""
    s3 = S3FileSystem(
        access_key="k", secret_key="s", region="us-east-1", scheme="http", endpoint_override=s3_server,
        allow_bucket_creation=True,
    )  # fmt: skip
    s3.create_dir("jobs")
    return SubTreeFileSystem(f"jobs/{tmp_path.name}", s3)


@pytest.mark.slow
def test_a_checkpoint_on_s3_by_its_uri(
    make_task: Callable[..., Task], s3_server: str, s3_bucket: SubTreeFileSystem, tmp_path: Path
) -> None:
    task = make_task()
    session = Session(task)
    run(task, {"max_steps": 6}, session=session, keep=tmp_path / "short")
    copy_files(str(tmp_path / "short"), "uri/short", destination_filesystem=s3_bucket)
    uri = f"s3://k:s@{s3_bucket.base_path}uri/short?scheme=http&region=us-east-1&endpoint_override={s3_server}"
    rest = run(task, {"resume_from": uri}, session=session)
    assert curve(rest) == pytest.approx({s: v for s, v in curve(run(task, {}, session=session)).items() if s > 6})
    assert load(uri)[0].config.hidden_size == 32


@pytest.mark.parametrize(
    ("storage", "workers"),
    [
        ("bucket", 0),
        ("s3_bucket", 1),
    ],
)
@pytest.mark.slow
def test_a_search_on_remote_storage_resumes_its_promotions_and_cleans_up(
    cluster: None, make_task: Callable[..., Task], request: pytest.FixtureRequest, storage: str, workers: int
) -> None:
    bucket = request.getfixturevalue(storage)
    task = make_task()
    searcher = JoBSSearcher(
        max_t=12, short_t=3, budget=2, seed=0, time_attr="step", steps_key="max_steps", resume_key="resume_from"
    )
    what = trainable(task, ScalingConfig(num_workers=1), group=True) if workers else trainable(task)
    results = tune.Tuner(
        what,
        param_space={"lr": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(
            metric="eval_loss", mode="min", num_samples=-1, max_concurrent_trials=1,
            search_alg=searcher, scheduler=JoBSScheduler(), reuse_actors=not workers,
        ),
        run_config=tune.RunConfig(
            storage_path="experiments", storage_filesystem=bucket, name="x", verbose=0,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1), callbacks=[PruneCheckpoints(task.max_steps)],
        ),
    ).fit()  # fmt: skip
    assert not results.errors
    rows = searcher.report()["trials"]
    promoted = [row for row in rows if row["promotes"]]
    assert promoted
    assert [row["resumed_from"] for row in promoted] == [row["promotes"] for row in promoted]
    files = bucket.get_file_info(FileSelector("experiments/x", recursive=True))
    left = {Path(f.path).parent for f in files if f.base_name == "jobs_ray_run.json"}
    full = {r.metrics["trial_id"]: r.checkpoint for r in results if r.metrics["step"] == 12}
    assert left == {Path(checkpoint.path) for checkpoint in full.values()}
    assert not [f.path for f in files if f.base_name.startswith("train-")]
    model, _ = load(full[promoted[0]["trial_id"]])
    assert model.config.hidden_size == 32


@pytest.mark.slow
def test_an_example_goes_on_in_a_bucket(
    cluster: Any,
    make_task: Callable[..., Task],
    base_dir: Path,
    s3_server: str,
    s3_bucket: SubTreeFileSystem,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The search of examples/smollm2.py, of a model small enough for a test; the same, when it is started again."""
    out = f"s3://k:s@{s3_bucket.base_path}out/?scheme=http&region=us-east-1&endpoint_override={s3_server}"
    arguments = argparse.Namespace(budget=2.0, concurrent=2, seed=0, out=out)
    task = make_task(model=Model(name=str(base_dir)))
    found = smollm2.search(task, arguments)
    assert found.confirmed
    assert "going on with" not in capsys.readouterr().out
    assert smollm2.search(task, arguments) == found
    assert "going on with" in capsys.readouterr().out
    [folder] = s3_bucket.get_file_info(FileSelector("out"))
    assert folder.base_name == "smollm2-12-steps"
