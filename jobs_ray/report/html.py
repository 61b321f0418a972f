"""The report as one HTML file: the tables of `report_tables.py` and four figures. Works without a network."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from jobs_ray.report.collect import Report, Row
from jobs_ray.report.tables import decimals, sections
from jobs_ray.report.text import Section
from jobs_ray.space.base import is_number
from jobs_ray.trials import Phase

# Okabe and Ito's colours, told apart by nearly everybody
_COLOURS = {Phase.LEARN: "#0072B2", Phase.SEARCH: "#E69F00", Phase.CONFIRM: "#009E73"}
_SHARES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999", "#332288", "#117733")
_NAME = 34  # characters of the metric on an axis
_BARS = 60  # configurations in the mixture figure
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin: 2em 0 .5em }
table { border-collapse: collapse } td, th { padding: .2em .9em; text-align: right; vertical-align: top }
th { border-bottom: 1px solid #888 } td { border-bottom: 1px solid #e4e4e4; font-variant-numeric: tabular-nums }
td.text, th.text { text-align: left } td, th { white-space: nowrap }
td.detail { white-space: normal; text-align: left; color: #666; font-size: .85em }
p { color: #555; margin: .4em 0 } code { word-break: break-all }
"""


def write_html(report: Report, path: str | os.PathLike[str]) -> Path:
    """Writes the page. Raises ImportError without plotly, OSError when the file cannot be written."""
    from plotly.offline import get_plotlyjs

    tables = sections(report)
    tables.insert(0, tables.pop())  # a page is read from its top: the recommendation first
    body = ["<h1>JoBS report</h1>", f"<p><code>{escape(report.folder)}</code></p>", *map(_table, tables)]
    for title, note, figure in figures(report):
        div = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
        body.append(f"<h2>{escape(title)}</h2>\n<p>{escape(note)}</p>\n{div}")
    target = Path(path).expanduser()
    target.write_text(
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n<title>JoBS report</title>\n"
        f"<style>{_STYLE}</style>\n<script>{get_plotlyjs()}</script>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return target


def figures(report: Report) -> list[tuple[str, str, Any]]:
    """(title, explanation, plotly figure) of everything there is data for."""
    found = []
    if any(row.curve for row in report.trials):
        note = "One line a trial; diamonds are finals of full runs."
        found.append(("Learning curves by phase", note, _curves(report)))
    pairs = [row for row in report.trials if row.final is not None and row.predicted is not None]
    if pairs and report.plan:
        note = (
            f"Each full run as predicted from its reports up to {report.time_attr} = {report.plan['short_t']:g}, by a "
            "predictor that has not seen it, with its 90 % interval; on the line the prediction is right."
        )
        found.append(("Predicted and confirmed finals", note, _calibration(report, pairs)))
    if any(row.final is not None for row in report.trials):
        note = "Trials in the order they were asked for, each charged for all it trained."
        found.append(("Budget spent and best confirmed", note, _progress(report)))
    for name in report.mixtures:
        best = [row for row in report.best_first() if isinstance(_at(row.config, name), Mapping)][:_BARS]
        if best:
            note = f"Best first, by confirmed or predicted {report.metric}; * is a confirmed final."
            title = "Mixture of the trials" + ("" if len(report.mixtures) == 1 else f": {name}")
            found.append((title, note, _mixtures(report, name, best)))
    return found


def _curves(report: Report) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    show = decimals(report)
    for phase, colour in _COLOURS.items():
        rows = [row for row in report.trials if row.phase is phase and row.curve]
        if not rows:
            continue
        x: list[float | None] = []
        y: list[float | None] = []
        names: list[str] = []
        for row in rows:  # one trace a phase, with gaps: thousands of trials stay quick
            x += [*(t for t, _ in row.curve), None]
            y += [*(value for _, value in row.curve), None]
            names += [row.trial_id] * (len(row.curve) + 1)
        line = {"color": colour, "width": 1.5}
        hover = f"trial %{{text}}<br>{escape(report.time_attr)} %{{x}}<br>{escape(report.metric)} %{{y}}<extra></extra>"
        short = all(len(row.curve) == 1 for row in rows)
        mode = "lines+markers" if short or len(rows) <= 60 else "lines"
        figure.add_scatter(
            x=x, y=y, text=names, mode=mode, line=line, marker={"size": 4}, opacity=0.7, hovertemplate=hover,
            name=f"{phase.value} ({len(rows)})",
        )  # fmt: skip
    finals = [row for row in report.trials if row.final is not None and row.curve]
    if finals:
        figure.add_scatter(
            x=[row.last_t for row in finals], y=[row.final for row in finals], mode="markers", name="final",
            marker={"symbol": "diamond", "size": 9, "color": "white", "line": {"color": "#222", "width": 1.5}},
            text=[f"trial {row.trial_id}: {show(row.final or 0.0)}" for row in finals],
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    values = [value for row in report.trials for _, value in row.curve]
    _style(figure, report.time_attr, _name(report))
    if min(values) > 0 and max(values) > 20 * min(values):
        figure.update_yaxes(type="log", title_text=f"{escape(_name(report))} (log scale)")
    return figure


def _calibration(report: Report, rows: Sequence[Row]) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    finals = [row.final for row in rows if row.final is not None]
    margin = 0.05 * (max(finals) - min(finals)) or 0.05 * abs(finals[0]) or 1.0
    ends = [min(finals) - margin, max(finals) + margin]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="predicted = confirmed",
        line={"color": "#888", "dash": "dash", "width": 1}, hoverinfo="skip",
    )  # fmt: skip
    for phase, colour in _COLOURS.items():
        mine = [(row, row.predicted) for row in rows if row.phase is phase and row.predicted is not None]
        if not mine:
            continue
        figure.add_scatter(
            x=[row.final for row, _ in mine], y=[p.mean for _, p in mine], mode="markers", name=phase.value,
            marker={"color": colour, "size": 9},
            error_y={"type": "data", "symmetric": False, "thickness": 1.2, "width": 4,
                     "array": [p.high - p.mean for _, p in mine], "arrayminus": [p.mean - p.low for _, p in mine]},
            text=[row.trial_id for row, _ in mine],
            hovertemplate="trial %{text}<br>confirmed %{x}<br>predicted %{y}<extra></extra>",
        )  # fmt: skip
    return _style(figure, f"confirmed final {_name(report)}", f"predicted final {_name(report)}")


def _progress(report: Report) -> Any:
    import plotly.graph_objects as go

    spent, best = 0.0, -math.inf
    points: list[tuple[float, float, Row]] = []
    steps: list[tuple[float, float]] = []
    for row in report.trials:
        spent += row.charged
        if row.final is not None:
            points.append((spent, row.final, row))
            if report.sign * row.final > best:
                best = report.sign * row.final
                steps.append((spent, row.final))
    total = report.budget["total"]
    end = max(spent, total or 0.0)
    steps.append((spent, steps[-1][1]))
    figure = go.Figure()
    figure.add_scatter(
        x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines", line={"shape": "hv", "color": "#222"},
        name="best confirmed", hoverinfo="skip",
    )  # fmt: skip
    for phase, colour in _COLOURS.items():
        mine = [point for point in points if point[2].phase is phase]
        if mine:
            figure.add_scatter(
                x=[x for x, _, _ in mine], y=[y for _, y, _ in mine], mode="markers", name=f"full run ({phase.value})",
                marker={"color": colour, "size": 9}, text=[row.trial_id for _, _, row in mine],
                hovertemplate="trial %{text}<br>after %{x:.2f} full runs<br>%{y}<extra></extra>",
            )  # fmt: skip
    _style(figure, "budget spent (full-run equivalents)", f"final {_name(report)}")
    if total is not None:
        figure.add_vline(
            x=total, line={"color": "#888", "dash": "dot"}, annotation_text="budget", annotation_position="top left"
        )
        figure.update_layout(margin_t=45)
    return figure.update_xaxes(range=[0.0, 1.04 * end or 1.0])


def _mixtures(report: Report, name: str, rows: Sequence[Row]) -> Any:
    import plotly.graph_objects as go

    show = decimals(report)
    labels = [f"{rank}{'*' if row.final is not None else ''}" for rank, row in enumerate(rows, 1)]
    hover = [f"trial {row.trial_id}: {show(row.estimate or 0.0)}" for row in rows]
    domains = list(dict.fromkeys(domain for row in rows for domain in _at(row.config, name)))
    figure = go.Figure()
    for i, domain in enumerate(domains):
        figure.add_bar(
            x=labels, y=[_weight(row, name, domain) for row in rows], name=str(domain), text=hover, textposition="none",
            marker={"color": _SHARES[i % len(_SHARES)]},
            hovertemplate=f"%{{text}}<br>{escape(str(domain))} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    _style(figure, "configuration, best first", "weight")
    figure.update_yaxes(range=[0, 1])
    figure.update_xaxes(type="category")
    return figure.update_layout(barmode="stack", bargap=0.15, legend_traceorder="normal")


def _weight(row: Row, name: str, domain: str) -> float:
    value = _at(row.config, name).get(domain, 0.0)
    return float(value) if is_number(value) else 0.0


def _at(config: Any, path: str) -> Any:
    for key in path.split("/"):
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _name(report: Report) -> str:
    """The metric, short enough for the side of a figure."""
    return report.metric if len(report.metric) <= _NAME else f"...{report.metric[3 - _NAME :]}"


def _style(figure: Any, x: str, y: str) -> Any:
    grid = {"gridcolor": "#e8e8e8", "linecolor": "#888", "zeroline": False, "ticks": "outside", "automargin": True}
    figure.update_xaxes(title_text=escape(x), **grid)
    figure.update_yaxes(title_text=escape(y), **grid)
    return figure.update_layout(
        height=430, plot_bgcolor="white", paper_bgcolor="white", margin={"t": 25, "r": 20, "b": 60, "l": 70},
        legend={"x": 1.02, "y": 1, "xanchor": "left", "yanchor": "top"}, font={"size": 13}, hovermode="closest",
    )  # fmt: skip


def _table(section: Section) -> str:
    lines = [f"<h2>{escape(section.title)}</h2>"]
    if section.rows:
        lines.append("<table>")
        if section.header:
            lines.append(_line("th", (*section.header, *("" for _ in section.details[:1])), section.left))
        for i, row in enumerate(section.rows):
            detail = f"<td class='detail'>{escape(section.details[i])}</td>" if section.details else ""
            lines.append(_line("td", row, section.left, detail))
        lines.append("</table>")
    lines += [f"<p>{escape(note)}</p>" for note in section.notes]
    return "\n".join(lines)


def _line(tag: str, cells: Sequence[str], left: int, more: str = "") -> str:
    texts = (f"<{tag}{' class=text' if i < left else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells))
    return f"<tr>{''.join(texts)}{more}</tr>"
