"""The command line: `plan` and `demo`; what must not happen. `report` is in test_report.py, on real experiments."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs_ray import cli
from jobs_ray.lm import demo
from jobs_ray.report import command as report_command
from jobs_ray.search.budget import allocate, optimal_num_full


def test_the_command_line_is_light() -> None:
    code = "import sys, jobs_ray.cli\nprint(sorted({'ray', 'torch', 'transformers', 'plotly'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_installed_as_a_command() -> None:
    command = Path(sys.executable).with_name("jobs-ray")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in ("demo", "report", "plan"))


@pytest.mark.parametrize("resume", [False, True])
def test_plan_prints_the_allocation(capsys: pytest.CaptureFixture[str], resume: bool) -> None:
    arguments = ["plan", "--budget", "20", "--max-t", "25", "--short-t", "4", "--dim", "7"]
    assert cli.main(arguments + ["--resume"] * resume) == 0
    printed = capsys.readouterr().out
    split = allocate(20, None, 0.16, 0.84 if resume else 1.0)
    runs = [int(row[1]) for row in re.findall(r"^(learn|search|confirm) .*?(\d+) +\d+ +\d+\.\d\d$", printed, re.M)]
    assert runs == [split.learn_short, split.learn_full, split.search_short, split.confirm]
    costs = [float(cost) for cost in re.findall(r" (\d+\.\d\d)$", printed, re.M)]
    assert sum(costs[:-1]) == pytest.approx(costs[-1], abs=0.02)
    assert 19 < costs[-1] <= 20
    assert f"about {sum(runs)} trials" in " ".join(printed.split())
    assert f"N* = {optimal_num_full(20, 0.16, 7)} full runs" in " ".join(printed.split())
    assert max(map(len, printed.splitlines())) <= 80


def test_the_numbers_of_a_plan_in_words() -> None:
    said = " ".join(cli.plan_text(20, 25, short_t=4, dim=7, resume=True).split())
    split, best = allocate(20, None, 0.16, 0.84), optimal_num_full(20, 0.16, 7)
    assert "Budget: 20 full runs of 25 steps (in the unit of --max-t), 500 in all." in said
    assert "costs 0.16 full runs; promoting one trains the other 21 and costs 0.84." in said
    configs, full = split.learn_short + split.search_short, split.learn_full + split.confirm
    assert f"(configurations: {configs}, fully trained: {full})" in said
    assert f"N* = {best} full runs to learn from, then {int((20 - best) / 0.16 + 1e-9)} short ones." in said
    limited = " ".join(cli.plan_text(20, 25, short_t=4, num_trials=5).split())
    assert f"or allow at least {allocate(20, None, 0.16, 1.0).trials}." in limited


def test_plan_says_when_the_limit_on_trials_binds(capsys: pytest.CaptureFixture[str]) -> None:
    plan = ["plan", "--budget", "10", "--max-t", "100", "--num-trials"]
    cli.main([*plan, "5"])
    assert "Limited to 5 trials" in capsys.readouterr().out
    cli.main([*plan, "500"])
    assert "Limited" not in capsys.readouterr().out


def test_plan_says_when_the_budget_is_too_small_for_its_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--budget", "1", "--max-t", "3"]) == 0
    assert "too small for all of this" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "0.5", "--max-t", "25"], "at least 1 (one full run), got '0.5'"),
        (["--budget", "nan", "--max-t", "25"], "got 'nan'"),
        (["--budget", "5", "--max-t", "-3"], "above 0, got '-3'"),
        (["--budget", "5", "--max-t", "soon"], "expected a number, got 'soon'"),
        (["--budget", "5", "--max-t", "25", "--dim", "1.5"], "whole number"),
        (["--budget", "5", "--max-t", "25", "--dim", "inf"], "whole number"),
        (["--budget", "5", "--max-t", "25", "--short-t", "25"], "less than --max-t = 25"),
        (["--budget", "10", "--max-t", "1e10", "--short-t", "1e-300"], "and --short-t 1e-300 buys more runs than can"),
        (["--budget", "10", "--max-t", "1e10", "--short-t", "1e-320"], "buys more runs than can be counted"),
        (["--budget", "1e308", "--max-t", "1e308"], "--budget 1e+308 with --max-t 1e+308 buys more runs than can"),
        (["--max-t", "25"], "--budget"),
    ],
)
def test_plan_refuses_in_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: Any = cli.main(["plan", *arguments])
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_plan_of_a_huge_budget_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    """Naive: every number of full runs up to the budget is tried, for minutes."""
    assert cli.main(["plan", "--budget", "1e12", "--max-t", "25"]) == 0
    assert "N* = " in capsys.readouterr().out


def test_plan_says_that_nothing_ends_before_its_first_report(capsys: pytest.CaptureFixture[str]) -> None:
    for max_t, said in (("1", True), ("0.5", True), ("25", False)):
        assert cli.main(["plan", "--budget", "20", "--max-t", max_t]) == 0
        assert ("give --max-t in steps" in " ".join(capsys.readouterr().out.split())) == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["watch", "anywhere", "--every", "nan"], "above 0, got 'nan'"),
        (["watch", "anywhere", "--every", "-3"], "above 0, got '-3'"),
        (["watch", "anywhere/that/is/not"], "is no folder"),
        (["demo", "--workers", "0"], "--workers is 0; expected a whole number from 1 on"),
        (["demo", "--out", __file__], f"--out: cannot write into {__file__}: File exists"),
    ],
)
def test_other_slips_are_one_sentence_too(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: Any = cli.main(arguments)
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_an_interrupted_command_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(report_command, "run", interrupted)
    assert cli.main(["report", "anywhere"]) == 130


def test_demo_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(demo, "run", lambda arguments: seen.append(arguments) or 130)
    out = str(tmp_path / "somewhere")
    assert cli.main(["demo", "--quick", "--seed", "3", "--out", out]) == 130
    assert (seen[0].quick, seen[0].seed, seen[0].out) == (True, 3, out)


@pytest.mark.parametrize(
    ("missing", "arguments", "remedy"),
    [
        ("peft", ["demo"], 'the demo needs peft: pip install "jobs-ray[lm]"'),
        ("ray", ["report", "anywhere"], 'pip install "jobs-ray[tune]"'),
        ("plotly", ["report", "anywhere", "--html", "x.html"], 'pip install "jobs-ray[report]"'),
    ],
)
def test_a_missing_extra_is_named_with_its_remedy(
    missing: str,
    arguments: list[str],
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert remedy in captured.err
    assert len(captured.err.splitlines()) == 1
