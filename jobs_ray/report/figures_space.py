"""Figures of the search space: what the value depends on, and how data and model hang together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jobs_ray.report.experiment import Report, Row
from jobs_ray.report.figure_style import COLOURS, MUTED, SHARES, at, groups, label, style
from jobs_ray.report.sensitivity import Effect, Interaction
from jobs_ray.report.tables import decimals
from jobs_ray.space import Integer, Mixture, Real
from jobs_ray.space.base import is_number

_BARS = 60  # configurations in the mixture figure
_PANELS = 24  # parameters drawn one by one
_COLUMNS = 3
_LINES = 400  # configurations in parallel coordinates
_AXES = 14


def importance(effects: Sequence[Effect]) -> Any:
    """Share of the value's variance of each parameter: alone, and together with others."""
    import plotly.graph_objects as go

    shown = list(effects)[:_PANELS]
    names = [label(effect.name) for effect in shown]
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


def columns(report: Report) -> list[tuple[str, list[Any], bool]]:
    """(name, value of each trial in order, logarithmic) of every parameter and of every domain's weight."""
    found: list[tuple[str, list[Any], bool]] = []
    for block in report.space.blocks if report.space is not None else ():
        values = [at(row.config, block.name) for row in report.trials]
        parameter = block.parameter
        if isinstance(parameter, Mixture):
            found += [
                (f"{block.name}/{domain}", [weight(value, domain) for value in values], False)
                for domain in parameter.names
            ]
        else:
            found.append((block.name, values, isinstance(parameter, Real | Integer) and parameter.log))
    return found


def against_parameters(report: Report, effects: Sequence[Effect]) -> Any:
    """The confirmed or predicted value against each parameter, the most important first."""
    from plotly.subplots import make_subplots

    order = {effect.name: rank for rank, effect in enumerate(effects)}
    names = {name: (values, log) for name, values, log in columns(report)}
    # a domain has the rank of its mixture
    shown = sorted(names, key=lambda name: order.get(name, order.get(name.rpartition("/")[0], len(order))))[:_PANELS]
    lines = math.ceil(len(shown) / _COLUMNS)
    figure = make_subplots(
        rows=lines, cols=min(_COLUMNS, len(shown)), shared_yaxes=True, horizontal_spacing=0.04,
        vertical_spacing=min(0.25 / lines, 0.12) if lines > 1 else 0.0,
    )  # fmt: skip
    place = {row.trial_id: number for number, row in enumerate(report.trials)}
    show = decimals(report)
    for number, name in enumerate(shown):
        values, log = names[name]
        r, c = number // _COLUMNS + 1, number % _COLUMNS + 1
        for group, rows in groups(report, [row for row in report.trials if row.estimate is not None]).items():
            pairs = [(row, value) for row in rows if (value := _plain(values[place[row.trial_id]])) is not None]
            figure.add_scatter(
                x=[value for _, value in pairs], y=[row.estimate for row, _ in pairs], mode="markers", name=group,
                legendgroup=group, showlegend=not number,
                marker={"color": COLOURS[group], "size": 6, "line": {"width": 1.2},
                        "symbol": ["circle" if row.final is not None else "circle-open" for row, _ in pairs]},
                text=[f"trial {label(row.trial_id)}: {show(row.estimate or 0.0)}" for row, _ in pairs],
                hovertemplate=f"%{{text}}<br>{label(name)} %{{x}}<extra></extra>", row=r, col=c,
            )  # fmt: skip
        kind = "log" if log else None if all(is_number(v) for v in values if v is not None) else "category"
        wide = log and max(known := [v for v in values if is_number(v)]) > 30 * min(known)
        figure.update_xaxes(
            title_text=label(name, 20), title_standoff=4, type=kind, nticks=5, dtick=1 if wide else None, row=r, col=c
        )
    style(figure, height=120 + 210 * lines)
    for r in range(1, lines + 1):
        figure.update_yaxes(title_text=label(report.metric), row=r, col=1)
    return figure


