"""examples/llama3_nine_datasets.py: its plan, and the whole of it on two CPUs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from examples import llama3_nine_datasets as example

pytestmark = pytest.mark.filterwarnings(
    "default::ResourceWarning", "default::FutureWarning", "default::DeprecationWarning"
)


def test_the_plan_of_eight_gpus() -> None:
    known = {"target": "mmlu", "metric": "accuracy", "tflops": 330.0, "budget": 20.0}
    plans = {}
    for groups, concurrent in ((1, 8), (4, 2)):
        task = example.nine_task("mmlu", "accuracy", groups)
        assert (task.max_steps // task.eval_every, len(task.domains), list(task.target)) == (25, 9, ["mmlu"])
        plans[groups] = example.plan(task, argparse.Namespace(groups=groups, concurrent=concurrent, **known))
        assert "GPUs of the cluster 8\n" in plans[groups]
    assert "reused actors of 1 GPU(s)" in plans[1]
    assert "about 26 GB at most: weights 16.1" in plans[1]  # 8.03 billion weights in bf16
    assert "groups of 4 GPU(s)" in plans[4]


def test_what_is_trained_on_is_not_validated_on() -> None:
    train, validation = example.nine_domains()
    for name, domain in train.items():
        other = validation[name]
        assert (domain.split != other.split) or (domain.part, other.part) == ("train", "held_out")


def test_the_space_has_nineteen_dimensions(tmp_path: Path) -> None:
    task = example.shrunk(example.nine_task("sciq", "eval_loss", 1), tmp_path)
    space = example.nine_space(task)
    searched = {name: value for name, value in space["lora"].items() if hasattr(value, "sample")}
    assert len(space["mixture"].sample()) + len(searched) == 19
    assert not hasattr(space["lr"], "sample")


def test_a_target_without_questions_has_no_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        example.main(["--target", "wikitext", "--metric", "accuracy"])
    assert "wikitext has no questions" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "metric"),
    [
        (["--concurrent", "2", "--budget", "2"], "eval_loss"),
        (["--groups", "2", "--concurrent", "1", "--budget", "1", "--metric", "accuracy"], "accuracy"),
    ],
    ids=["actors", "groups"],
)
def test_the_dry_run(
    cluster: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    metric: str,
) -> None:
    """Of a URI as of a folder; a second start finds the search ended, and trains nothing."""
    monkeypatch.chdir(tmp_path)  # the shrunk model's folder, where the experiment's is not a local one
    out = tmp_path / "store"
    command = ["--dry-run", "--target", "mmlu", "--out", out.as_uri() if metric == "eval_loss" else str(out), *flags]
    found = example.main(command)
    shown = capsys.readouterr().out
    [folder] = out.glob("llama3*-*")
    assert folder.name == f"llama3-mmlu-{metric}-dry-run"
    assert (tmp_path / "out/llama3/dry-run/llama3/config.json").exists() == (metric == "eval_loss")
    results = {path: path.read_bytes() for path in folder.glob("*/result.json")}
    assert example.main(command) == found
    assert "going on with" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.glob("*/result.json")} == results
    assert "memory per GPU      about" in shown
    assert found is not None
    assert found.confirmed
    assert set(found.config["mixture"]) == set(example.DATASETS)
    assert "trials; jobs-ray report" in shown
