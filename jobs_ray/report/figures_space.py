"""Figures of the search space: what the value depends on, and how data and model hang together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jobs_ray.report.experiment import Report, Row
from jobs_ray.report.figure_style import COLOURS, MUTED, SHARES, cut, groups, label, labels, style
from jobs_ray.report.figures_columns import Column, columns, step
from jobs_ray.report.sensitivity import Effect, Interaction
from jobs_ray.report.tables import decimals

PANELS = 24
"""Parameters drawn one by one."""

AXES = 13
"""Parameters in parallel coordinates."""

LINES = 400
"""Configurations in parallel coordinates."""

_BARS = 60  # configurations in the mixture figure
_COLUMNS = 3


def importance(effects: Sequence[Effect]) -> Any:
    """Share of the value's variance of each parameter: alone, and together with others."""
    import plotly.graph_objects as go

    shown = list(effects)[:PANELS]
    names = labels([effect.name for effect in shown])
    figure = go.Figure()
    for name, colour, values in (
        ("alone", "#0072B2", [effect.alone for effect in shown]),
        ("together with others", "#E69F00", [effect.total - effect.alone for effect in shown]),
    ):
        figure.add_bar(
            y=names, x=values, orientation="h", name=name, marker={"color": colour},
            hovertemplate="%{y}: %{x:.0%}<extra></extra>",
        )  # fmt: skip
    style(figure, "share of the variance of the value", height=150 + 30 * len(shown))
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", type="category")
    return figure.update_layout(barmode="stack", legend_traceorder="normal")


def against_parameters(report: Report, rows: Sequence[Row], shown: Sequence[Column]) -> Any:
    """The confirmed or predicted value of each row against each of the parameters."""
    from plotly.subplots import make_subplots

    lines = math.ceil(len(shown) / _COLUMNS)
    figure = make_subplots(
        rows=lines, cols=min(_COLUMNS, len(shown)), shared_yaxes=True, horizontal_spacing=0.04,
        vertical_spacing=min(0.25 / lines, 0.12) if lines > 1 else 0.0,
    )  # fmt: skip
    show = decimals(report)
    in_legend: set[str] = set()
    titles = labels([column.name for column in shown], 20)
    for number, (column, title) in enumerate(zip(shown, titles, strict=True)):
        r, c = number // _COLUMNS + 1, number % _COLUMNS + 1
        x = {row.trial_id: value for row, value in zip(rows, column.shown(20), strict=True) if value is not None}
        for group, mine in groups(report, [row for row in rows if row.trial_id in x]).items():
            figure.add_scatter(
                x=[x[row.trial_id] for row in mine], y=[row.estimate for row in mine], mode="markers", name=group,
                legendgroup=group, showlegend=group not in in_legend,
                marker={"color": COLOURS[group], "size": 6, "line": {"width": 1.2},
                        "symbol": ["circle" if row.final is not None else "circle-open" for row in mine]},
                text=[f"trial {label(row.trial_id)}: {show(row.estimate or 0.0)}" for row in mine],
                hovertemplate=f"%{{text}}<br>{label(column.name)} %{{x}}<extra></extra>", row=r, col=c,
            )  # fmt: skip
            in_legend.add(group)
        axis: dict[str, Any] = {"type": "log" if column.log else None}
        if column.options:
            axis = {"type": "category", "categoryorder": "array", "categoryarray": labels(column.options, 20)}
        known = [value for value in column.values if value is not None]
        wide = column.log and max(known) > 30 * min(known)
        figure.update_xaxes(
            title_text=title, title_standoff=4, nticks=5, dtick=1 if wide else None, row=r, col=c, **axis
        )
    style(figure, height=120 + 210 * lines)
    for r in range(1, lines + 1):
        figure.update_yaxes(title_text=label(report.metric), row=r, col=1)
    return figure


