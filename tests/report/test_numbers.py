"""Numbers and sentences of reports made by hand: the answer, tables, files, pages, predictions."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import saved_runs
from ray import tune
from report_rows import best_of, predicted, report, row

from jobs_ray import ScalingLawPredictor
from jobs_ray.models.prediction import CrossValidation
from jobs_ray.report import export, page, tables
from jobs_ray.report.answer import answer, duration
from jobs_ray.report.compare import compare
from jobs_ray.report.experiment import Report
from jobs_ray.report.predictions import predictions
from jobs_ray.report.tables_plan import phases_table, plan_table
from jobs_ray.trials import Phase, TrialStatus

# ---- the answer


@pytest.mark.parametrize(("mode", "of"), [("max", lambda v: v), ("min", lambda v: 2 - v)])
def test_gains_are_over_the_best_learn_run_and_over_the_default(mode: str, of: Callable[[float], float]) -> None:
    found = row("found", of(0.9), phase=Phase.CONFIRM)
    rows = [
        row("short", predicted=predicted(of(0.85)), superseded=True),  # went on to the end, as `learned`
        row("learned", of(0.6), promotes="short"),
        row("worse", of(0.5)),
        row("default", of(0.7), config={"x": "d"}),
        row("again", of(0.65), config={"x": "d"}),
        found,
    ]
    made = answer(
        report(*rows, mode=mode, recommendation=best_of(found), default=("default", "again")), "{:.3f}".format
    )
    assert made is not None
    said = dict(made.facts)
    share = 100 * 0.3 / of(0.6)
    assert (
        said["gain over the best LEARN run"] == f"0.300 better ({share:.1f} %) than its {of(0.6):.3f} (trial learned)"
    )
    share = 100 * 0.2 / of(0.7)
    assert said["gain over the default"] == f"0.200 better ({share:.1f} %) than its {of(0.7):.3f} (trial default)"


def test_the_headline_says_whether_the_prediction_was_right() -> None:
    for off, wrong in ((0.0, False), (0.5, True)):
        found = row("a", 1.0, predicted=predicted(1.0 + off))
        made = answer(report(found, recommendation=best_of(found)), str)
        assert made is not None
        assert ("the prediction was wrong" in made.headline) == wrong


def test_durations_in_words() -> None:
    assert [duration(s) for s in (45, 12 * 60, 3 * 3600 + 20 * 60 + 31)] == ["45 s", "12 min", "3 h 20 min"]


# ---- tables


def test_what_is_compared_is_what_was_spent_and_the_length_of_a_full_run() -> None:
    budget = {"total": 10.0, "spent": 3.5, "committed": 4.0, "by_phase": {}}
    plans = [{"max_t": t, "short_t": 2.0} for t in (8.0, 16.0)]
    found = compare([report(row("a", 1.0), plan=plan, budget=budget) for plan in plans])
    assert found.rows[0][3] == "3.50"
    assert any("lengths of a full run differ (16, 8)" in note for note in found.notes)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_trials_that_cannot_be_compared_come_last_and_best_first(mode: str) -> None:
    rows = [row(name, curve=((2.0, value),), last_t=2.0) for name, value in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    rows += [row("gone", curve=((2.0, 0.5),), superseded=True), row("full", 9.0)]
    table = next(section for section in tables.sections(report(*rows, mode=mode)) if section.title == "Top trials")
    assert [cells[1] for cells in table.rows] == ["full", *("acb" if mode == "min" else "bca")]


@pytest.mark.parametrize(("r2", "distrusted"), [(-0.2, True), (0.5, False)])
def test_a_predictor_that_knows_nothing_is_distrusted_and_a_better_prediction_is_named(
    r2: float, distrusted: bool
) -> None:
    quality = CrossValidation(t=2, n=9, rmse=0.1, r2=-0.2, coverage=0.8)
    full = [row(f"f{i}", 1.0 + i) for i in range(3)]
    maybe = row("maybe", curve=((2.0, 1.5),), last_t=2.0, predicted=predicted(0.7, 0.05))
    left_out = dataclasses.replace(quality, r2=r2)
    made = report(*full, maybe, quality=quality, left_out=left_out, recommendation=best_of(full[0]))
    said = " ".join(tables.text(made).split())
    assert ("predicts no better than the mean" in said) == distrusted
    assert "Predicted to be better, not confirmed: trial maybe, 0.700 +- 0.050." in said
    assert f"finals have a standard deviation of {statistics.stdev((1, 2, 3)):.3f}." in said


def test_two_values_within_a_spread_are_told_apart() -> None:
    show = tables.decimals(report(row("a", 1.0), row("b", 1.02)))
    assert show(1.0) != show(1.001)


def test_plan_and_phases_in_numbers() -> None:
    rows = [
        row("s", last_t=2.0, charged=0.25, superseded=True),
        row("dead", status=TrialStatus.FAILED, charged=0.125),
        row("resumed", 1.0, promotes="s", resumed=True, charged=0.75),
        row("anew", 2.0, promotes="x", phase=Phase.CONFIRM),
        row("s2", last_t=2.0, charged=0.25),
        row("anew2", 3.0, promotes="y", phase=Phase.CONFIRM),
    ]
    plan = {"max_t": 8.0, "short_t": 2.0, "learn_short": 5, "learn_full": 3, "search_short": 11, "confirm": 7}
    made = report(*rows, plan=plan, budget={"total": 10.0, "spent": 2.125, "committed": 3.0, "by_phase": {}})
    assert ("short run", "to t = 2: 0.25 of a full run") in plan_table(made).rows
    table = phases_table(made)
    assert table.rows == (
        ("learn", "short", "5", "3", "1", "0.62"), ("learn", "full", "3", "1", "0", "0.75"),
        ("search", "short", "11", "0", "0", "0.00"), ("confirm", "full", "7", "2", "0", "2.00"),
        ("all", "", "", "6", "1", "3.38"),
    )  # fmt: skip
    assert table.notes[0] == "Spent, in full runs: 2.12 of 10; 7.88 left."
    assert "Promoted short runs: 3; 1 went on from a checkpoint, 2 were trained anew." in table.notes


# ---- files and pages


@pytest.fixture(scope="module")
def exported() -> Report:
    quality = CrossValidation(t=2, n=4, rmse=0.1, r2=0.9, coverage=0.8)
    bad = row("bad", 3.0, config={"x": math.nan}, charged=0.75, predicted=predicted(3.5, 0.25))
    good = row("good", 1.0, config={"x": 1.0}, charged=1.25)
    left_out = dataclasses.replace(quality, rmse=0.2)
    return report(
        bad, good, quality=quality, left_out=left_out, wall_s=12.5, recommendation=best_of(good), num_samples=9
    )


def test_fields_of_the_json(exported: Report) -> None:
    file = io.StringIO()
    export.write_json(exported, file)
    data = json.loads(file.getvalue(), parse_constant=pytest.fail)
    assert data["best_trial"] == "good"
    assert (data["predictor"]["rmse"], data["predictor_left_out"]["rmse"]) == (0.1, 0.2)
    assert data["facts"]["gain over the best LEARN run"] == "none: it is that run (good)"
    assert data["facts"]["cost"].startswith("2.00 ")
    assert [trial["config"]["x"] for trial in data["trials"]] == ["nan", 1.0]
    assert (data["num_samples"], data["wall_s"]) == (9, 12.5)


def test_columns_of_the_csv(exported: Report) -> None:
    file = io.StringIO()
    export.write_csv(exported, file)
    [bad, good] = csv.DictReader(io.StringIO(file.getvalue()))
    expected = {"t": 8, "last": 3, "final": 3, "predicted": 3.5, "predicted_stddev": 0.25, "predicted_low": 3.0,
                "predicted_high": 4.25, "cost": 0.75}  # fmt: skip
    assert {name: float(bad[name]) for name in expected} == expected
    assert {name for name, cell in good.items() if cell == ""} >= {"predicted", "predicted_low", "error", "promotes"}


def test_cells_of_the_page() -> None:
    trial = row("a", predicted=predicted(1.5), curve=((1.0, 2.0),), started=1000.0, ended=1600.0)
    html = page._trials(report(trial, pauses=((1100.0, 1400.0),)), "{:.2f}".format)
    cells = [part.split(">")[1].split("<")[0] for part in html.split("<td")[1:]]
    assert cells[5:11] == ["2.00", "1.50", "0.01", "", "1.00", "5.00"]
    assert "width:25.00%" in page._bar({"code": 0.25, "prose": 0.75})


# ---- predictions


def test_who_ended_early_is_predicted_from_all_its_reports_and_who_diverged_is_not() -> None:
    core = saved_runs.made({"x": tune.uniform(0, 1)}, budget=20).session.core
    for name, until in (("a", 8), ("b", 8), ("c", 8), ("early", 5), ("diverged", 5)):
        core.ask(name, full=True)
        for t in range(1, until + 1):
            off = core.trials[name].x[0]
            value = off + 1 / t + 0.05 * off * math.sin(3 * t)
            core.report(name, t, math.nan if (name, t) == ("diverged", 5) else value)
        core.tell(name, own_end=until == 8)
    found = predictions(core, left_out=False).trials
    assert set(found) == {"early"}
    full, early = [core.trials[name] for name in "abc"], core.trials["early"]
    features = core.space.features(np.array([trial.x for trial in full]))
    fitted = ScalingLawPredictor().fit(features, [trial.curve for trial in full], saved_runs.MAX_T)
    expected = fitted.predict(core.space.features(np.array([early.x])), [early.curve])
    low, high = expected.interval(0.9)
    got = found["early"]
    assert (got.mean, got.low, got.high) == pytest.approx((-expected.mean[0], -high[0], -low[0]))  # minimised
