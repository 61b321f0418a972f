"""The demo's parts, and all of it at a tiny size."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from jobs_ray.lm import demo, demo_data
from jobs_ray.lm.demo_outcome import Outcome, table

pytestmark = pytest.mark.filterwarnings(
    "default::ResourceWarning",
    "default::FutureWarning",
    "default::DeprecationWarning",
    "ignore:.*torch.jit.script.*:DeprecationWarning",  # linear_operator, when the search imports it; as in pyproject
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "data"


@pytest.fixture
def own_ray(no_ray: None) -> Iterator[None]:
    here = str(Path(__file__).parents[2])
    ray.init(
        "local", num_cpus=2, include_dashboard=True, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": here}}
    )
    yield
    ray.shutdown()


@pytest.mark.slow
def test_corpora_are_disjoint_repeatable_and_of_one_kind(data: Path) -> None:
    files = demo_data.write_corpora(data)
    stamps = {f: f.stat().st_mtime_ns for parts in files.values() for f in parts.values()}
    assert set(files) == {"code", "headers", "prose", "reference"}
    for name, parts in files.items():
        texts = {p: {json.loads(line)["text"] for line in f.read_text().splitlines()} for p, f in parts.items()}
        assert not texts["train"] & texts["validation"], name
        assert not texts["train"] & texts["test"], name
        assert sum(map(len, texts["train"])) > 200_000, name
    assert "#include" in files["headers"]["train"].read_text()
    assert "import " in files["code"]["train"].read_text()
    assert demo_data.write_corpora(data) == files
    assert {f: f.stat().st_mtime_ns for f in stamps} == stamps
    tokenizer = demo_data.train_tokenizer(data / "tokenizer", files)
    assert len(json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"]) == demo_data.VOCABULARY


def test_the_default_model_is_the_one_described(data: Path) -> None:
    from jobs_ray.lm import Session

    task = demo.demo_task(data, demo.QUICK)
    model = Session(task).models.build(demo.DEFAULT, 0)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.65e6, rel=0.05)
    for size in (demo.FULL, demo.QUICK):
        assert size.short % size.eval_every == 0
        assert size.max_steps % size.eval_every == 0
        assert size.budget <= 12
    assert task.granted_steps({"max_steps": demo.QUICK.short}) == demo.QUICK.short


def test_options_and_table() -> None:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    options = parser.parse_args(["--quick", "--workers", "2", "--seed", "3", "--out", "x"])
    assert (options.quick, options.workers, options.seed, options.out) == (True, 2, 3, "x")
    shown = table(
        Outcome(
            seed=3, max_steps=60, final_seeds=[1003, 2003], default={"lr": 1e-3}, confirmed=True, phases={"learn": 4},
            recommended={"mixture": {"a": 0.25, "b": 0.75}, "lr": 2e-3},
            losses_recommended=[5.0, 5.5], losses_default=[6.0, 5.0],
            search_cost=4.0, search_seconds=50.0, final_seconds={"recommended": 10.0, "default": 11.0},
            startup_share=0.2, workers=2, experiment="/x/experiment",
        )
    )  # fmt: skip
    assert "a 0.25, b 0.75" in shown
    assert "a 0.50, b 0.50" in shown
    assert "seeds 1003, 2003" in shown
    assert "5.250 (5.000, 5.500)" in shown


@pytest.mark.slow
def test_the_whole_demo_at_a_tiny_size(
    own_ray: None, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo_data.train_tokenizer(data / "tokenizer", demo_data.write_corpora(data))
    (tmp_path / "data").symlink_to(data)
    monkeypatch.setattr(demo, "QUICK", demo.Size(max_steps=12, eval_every=2, short=2, budget=3.0))
    outcome = demo.run_demo(quick=True, seed=1, out=tmp_path)
    assert json.loads((tmp_path / "demo.json").read_text())["losses_default"] == outcome.losses_default
    assert outcome.search_cost <= 3.0 + 1e-9
    assert {"learn", "confirm"} <= set(outcome.phases)
    assert outcome.confirmed
    assert sum(outcome.recommended["mixture"].values()) == pytest.approx(1.0)
    assert all(4.0 < loss < 8.0 for loss in (*outcome.losses_recommended, *outcome.losses_default))
    assert outcome.final_seeds == [1_001, 2_001]
    assert len(outcome.losses_default) == len(outcome.losses_recommended) == 2
    assert len(set(outcome.losses_default)) == 2
    assert "JoBS" in capsys.readouterr().out
    # of all checkpoints only those of full runs are left
    left = list(Path(outcome.experiment).glob("*/checkpoint_*/jobs_ray_run.json"))
    assert left
    for file in left:
        params = json.loads((file.parents[1] / "params.json").read_text())
        assert params.get("max_steps", 12) == 12
