"""Figures of the trials: curves, predictions against what came out, budget, time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jobs_ray.report.experiment import Report, Row
from jobs_ray.report.figure_style import COLOURS, INK, MUTED, groups, label, style
from jobs_ray.report.tables import decimals
from jobs_ray.trials import TrialStatus

_WIDE = 20.0  # ratio of the largest and the smallest value from which a logarithmic axis shows more
_PREDICTED = 120  # predicted finals drawn, best first


def curves(report: Report) -> Any:
    """Learning curves on the left; on the right the predicted final of every short run with its 90 % interval."""
    from plotly.subplots import make_subplots

    predicted = [row for row in report.best_first() if row.predicted is not None and row.final is None][:_PREDICTED]
    figure = make_subplots(
        rows=1, cols=2 if predicted else 1, shared_yaxes=True, horizontal_spacing=0.03,
        column_widths=[0.66, 0.34] if predicted else [1.0],
    )  # fmt: skip
    show = decimals(report)
    hover = f"trial %{{text}}<br>{label(report.time_attr)} %{{x}}<br>{label(report.metric)} %{{y}}<extra></extra>"
    for name, rows in groups(report).items():
        drawn = [row for row in rows if row.curve]
        x: list[float | None] = []
        y: list[float | None] = []
        names: list[str] = []
        for row in drawn:  # one trace a phase, with gaps: thousands of trials stay quick
            x += [*(t for t, _ in row.curve), None]
            y += [*(value for _, value in row.curve), None]
            names += [label(row.trial_id)] * (len(row.curve) + 1)
        short = all(len(row.curve) == 1 for row in drawn)
        figure.add_scatter(
            x=x, y=y, text=names, mode="lines+markers" if short or len(drawn) <= 60 else "lines", opacity=0.75,
            line={"color": COLOURS[name], "width": 1.5}, marker={"size": 4}, hovertemplate=hover,
            name=f"{name} ({len(drawn)})", row=1, col=1,
        )  # fmt: skip
    finals = [row for row in report.trials if row.final is not None and row.curve]
    if finals:
        figure.add_scatter(
            x=[row.last_t for row in finals], y=[row.final for row in finals], mode="markers", name="final", meta="ink",
            marker={"symbol": "diamond-open", "size": 9, "color": INK, "line": {"width": 1.5}},
            text=[f"trial {label(row.trial_id)}: {show(row.final or 0.0)}" for row in finals],
            hovertemplate="%{text}<extra></extra>", row=1, col=1,
        )  # fmt: skip
    for name, rows in groups(report, predicted).items():
        places = [(predicted.index(row) + 1, row.trial_id, row.predicted) for row in rows if row.predicted]
        figure.add_scatter(
            x=[rank for rank, _, _ in places], y=[p.mean for _, _, p in places], mode="markers", showlegend=False,
            marker={"color": COLOURS[name], "size": 5}, name=f"predicted ({name})",
            error_y={"type": "data", "symmetric": False, "thickness": 1, "width": 0,
                     "array": [p.high - p.mean for _, _, p in places],
                     "arrayminus": [p.mean - p.low for _, _, p in places]},
            text=[f"trial {label(i)}: {show(p.mean)} [{show(p.low)}, {show(p.high)}]" for _, i, p in places],
            hovertemplate="%{text}<extra></extra>", row=1, col=2,
        )  # fmt: skip
    style(figure)
    values = [value for row in report.trials for _, value in row.curve]
    wide = min(values) > 0 and max(values) > _WIDE * min(values)
    scale = " (log scale)" if wide else ""
    figure.update_yaxes(type="log" if wide else "linear", title_text=f"{label(report.metric)}{scale}", row=1, col=1)
    figure.update_xaxes(title_text=label(report.time_attr), row=1, col=1)
    if predicted:
        figure.update_yaxes(type="log" if wide else "linear", row=1, col=2)
        figure.update_xaxes(title_text="predicted", showticklabels=False, row=1, col=2)
    return figure


def missed(rows: Sequence[Row]) -> list[Row]:
    """Full runs whose final lies outside the 90 % interval of its prediction."""
    return [
        row for row in rows
        if row.final is not None and row.predicted is not None
        and not row.predicted.low <= row.final <= row.predicted.high
    ]  # fmt: skip


def calibration_sentence(report: Report, rows: Sequence[Row]) -> str:
    """How the predictions turned out, with the worst of them by name."""
    show, outside = decimals(report), missed(rows)
    of = f"{len(outside)} of {len(rows)} finals lie outside their 90 % interval (about {0.1 * len(rows):.1f} expected)"
    if not outside:
        return f"{of}."

    def off(row: Row) -> float:
        assert row.predicted is not None
        assert row.final is not None
        half = (row.predicted.high - row.predicted.low) / 2.0
        return abs(row.final - row.predicted.mean) / half if half else math.inf

    worst = max(outside, key=off)
    assert worst.predicted is not None
    return (
        f"{of}. The farthest: trial {worst.trial_id} was predicted {show(worst.predicted.mean)} "
        f"[{show(worst.predicted.low)}, {show(worst.predicted.high)}] and came out at {show(worst.final or 0.0)}, "
        f"{off(worst):.1f} times the half width of its interval away."
    )


def calibration(report: Report, rows: Sequence[Row]) -> Any:
    """Predicted (with interval) against confirmed, on equal axes; misses are crossed."""
    import plotly.graph_objects as go

    figure = go.Figure()
    both = [(row, row.predicted, row.final) for row in rows if row.predicted is not None and row.final is not None]
    ends = [v for _, p, final in both for v in (final, p.low, p.high)]
    margin = 0.04 * (max(ends) - min(ends)) or 0.05 * abs(ends[0]) or 1.0
    reach = [min(ends) - margin, max(ends) + margin]
    figure.add_scatter(
        x=reach, y=reach, mode="lines", name="predicted = confirmed",
        line={"color": MUTED, "dash": "dash", "width": 1}, hoverinfo="skip",
    )  # fmt: skip
    for name, mine in groups(report, [row for row, _, _ in both]).items():
        found = [item for item in both if item[0] in mine]
        figure.add_scatter(
            x=[final for _, _, final in found], y=[p.mean for _, p, _ in found], mode="markers", name=name,
            marker={"color": COLOURS[name], "size": 8},
            error_y={"type": "data", "symmetric": False, "thickness": 1.2, "width": 4,
                     "array": [p.high - p.mean for _, p, _ in found],
                     "arrayminus": [p.mean - p.low for _, p, _ in found]},
            text=[label(row.trial_id) for row, _, _ in found],
            hovertemplate="trial %{text}<br>confirmed %{x}<br>predicted %{y}<extra></extra>",
        )  # fmt: skip
    outside = missed(rows)
    if outside:
        figure.add_scatter(
            x=[row.final for row in outside], y=[row.predicted.mean for row in outside if row.predicted],
            mode="markers", name="outside its interval", hoverinfo="skip", meta="ink",
            marker={"symbol": "x-thin-open", "size": 15, "color": INK, "line": {"width": 2}},
        )  # fmt: skip
    style(figure, f"confirmed final {report.metric}", f"predicted final {report.metric}", height=520)
    figure.update_xaxes(range=reach, constrain="domain")
    return figure.update_yaxes(range=reach, scaleanchor="x", scaleratio=1, constrain="domain")


def progress(report: Report) -> Any:
    """Best confirmed value against budget spent, with every full run."""
    import plotly.graph_objects as go

    points, steps = [], best_so_far(report)
    spent = 0.0
    for row in report.trials:
        spent += row.charged
        if row.final is not None:
            points.append((spent, row.final, row))
    total = report.budget["total"]
    figure = go.Figure()
    figure.add_scatter(
        x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines", line={"shape": "hv", "color": INK},
        name="best confirmed", hoverinfo="skip", meta="ink",
    )  # fmt: skip
    for name in groups(report):
        mine = [point for point in points if point[2].group == name]
        if mine:
            figure.add_scatter(
                x=[x for x, _, _ in mine], y=[y for _, y, _ in mine], mode="markers", name=f"full run ({name})",
                marker={"color": COLOURS[name], "size": 8}, text=[label(row.trial_id) for _, _, row in mine],
                hovertemplate="trial %{text}<br>after %{x:.2f} " + label(report.unit) + "<br>%{y}<extra></extra>",
            )  # fmt: skip
    style(figure, f"budget spent ({report.unit})", f"final {report.metric}")
    if total is not None:
        figure.add_vline(
            x=total, line={"color": MUTED, "dash": "dot"}, annotation_text="budget", annotation_position="top left"
        )
    return figure.update_xaxes(range=[0.0, 1.04 * max(spent, total or 0.0) or 1.0])


def best_so_far(report: Report) -> list[tuple[float, float]]:
    """`(budget spent, best confirmed value)` at each improvement, and at the end; trials in the order asked."""
    spent, best = 0.0, -math.inf
    steps: list[tuple[float, float]] = []
    for row in report.trials:
        spent += row.charged
        if row.final is not None and report.sign * row.final > best:
            best = report.sign * row.final
            steps.append((spent, row.final))
    return [*steps, (spent, steps[-1][1])] if steps else []


def budget(report: Report) -> Any:
    """What each phase cost, by what it bought."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = groups(report)
    for kind, colour in (("short runs", "#56B4E9"), ("full runs", "#009E73"), ("failed", "#D55E00")):
        cost = [sum(row.charged for row in rows if _kind(row) == kind) for rows in names.values()]
        count = [sum(_kind(row) == kind for row in rows) for rows in names.values()]
        if any(count):
            figure.add_bar(
                y=list(names), x=cost, orientation="h", name=kind, marker={"color": colour},
                text=[str(n) if n else "" for n in count], textposition="inside", insidetextanchor="middle",
                hovertemplate="%{y}: %{text} trials, %{x:.2f} " + label(report.unit) + "<extra></extra>",
            )  # fmt: skip
    style(figure, f"cost in {report.unit} (numbers: trials)", height=140 + 50 * len(names))
    figure.update_yaxes(autorange="reversed", title_text="")
    return figure.update_layout(barmode="stack", legend_traceorder="normal")