def interaction(report: Report, found: Interaction) -> Any:
    """The model's mean over the weight of a domain and a parameter, the trials, and the best value at each weight."""
    import plotly.graph_objects as go

    show = decimals(report)
    numeric = all(is_number(value) for value in found.values)
    y: list[Any] = list(found.values) if numeric else [label(value) for value in found.values]
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
        (weight(at(row.config, found.mixture), found.domain), value, row)
        for row in report.best_first()
        if (value := _plain(at(row.config, found.parameter))) is not None
    ]
    figure.add_scatter(
        x=[w for w, _, _ in trials], y=[value if numeric else label(value) for _, value, _ in trials], mode="markers",
        marker={"color": "white", "size": 6, "line": {"color": "black", "width": 1}}, name="trials",
        text=[f"trial {label(row.trial_id)}: {show(row.estimate or 0.0)}" for _, _, row in trials],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    style(figure, f"weight of {found.domain} in {found.mixture}", found.parameter, height=450)
    # the digits between powers of ten would crowd a long axis
    return figure.update_yaxes(type="log" if log else "linear" if numeric else "category", dtick=1 if log else None)


def parallel(report: Report) -> Any:
    """Every configuration as a line through its parameters, coloured by its value."""
    import plotly.graph_objects as go

    rows = report.best_first()[:_LINES]
    place = {row.trial_id: number for number, row in enumerate(report.trials)}
    dimensions: list[dict[str, Any]] = []
    for name, values, log in columns(report)[: _AXES - 1]:
        mine = [_plain(values[place[row.trial_id]]) for row in rows]
        if all(value is None for value in mine):
            continue
        short = label(name.removeprefix(f"{report.mixtures[0]}/") if len(report.mixtures) == 1 else name, 16)
        dimensions.append({"label": short, **_axis(mine, log)})
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


def _axis(values: Sequence[Any], log: bool) -> dict[str, Any]:
    """One axis of parallel coordinates: numbers, powers of ten, or choices by number; what is absent lies at 0."""
    if all(is_number(value) for value in values if value is not None):
        numbers = [float(value) if value is not None else math.nan for value in values]
        if not log:
            return {"values": numbers}
        exponents = [math.log10(number) if number > 0 else math.nan for number in numbers]
        known = [exponent for exponent in exponents if not math.isnan(exponent)]
        low, high = min(known), max(known)
        ticks = [low + (high - low) * i / 4 for i in range(5)]
        return {"values": exponents, "tickvals": ticks, "ticktext": [f"{10**tick:.2g}" for tick in ticks]}
    names = list(dict.fromkeys(label(value, 12) for value in values))
    return {
        "values": [names.index(label(value, 12)) for value in values],
        "tickvals": list(range(len(names))),
        "ticktext": names,
    }


def mixtures(report: Report, name: str, rows: Sequence[Row]) -> Any:
    """The mixture of each configuration as a stacked bar, best first."""
    import plotly.graph_objects as go

    show = decimals(report)
    rows = rows[:_BARS]
    labels = [f"{rank}{'*' if row.final is not None else ''}" for rank, row in enumerate(rows, 1)]
    hover = [f"trial {label(row.trial_id)}: {show(row.estimate or 0.0)}" for row in rows]
    domains = list(dict.fromkeys(domain for row in rows for domain in at(row.config, name)))
    figure = go.Figure()
    for i, domain in enumerate(domains):
        figure.add_bar(
            x=labels, y=[weight(at(row.config, name), domain) for row in rows], name=label(domain), text=hover,
            textposition="none", marker={"color": SHARES[i % len(SHARES)]},
            hovertemplate=f"%{{text}}<br>{label(domain)} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    style(figure, "configuration, best first", "weight")
    figure.update_yaxes(range=[0, 1])
    figure.update_xaxes(type="category", nticks=20)
    return figure.update_layout(barmode="stack", bargap=0.15, legend_traceorder="normal")


def weight(mixture: Any, domain: str) -> float:
    """The weight of a domain; what is below a thousandth is shown as 0."""
    value = mixture.get(domain, 0.0) if isinstance(mixture, Mapping) else 0.0
    return round(float(value), 3) if is_number(value) else 0.0


def _plain(value: Any) -> Any:
    """Numbers as they are, anything else as the text that an axis shows; None stays None."""
    return value if value is None or (is_number(value) and not isinstance(value, bool)) else label(value, 20)
