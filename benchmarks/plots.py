"""One page of plots of `compare`: regret against budget by family, average ranks, and anytime curves."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Array
from benchmarks.ranking import Records, by_family, order, rank, shared

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")


def write_plots(records: Records, path: Path) -> None:
    """Of the runs that every method has. Needs plotly; the page loads nothing from elsewhere.

    Raises:
        ValueError: there is no such run.
    """
    records = shared(records)
    if not records:
        raise ValueError("there is no run that every method has: nothing to draw")
    figures = [regret_by_budget(records), anytime(records)]
    if (diagram := ranks(records)) is not None:
        figures.insert(1, diagram)
    parts = [f.to_html(full_html=False, include_plotlyjs=(i == 0)) for i, f in enumerate(figures)]
    path.write_text(f"<!doctype html><meta charset='utf-8'><title>compare</title>{''.join(parts)}", encoding="utf-8")


def colour(methods: list[str], method: str) -> str:
    return COLOURS[methods.index(method) % len(COLOURS)]


def regret_by_budget(records: Records) -> Any:
    """A panel a family: mean regret +- standard error against the budget, a line a method."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    families, methods = order(records, "family"), order(records, "method")
    budgets = sorted({r["budget"] for r in records})
    cells = {budget: by_family(records, budget) for budget in budgets}
    columns = 4
    figure = make_subplots(rows=-(-len(families) // columns), cols=columns, subplot_titles=families)
    for i, family in enumerate(families):
        for method in methods:
            own = [(b, cells[b][family, method]) for b in budgets if (family, method) in cells[b]]
            line = Scatter(
                x=[b for b, _ in own], y=[c.mean for _, c in own], error_y={"array": [c.error for _, c in own]},
                name=method, legendgroup=method, showlegend=i == 0, line={"color": colour(methods, method)},
            )  # fmt: skip
            figure.add_trace(line, row=i // columns + 1, col=i % columns + 1)
    figure.update_xaxes(type="log", tickvals=budgets)
    figure.update_layout(
        title="Normalised regret against budget (full runs)", height=260 * -(-len(families) // columns)
    )
    return figure


def ranks(records: Records) -> Any:
    """Average rank of each method; the bar at the top is the critical difference. None with fewer than two blocks."""
    from plotly.graph_objects import Figure, Scatter

    methods = order(records, "method")
    placed = rank(records)
    if placed is None:
        return None
    ordered = sorted(placed.ranks.items(), key=lambda item: item[1])
    first = ordered[0][1]
    figure = Figure()
    for i, (method, value) in enumerate(ordered):
        figure.add_trace(Scatter(
            x=[value], y=[-i], mode="markers+text", text=[f"{method} {value:.2f}"], textposition="middle right",
            marker={"color": colour(methods, method), "size": 12}, showlegend=False,
        ))  # fmt: skip
    figure.add_trace(Scatter(
        x=[first, first + placed.critical], y=[1, 1], mode="lines+text", text=["", f"CD {placed.critical:.2f}"],
        textposition="middle right", line={"width": 4, "color": "black"}, showlegend=False,
    ))  # fmt: skip
    title = f"Average rank over {placed.blocks} instances, Friedman p = {placed.p:.2g}; left is better"
    figure.update_layout(title=title, yaxis={"visible": False}, xaxis_title="average rank")
    return figure


def at_times(points: list[tuple[float, float]], grid: Array) -> Array:
    """Regret of the recommendation at each spent budget of the grid; 1 (the median) before the first point."""
    spent = np.array([p[0] for p in points])
    values = np.concatenate([[1.0], [p[1] for p in points]])
    return np.asarray(values[np.searchsorted(spent, grid + 1e-9, side="right")])


def anytime(records: Records) -> Any:
    """Regret of the recommendation while the largest budget is being spent, mean of the families' means."""
    from plotly.graph_objects import Figure, Scatter

    budget = max(r["budget"] for r in records)
    grid = np.linspace(0, budget, 81)
    methods = order(records, "method")
    curves: dict[tuple[str, str], list[Array]] = defaultdict(list)
    for r in records:
        if r["budget"] == budget:
            curves[r["method"], r["family"]].append(at_times(r["points"], grid))
    figure = Figure()
    for method in methods:
        own = [np.mean(v, axis=0) for (m, _), v in curves.items() if m == method]
        if own:
            figure.add_trace(
                Scatter(x=grid, y=np.mean(own, axis=0), name=method, line={"color": colour(methods, method)})
            )
    title = f"Regret of the recommendation against what is spent, budget {budget:g}"
    figure.update_layout(title=title, xaxis_title="full runs spent", yaxis_title="mean normalised regret")
    return figure
