"""The report as one HTML page that needs no network. What comes from the folder is escaped wherever it goes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from jobs_ray.report.answer import Answer, answer
from jobs_ray.report.experiment import Report
from jobs_ray.report.figure_style import SHARES
from jobs_ray.report.figures import Figure, figures
from jobs_ray.report.tables import config_line, decimals, sections, short, title, why
from jobs_ray.report.terminal import Section, visible

_LABELLED = 0.08  # share of a mixture's bar from which its name fits in


def write_html(report: Report, path: str | os.PathLike[str]) -> Path:
    """Writes the page. Raises ImportError without plotly, OSError when the file cannot be written."""
    show = decimals(report)
    *tables, last = sections(report)  # the last one is the answer, too
    found = answer(report, show)
    body = [
        f"<h1>{_text(title(report))}</h1>",
        f"<p><code>{_text(report.folder)}</code></p>",
        section_html(last) if found is None else _answer(found),
        *(_figure(figure) for figure in figures(report)),
        *(section_html(section) for section in tables),
        _trials(report, show),
    ]
    return write_page(title(report), body, path)


def write_page(name: str, body: Iterable[str], path: str | os.PathLike[str]) -> Path:
    """A page of these parts, which are HTML already."""
    from plotly.offline import get_plotlyjs

    assets = files("jobs_ray.report") / "assets"
    target = Path(path).expanduser()
    target.write_text(
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{_text(name)}</title>\n<style>{(assets / 'page.css').read_text('utf-8')}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n<script>{(assets / 'page.js').read_text('utf-8')}</script>\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return target


def figure_html(name: str, note: str, figure: Any) -> str:
    """A plotly figure with its title and the sentence that explains it."""
    div = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
    return f"<section class='figure'><h2>{_text(name)}</h2>\n<p>{_text(note)}</p>\n{div}</section>"


def _figure(figure: Figure) -> str:
    return figure_html(figure.title, figure.note, figure.figure)


def _text(text: Any) -> str:
    return escape(visible(str(text)))


def _answer(found: Answer) -> str:
    lines = [
        f"<section class='answer'><h2>{_text(found.title)}</h2>",
        f"<p class='headline'>{_text(found.headline)}</p>",
    ]
    for path, shares in found.mixtures.items():
        lines.append(f"<h3>{_text(path)}</h3>\n{_bar(shares)}")
    lines.append("<table>")
    lines += [
        f"<tr><th class=text>{_text(p)}</th><td>{_text(short(v, 6))}</td></tr>" for p, v in found.settings.items()
    ]
    lines.append("</table>\n<dl>")
    lines += [f"<dt>{_text(what)}</dt><dd>{_text(sentence)}</dd>" for what, sentence in found.facts]
    lines.append("</dl>")
    if found.fixed:
        fixed = "; ".join(f"{path} = {short(value, 6)}" for path, value in found.fixed.items())
        lines.append(f"<p class='detail'>Not searched: {_text(fixed)}</p>")
    return "\n".join([*lines, "</section>"])


def _bar(shares: Any) -> str:
    """A mixture as one bar with a key that names every domain, also one of weight 0."""
    parts, key = [], []
    for number, (domain, weight) in enumerate(shares.items()):
        colour = SHARES[number % len(SHARES)]
        if weight:
            inside = _text(domain) if weight >= _LABELLED else ""
            parts.append(f"<div style='width:{100 * weight:.2f}%;background:{colour}'>{inside}</div>")
        amount = f"{weight:.3f}" if weight else "0"
        key.append(f"<li><i style='background:{colour}'></i>{_text(domain)} <b>{amount}</b></li>")
    return f"<div class='mixture'>{''.join(parts)}</div>\n<ul class='key'>{''.join(key)}</ul>"


def section_html(section: Section) -> str:
    lines = [f"<section><h2>{_text(section.title)}</h2>"]
    if section.rows:
        lines.append("<div class='wide'><table>")
        if section.header:
            lines.append(_line("th", (*section.header, *("" for _ in section.details[:1])), section.left))
        for i, row in enumerate(section.rows):
            detail = f"<td class='detail'>{_text(section.details[i])}</td>" if section.details else ""
            lines.append(_line("td", row, section.left, detail))
        lines.append("</table></div>")
    lines += [f"<p>{_text(note)}</p>" for note in section.notes]
    return "\n".join([*lines, "</section>"])


def _line(tag: str, cells: Sequence[str], left: int, more: str = "") -> str:
    texts = (f"<{tag}{' class=text' if i < left else ''}>{_text(cell)}</{tag}>" for i, cell in enumerate(cells))
    return f"<tr>{''.join(texts)}{more}</tr>"


def _trials(report: Report, show: Any) -> str:
    """Every trial; a click on a head sorts by it (`page.js`). Numbers sort by what `data-v` holds."""
    head = ("#", "trial", "group", "status", report.time_attr, "last", "predicted", "+-", "final", "cost", "minutes",
            "what was trained, or why it failed")  # fmt: skip
    texts = {1, 2, 3, 11}
    lines = [
        "<section><h2>All trials</h2>\n<p>Click on a head to sort.</p>",
        "<div class='wide'><table class='sortable'><thead><tr>",
        *(f"<th{' class=text' if i in texts else ''}>{_text(name)}</th>" for i, name in enumerate(head)),
        "</tr></thead><tbody>",
    ]
    for number, row in enumerate(report.trials, 1):
        minutes = None if row.started is None or row.ended is None else report.lived_s(row.started, row.ended) / 60.0
        predicted = row.predicted
        cells: list[tuple[Any, str]] = [
            (number, str(number)),
            (row.trial_id, row.trial_id),
            (row.group, row.group),
            (row.status.value, row.status.value),
            (row.last_t, f"{row.last_t:g}"),
            _value(row.curve[-1][1] if row.curve else None, show),
            _value(predicted.mean if predicted else None, show),
            _value(predicted.stddev if predicted else None, show),
            _value(row.final, show),
            (row.charged, f"{row.charged:.2f}"),
            (minutes, "" if minutes is None else f"{minutes:.2f}"),
        ]
        line = "".join(
            f"<td{' class=text' if i in texts else ''} data-v='{_text('' if key is None else key)}'>{_text(cell)}</td>"
            for i, (key, cell) in enumerate(cells)
        )
        lines.append(f"<tr>{line}<td class='detail'>{_text(why(row) or config_line(row, report))}</td></tr>")
    return "\n".join([*lines, "</tbody></table></div></section>"])


def _value(value: float | None, show: Any) -> tuple[Any, str]:
    return value, "" if value is None else show(value)
