"""What the figures of the trials and of their budget show, on reports made by hand."""

from __future__ import annotations

import pytest
from report_rows import predicted, report, row

from jobs_ray.report import figures_trials
from jobs_ray.report.compare import best_against_cost, compare


def test_a_wide_range_of_values_has_a_logarithmic_axis() -> None:
    for last, kind in ((1.0, "linear"), (0.001, "log")):
        figure = figures_trials.curves(report(row("a", curve=((1.0, 2.0), (2.0, last)))))
        assert figure.layout.yaxis.type == kind


def test_error_bars_reach_the_ends_of_the_intervals() -> None:
    made = report(row("full", 1.0, predicted=predicted(1.1, 0.1)), row("short", predicted=predicted(1.1, 0.1)))
    [short] = [trace for trace in figures_trials.curves(made).data if (trace.name or "").startswith("predicted")]
    [full] = [trace for trace in figures_trials.calibration(made, made.trials[:1]).data if trace.name == "learn"]
    for trace in (short, full):
        assert (trace.error_y.array[0], trace.error_y.arrayminus[0]) == pytest.approx((0.3, 0.2))


def test_the_best_so_far_of_a_maximised_metric_rises() -> None:
    made = report(*(row(str(i), value) for i, value in enumerate((0.2, 0.1, 0.5))), mode="max")
    assert figures_trials.best_so_far(made) == [(1, 0.2), (3, 0.5), (3, 0.5)]


def test_an_observation_from_elsewhere_is_in_neither_table_nor_figure_of_a_comparison() -> None:
    """Naive: the line begins with a value that the search did not find; a report of its own shows it."""
    made = report(row("observed", 0.1, observed=True, charged=0.0), row("a", 1.0), row("b", 0.8))
    [line] = best_against_cost([made]).data
    assert list(zip(line.x, line.y, strict=True)) == [(1, 1.0), (2, 0.8), (2, 0.8)]
    assert compare([made]).rows[0][2] == "0.800"
    assert figures_trials.best_so_far(made) == [(0, 0.1), (2, 0.1)]
    [nothing] = best_against_cost([report(made.trials[0])]).data
    assert list(nothing.x) == []