def interaction(report: Report, found: Interaction) -> Any:
    """The model's mean over the weight of a domain and a parameter, the trials, and the best value at each weight."""
    import plotly.graph_objects as go

    show = decimals(report)
    rows = report.best_first()
    by_name = {column.name: column for column in columns(report, rows)}
    weights, values = by_name[f"{found.mixture}/{found.domain}"], by_name[found.parameter]
    numeric = not values.options
    y: list[Any] = labels(values.options, 20)
    if numeric:
        unit = step(report, found.parameter, rows, values)
        y = [unit * value for value in found.values]
    log = numeric and min(y) > 0 and max(y) > 30 * min(y)
    figure = go.Figure()
    figure.add_heatmap(
        x=found.weights, y=y, z=found.mean, colorscale="Cividis", reversescale=report.mode == "min",
        colorbar={"title": {"text": label(report.metric, 16)}, "thickness": 12},
        hovertemplate=f"{label(found.domain)} %{{x:.2f}}<br>{label(found.parameter)} %{{y}}<br>%{{z}}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=found.weights, y=[y[i] for i in found.best], mode="lines", line={"color": "#D55E00", "width": 3},
        name=f"best {label(found.parameter)} at each weight", hoverinfo="skip",
    )  # fmt: skip
    trials = [
        (w, value, row)
        for w, value, row in zip(weights.values, values.shown(20), rows, strict=True)
        if w is not None and value is not None
    ]
    figure.add_scatter(
        x=[w for w, _, _ in trials], y=[value for _, value, _ in trials], mode="markers",
        marker={"color": "white", "size": 6, "line": {"color": "black", "width": 1}}, name="trials",
        text=[f"trial {label(row.trial_id)}: {show(row.estimate or 0.0)}" for _, _, row in trials],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    style(figure, f"weight of {found.domain} in {found.mixture}", found.parameter, height=450)
    # the digits between powers of ten would crowd a long axis
    return figure.update_yaxes(type="log" if log else "linear" if numeric else "category", dtick=1 if log else None)


def parallel(report: Report, rows: Sequence[Row], shown: Sequence[Column]) -> Any:
    """Every row as a line through these parameters, coloured by its value."""
    import plotly.graph_objects as go

    mixtures = {column.block for column in shown if column.domain is not None}
    names = [(column.domain if len(mixtures) == 1 else None) or column.name for column in shown]
    dimensions = [{"label": name, **_axis(column)} for name, column in zip(labels(names, 16), shown, strict=True)]
    estimates = [row.estimate or 0.0 for row in rows]
    dimensions.append({"label": label(report.metric, 16), "values": estimates})
    figure = go.Figure()
    figure.add_parcoords(
        dimensions=dimensions, labelangle=-25, labelside="bottom",
        line={"color": estimates, "colorscale": "Cividis", "reversescale": report.mode == "min"},
        rangefont={"color": "rgba(0,0,0,0)"}, tickfont={"color": MUTED}, labelfont={"color": MUTED, "size": 12},
    )  # fmt: skip
    style(figure, height=460)
    return figure.update_layout(margin={"b": 90, "l": 50, "r": 50, "t": 25})


def _axis(column: Column) -> dict[str, Any]:
    """One axis: numbers, powers of ten, or options by number; rows without the parameter pass below all others.

    plotly shows these ticks to the letter, and lets go of the second of two that read alike.
    """
    values: list[float | None] = list(column.values)
    if column.log:
        values = [None if value is None else math.log10(value) for value in values]
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    below = low - ((high - low) / 6 or 1.0)
    ticks: dict[str, float] = {}
    if column.options:
        low, high = 0.0, len(column.options) - 1.0
        below, ticks = -1.0, {text: float(number) for number, text in enumerate(cut(column.options, 12))}
    elif column.log or len(known) < len(values):  # else plotly finds round numbers
        places = [low + (high - low) * i / 4 for i in range(5)]
        for place in places:  # a narrow axis has ticks that read alike
            ticks.setdefault(f"{10**place if column.log else place:.3g}", place)
    if len(known) < len(values):
        low, ticks = below, {"(absent)": below} | ticks
    axis: dict[str, Any] = {"values": [below if value is None else value for value in values]}
    if ticks:
        axis |= {"tickvals": list(ticks.values()), "ticktext": list(ticks), "range": [low, high]}
    return axis


def mixtures(report: Report, rows: Sequence[Row], weights: Sequence[Column]) -> Any:
    """One mixture, the weights of its domains, as a stacked bar of each row that has it, best first."""
    import plotly.graph_objects as go

    show = decimals(report)
    there = [number for number, value in enumerate(weights[0].values) if value is not None][:_BARS]
    ranks = [f"{rank}{'*' if rows[i].final is not None else ''}" for rank, i in enumerate(there, 1)]
    hover = [f"trial {label(rows[i].trial_id)}: {show(rows[i].estimate or 0.0)}" for i in there]
    names = labels([column.domain for column in weights])
    figure = go.Figure()
    for number, (column, name) in enumerate(zip(weights, names, strict=True)):
        figure.add_bar(
            x=ranks, y=[column.values[i] for i in there], name=name, text=hover,
            textposition="none", marker={"color": SHARES[number % len(SHARES)]},
            hovertemplate=f"%{{text}}<br>{name} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    style(figure, "configuration, best first", "weight")
    figure.update_yaxes(range=[0, 1])
    figure.update_xaxes(type="category", nticks=20)
    return figure.update_layout(barmode="stack", bargap=0.15, legend_traceorder="normal")
