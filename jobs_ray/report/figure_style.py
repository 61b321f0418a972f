"""How every figure of the report looks, and how text from a folder gets into one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from jobs_ray.report.experiment import Report, Row
from jobs_ray.report.terminal import visible

# Okabe and Ito's colours, told apart by nearly everybody, on white and on black
COLOURS = {
    "learn": "#0072B2", "search": "#E69F00", "confirm": "#009E73",
    "trained to the end": "#009E73", "ended earlier": "#0072B2",
}  # fmt: skip
SHARES = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999", "#332288", "#117733",
    "#CC0044", "#664411", "#88EE77", "#FFAA88", "#BB88FF", "#AA0088", "#BBCC88", "#55EEEE", "#005555", "#779900",
    "#663344", "#DDCCFF", "#1188FF", "#882211", "#FF77DD", "#AA8833", "#00EEAA", "#775599", "#FF7788", "#445500",
)  # fmt: skip
"""Of the domains of a mixture; from the eleventh on each is at least 28 (in CIELAB) from all before it."""

INK = "#444444"
"""The colour of what belongs to no group: the page turns it light on a dark background (`page.py`)."""

MUTED = "#888888"
_LONG = 34
_OPTIONS = re.compile(r"(?:\[\d+\])*(?:/|$)")  # what a parameter's name may have after a key of the configuration


def label(text: Any, longest: int = _LONG) -> str:
    """Text for a figure, which may come from anybody. Long ones lose their beginning."""
    return _safe(_end(visible(str(text)), longest))


def labels(texts: Sequence[Any], longest: int = _LONG) -> list[str]:
    """The same of several, which stay different: plotly takes equal ones for one category, and draws it twice."""
    return [_safe(text) for text in cut(texts, longest)]


def cut(texts: Sequence[Any], longest: int) -> list[str]:
    """Different short texts, as they are: for what plotly neither reads as HTML nor as a template."""
    whole = [visible(str(text)) for text in texts]
    short = [_end(text, longest) for text in whole]
    if len(set(short)) < len(short):  # they end alike: keep both ends
        keep = (longest - 3) // 2
        short = [text if len(text) <= longest else f"{text[:keep]}...{text[-keep:]}" for text in whole]
    found: list[str] = []
    for text in short:
        names = (text if number == 1 else f"{text}~{number}" for number in range(1, len(short) + 1))
        found.append(next(name for name in names if name not in found))
    return found


def _end(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"...{text[3 - longest :]}"


def _safe(text: str) -> str:
    """plotly reads some HTML in any text, and fields `%{...}` in a hover template."""
    return escape(text).replace("%{", "%&#123;")


def groups(report: Report, rows: list[Row] | None = None) -> dict[str, list[Row]]:
    """The rows (all, unless given) by phase, or in an experiment without phases by how they ended; in a fixed order."""
    chosen = report.trials if rows is None else rows
    found = {name: [row for row in chosen if row.group == name] for name in COLOURS}
    return {name: mine for name, mine in found.items() if mine}


def at(config: Any, path: str) -> Any:
    """The value at the path of a parameter, `a/b`, `list/0`, `opt[1]/momentum`; None where there is none.

    The number of a chosen option leaves no trace in a configuration, and a key may itself hold "/".
    """
    if not path:
        return config
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(config, Mapping):
        if (found := config.get(path)) is not None:  # mostly so: thousands of trials stay quick
            return found
        children = config.items()
    elif isinstance(config, list | tuple):
        children = enumerate(config)
    for key, child in children:
        name = str(key)
        here = _OPTIONS.match(path, len(name)) if path.startswith(name) else None
        if here and (found := at(child, path[here.end() :])) is not None:
            return found
    return None


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
