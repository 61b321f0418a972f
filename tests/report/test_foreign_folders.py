"""Reports of folders of other searchers, made by hand as Ray writes them: no Ray runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs_ray.report.gather import collect
from jobs_ray.report.page import write_html
from jobs_ray.report.tables import text
from jobs_ray.trials import TrialStatus

Lines = Sequence[Mapping[str, Any]]


def made(folder: Path, trials: Mapping[str, tuple[Mapping[str, Any], Lines]], metric: str | None = "loss") -> Path:
    """Trials by id: the configuration, and what was reported. Ray's own numbers are added."""
    data = []
    for name, (config, lines) in trials.items():
        static = {"trial_id": name, "status": "TERMINATED", "config": config, "relative_logdir": name}
        running = {"start_time": 1000.0, "last_result": {"timestamp": 1010}}
        data.append([json.dumps(static), json.dumps(running)])
        (folder / name).mkdir()
        rays = {"pid": 1, "time_total_s": 1.5, "iterations_since_restore": 3, "config": {"seed": 1}}
        written = [json.dumps({"training_iteration": i, **rays, **line}) for i, line in enumerate(lines, 1)]
        (folder / name / "result.json").write_text("\n".join(written))
    content = {"trial_data": data, "runner_data": {"_metric": metric}, "stats": {"start_time": 990.0}}
    (folder / "experiment_state-2026.json").write_text(json.dumps(content))
    return folder


def losses(*values: float) -> Lines:
    return [{"loss": value} for value in values]


def test_steps_without_a_finite_value_were_trained_too(tmp_path: Path) -> None:
    """Naive: only finite values count, so a diverged trial is short, cheap, and `ended earlier`."""
    trials = {
        "good": ({"x": 1}, losses(3, 2, 1, 1)),
        "diverged": ({"x": 2}, losses(3, 2, math.nan, math.inf)),
        "recovered": ({"x": 3}, losses(3, math.nan, 2, 2)),
        "never": ({"x": 4}, losses(math.nan, math.nan)),
        "sparse": ({"x": 5}, [{"loss": 3}, {"loss": 1}, {"other": 0}, {"other": 0}]),
    }
    report = collect(made(tmp_path, trials))
    rows = {row.trial_id: row for row in report.trials}
    assert report.budget["spent"] == 4.5
    assert {name: row.last_t for name, row in rows.items()} == dict.fromkeys(rows, 4) | {"never": 2}
    assert [name for name, row in rows.items() if row.status is TrialStatus.FAILED] == ["diverged", "never"]
    assert rows["diverged"].reason == "reported no finite value at t = 4"
    assert rows["diverged"].failed_at == (3, 4)
    assert [name for name, row in rows.items() if row.final is not None] == ["good", "recovered", "sparse"]
    assert "4.50 times the longest trial, 5 trials (3 to the end, 2 failed)" in " ".join(text(report).split())


def test_a_diverged_trial_that_went_on_does_not_say_how_long_a_full_run_is(tmp_path: Path) -> None:
    """Naive: all others, stopped at their goal, ended early, and there is no best."""
    trials = {
        "diverged": ({"x": 1}, losses(3, 2.9, *[math.nan] * 4)),
        "good": ({"x": 2}, losses(3, 2, 1)),
        "fair": ({"x": 3}, losses(4, 3, 2)),
    }
    report = collect(made(tmp_path, trials))
    assert {row.trial_id: row.final for row in report.trials} == {"diverged": None, "good": 1, "fair": 2}
    assert [row.charged for row in report.trials] == [2, 1, 1]  # its steps were trained, too
    said = " ".join(text(report).split())
    assert "longest trial that did not diverge to training_iteration = 3" in said
    assert "4.00 times the longest trial that did not diverge" in said


def test_trials_of_a_repeater(tmp_path: Path) -> None:
    trials = {
        name: ({"x": x, "__trial_index__": i}, losses(2, x + i))
        for name, x, i in (("a", 1, 0), ("b", 1, 1), ("c", 2, 0))
    }
    report = collect(made(tmp_path, trials))
    assert report.repeats == 2
    assert report.searched == {"x"}
    assert [row.config for row in report.trials] == [{"x": 1}, {"x": 1}, {"x": 2}]
    assert report.budget["spent"] == 3
    said = " ".join(text(report).split())
    assert "each configuration trained 2 times, each a trial here" in said
    assert "budget and costs are of one" not in said
    assert "was repeated" not in said


def test_nested_keys(tmp_path: Path) -> None:
    """Naive: progress is looked for at the top level only, and an empty report is made; slips name Ray's own keys."""
    lines = [{"eval": {"loss": 3 - t}, "trainer": {"step": 10 * t}} for t in (1, 2)]
    folder = made(tmp_path, {"a": ({"x": 1}, lines), "b": ({"x": 2}, lines[:1])}, "eval/loss")
    report = collect(folder, time_attr="trainer/step")
    assert [row.curve for row in report.trials] == [((10, 2), (20, 1)), ((10, 2),)]
    assert "to trainer/step = 20" in text(report)
    with pytest.raises(ValueError, match=r"--metric is one of: eval/loss, trainer/step$"):
        collect(folder, metric="nope")
    with pytest.raises(ValueError, match=r"one of: eval/loss, time_total_s, trainer/step, training_iteration$"):
        collect(folder, time_attr="nope")


def test_the_only_metric_may_be_nested(tmp_path: Path) -> None:
    assert collect(made(tmp_path, {"a": ({}, [{"eval": {"loss": 1.0}}])}, None)).metric == "eval/loss"


def test_pickles_of_ray_are_no_parameters(tmp_path: Path) -> None:
    """Naive: the search chose `f/value 8005951...` of a thousand digits. numpy's numbers are reported as such."""
    pickled = {"_type": "CLOUDPICKLE_FALLBACK", "value": "80059514" * 100}
    plain = [("a", 1.0, "<function f at 0x7f01>"), ("b", 2.0, "<function f at 0x7f02>")]
    trials = {
        name: ({"f": pickled, "size": pickled, "in": [pickled]}, [{"loss": size, "config": {"f": f, "size": size}}])
        for name, size, f in plain
    }
    report = collect(made(tmp_path, trials))
    assert [row.config["size"] for row in report.trials] == [1.0, 2.0]
    assert {repr(row.config["f"]) for row in report.trials} == {"<object, not read>"}
    assert report.searched == {"size"}
    page = write_html(report, tmp_path / "page.html").read_text("utf-8")
    assert "80059514" not in text(report) + page[page.index("<body>") :]
