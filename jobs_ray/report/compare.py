"""Several experiments side by side: what each found for what it cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs_ray.report.answer import duration
from jobs_ray.report.experiment import Report, Row
from jobs_ray.report.figure_style import SHARES, label, style
from jobs_ray.report.figures_trials import best_so_far
from jobs_ray.report.tables import config_line, decimals
from jobs_ray.report.terminal import Section


def names(reports: Sequence[Report]) -> list[str]:
    """Short names that differ: the last parts of the folders' paths, as many as it takes."""
    parts = [Path(report.folder).parts for report in reports]
    for count in range(1, max(map(len, parts)) + 1):
        found = ["/".join(part[-count:]) for part in parts]
        if len(set(found)) == len(found):
            return found
    return [f"{number}: {report.folder}" for number, report in enumerate(reports, 1)]


def compare(reports: Sequence[Report]) -> Section:
    """One row an experiment, in the order given; a note where they cannot be compared."""
    show = decimals(reports[0])
    rows, details = [], []
    for name, report in zip(names(reports), reports, strict=True):
        trials = _own(report)
        best = next((row for row in report.best_first() if row.final is not None and not row.observed), None)
        full = sum(row.final is not None for row in trials)
        wall = "-" if report.wall_s is None else duration(report.wall_s)
        value = "-" if best is None or best.final is None else show(best.final)
        rows.append((name, report.searcher, value, f"{report.budget['spent']:.2f}", str(len(trials)), str(full), wall))
        details.append("no trial has ended at full length" if best is None else config_line(best, report))
    header = ("experiment", "searcher", f"best {reports[0].metric}", "cost", "trials", "full", "time")
    units = " and ".join(sorted({report.unit for report in reports}))
    own = " of each experiment's own length" if units == "full runs" else ""
    notes = [f"best: of the trials that trained to the end. cost: in {units}{own}."]
    notes += [
        f"Not comparable: {what} differ ({', '.join(sorted(map(str, values)))})."
        for what, values in (
            ("metrics", {report.metric for report in reports}),
            ("modes", {report.mode for report in reports}),
            ("units of cost", {report.unit for report in reports}),
            ("lengths of a full run", {_length(report) for report in reports}),
        )
        if len(values) > 1
    ]
    return Section("Experiments compared", header, tuple(rows), tuple(notes), tuple(details), left=2)


def _own(report: Report) -> tuple[Row, ...]:
    """Observations from elsewhere are nothing that the search found for its cost."""
    return tuple(row for row in report.trials if not row.observed)


def _length(report: Report) -> str:
    length = report.plan["max_t"] if report.plan else max((row.last_t for row in report.trials), default=0.0)
    return f"{length:g}"


def best_against_cost(reports: Sequence[Report]) -> Any:
    """Best confirmed value against budget spent, one line an experiment."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, (name, report) in enumerate(zip(names(reports), reports, strict=True)):
        steps = best_so_far(replace(report, trials=_own(report)))
        figure.add_scatter(
            x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines+markers", name=label(name),
            line={"shape": "hv", "color": SHARES[number % len(SHARES)]}, marker={"size": 5},
        )  # fmt: skip
    units = " or ".join(sorted({report.unit for report in reports}))
    style(figure, f"budget spent ({units})", f"best confirmed {reports[0].metric}")
    return figure.update_layout(showlegend=True)


def write_comparison(reports: Sequence[Report], path: str | os.PathLike[str]) -> Path:
    """The table and the figure as a page. Raises ImportError without plotly, OSError when it cannot be written."""
    from jobs_ray.report.page import figure_html, section_html, write_page

    note = "Trials in the order they were asked for, each charged for all it trained."
    body = [
        "<h1>Experiments compared</h1>",
        section_html(compare(reports)),
        figure_html("Best confirmed value against cost", note, best_against_cost(reports)),
    ]
    return write_page("Experiments compared", body, path)
