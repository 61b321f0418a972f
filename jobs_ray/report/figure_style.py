"""How every figure of the report looks, and how text from a folder gets into one."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from jobs_ray.report.experiment import Report, Row
from jobs_ray.report.terminal import visible

# Okabe and Ito's colours, told apart by nearly everybody, on white and on black
COLOURS = {
    "learn": "#0072B2", "search": "#E69F00", "confirm": "#009E73",
    "trained to the end": "#009E73", "ended earlier": "#0072B2",
}  # fmt: skip
SHARES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999", "#332288", "#117733")
INK = "#444444"
"""The colour of what belongs to no group: the page turns it light on a dark background (`page.py`)."""

MUTED = "#888888"
_LONG = 34


def label(text: Any, longest: int = _LONG) -> str:
    """Text for a figure: plotly reads some HTML, and the text may come from anybody. Long ones lose their beginning."""
    plain = visible(str(text))
    return escape(plain if len(plain) <= longest else f"...{plain[3 - longest :]}")


def groups(report: Report, rows: list[Row] | None = None) -> dict[str, list[Row]]:
    """The rows (all, unless given) by phase, or in an experiment without phases by how they ended; in a fixed order."""
    chosen = report.trials if rows is None else rows
    found = {name: [row for row in chosen if row.group == name] for name in COLOURS}
    return {name: mine for name, mine in found.items() if mine}


def at(config: Any, path: str) -> Any:
    """The value at a path `a/b`; also in a configuration whose own key is `a/b`."""
    if isinstance(config, Mapping) and path in config:
        return config[path]
    for key in path.split("/"):
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def style(figure: Any, x: str | None = None, y: str | None = None, height: int = 430) -> Any:
    """Colours that suit a light and a dark page, the legend below: a narrow screen keeps its width for the figure.

    x, y: titles of all axes, as text that may come from anybody; None leaves them.
    """
    grid = {
        "gridcolor": "rgba(128,128,128,.22)",
        "linecolor": MUTED,
        "zeroline": False,
        "automargin": True,
        "exponentformat": "e",
    }
    figure.update_xaxes(**grid, **({} if x is None else {"title_text": label(x, 60)}))
    figure.update_yaxes(**grid, **({} if y is None else {"title_text": label(y, 60)}))
    return figure.update_layout(
        height=height, plot_bgcolor="rgba(0,0,0,0)", paper_bgcolor="rgba(0,0,0,0)",
        margin={"t": 30, "r": 15, "b": 85, "l": 60}, font={"size": 13, "color": INK}, hovermode="closest",
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 0, "yanchor": "bottom", "yref": "container"},
        hoverlabel={"font": {"size": 12}}, modebar={"bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": MUTED},
    )  # fmt: skip