def _kind(row: Row) -> str:
    if row.status is TrialStatus.FAILED:
        return "failed"
    return "full runs" if row.full else "short runs"


def timeline(report: Report) -> Any:
    """When each trial ran, from its start to its last report, in minutes of a driver since the first one started."""
    import plotly.graph_objects as go

    figure = go.Figure()
    start = min(row.started for row in report.trials if row.started is not None)
    numbers = {row.trial_id: number for number, row in enumerate(report.trials, 1)}
    for name, rows in groups(report).items():
        ran = [(row, row.started, row.ended) for row in rows if row.started is not None and row.ended is not None]
        if ran:
            figure.add_bar(
                base=[report.lived_s(start, begin) / 60.0 for _, begin, _ in ran], orientation="h", name=name,
                x=[report.lived_s(begin, end) / 60.0 for _, begin, end in ran],
                y=[numbers[row.trial_id] for row, _, _ in ran],
                marker={"color": COLOURS[name], "line": {"width": 0}}, text=[label(row.trial_id) for row, _, _ in ran],
                textposition="none", hovertemplate="trial %{text}<br>%{x:.2f} minutes from %{base:.2f}<extra></extra>",
            )  # fmt: skip
    style(figure, "minutes since the first trial started", "trial, in the order asked for")
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(barmode="overlay", bargap=0.1)
