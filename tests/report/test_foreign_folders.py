"""Reports of folders of other searchers, made by hand as Ray writes them: no Ray runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from foreign_runs import losses, made, with_status

from jobs_ray.report.experiment import varied
from jobs_ray.report.gather import collect
from jobs_ray.report.inferred_space import infer_space
from jobs_ray.report.page import write_html
from jobs_ray.report.tables import text
from jobs_ray.trials import TrialStatus


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


def test_trials_that_raised_or_still_run_are_no_full_runs(tmp_path: Path) -> None:
    trials = {name: ({"x": i}, losses(3, 2)) for i, name in enumerate(("ended", "raised", "runs", "waits"))}
    folder = with_status(made(tmp_path, trials), raised="ERROR", runs="RUNNING", waits="PENDING")
    (folder / "raised" / "error.txt").write_text("x" * 2**17 + "\nValueError: the last line\n")
    assert {row.trial_id: (row.status, row.final, row.reason) for row in collect(folder).trials} == {
        "ended": (TrialStatus.COMPLETED, 2, None),
        "raised": (TrialStatus.FAILED, None, "ValueError: the last line"),
        "runs": (TrialStatus.RUNNING, None, None),
        "waits": (TrialStatus.RUNNING, None, None),
    }


def test_of_two_reports_at_one_time_the_later_counts_and_none_before_the_start(tmp_path: Path) -> None:
    reports = ((0, 9), (-1, 9), (1, 5), (2, 4), (1, 3), (2, 2))
    lines = [{"training_iteration": t, "loss": value} for t, value in reports]
    [found] = collect(made(tmp_path, {"a": ({"x": 1}, lines)})).trials
    assert found.curve == ((1, 3), (2, 2))


def test_what_space_is_inferred() -> None:
    configs = [
        {"lr": lr, "u": u, "m": {"a": a, "b": 1 - a}, "n": {"a": a, "b": 1.02 - a}}
        for lr, u, a in ((1e-4, 1.0, 0.2), (1e-2, 9.0, 0.4))
    ]
    space, mixtures = infer_space(configs)
    assert space is not None
    found = {block.name: block.parameter for block in space.blocks}
    assert (found["lr"].log, found["u"].log) == (True, False)
    assert mixtures == ("m",)  # the weights of n sum to more than 1


def test_an_infinite_value_leaves_out_its_own_parameter_only() -> None:
    space, _ = infer_space([{"lr": 1e-4, "clip": 1.0}, {"lr": 1e-2, "clip": math.inf}, {"lr": 1e-3, "clip": math.nan}])
    assert space is not None
    assert [block.name for block in space.blocks] == ["lr"]


def test_what_was_searched() -> None:
    """Naive: of one configuration everything, also where the parameters are known."""
    one = {"lr": 0.1, "fixed": 1, "list": [0.2, 3], "opt": {"name": "sgd", "momentum": 0.9}, "mix": {"a": 0.5}}
    known = dict.fromkeys(("lr", "list/0", "opt", "opt[1]/momentum", "mix"))
    searched = {"lr", "list", "opt/name", "opt/momentum", "mix/a"}
    assert varied(known, [one]) == searched
    assert varied(known, [one, {**one, "more": 1}]) == searched
    assert varied({}, [one, one]) == searched | {"fixed"}  # another searcher's: nobody knows
    assert varied({}, [one, {**one, "lr": 0.2}]) == {"lr"}


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
