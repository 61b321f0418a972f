"""A section of a report, and how it looks on a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace

WIDTH = 80
_GAP = "  "


@dataclass(frozen=True)
class Section:
    """A table: the first `left` columns are text, the others numbers. `details`: a line below each row."""

    title: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    left: int = 1


def visible(text: str) -> str:
    """The text on one line with control characters spelled out: a folder's data must not steer the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _harmless(section: Section) -> Section:
    return replace(
        section,
        title=visible(section.title),
        header=tuple(map(visible, section.header)),
        rows=tuple(tuple(map(visible, row)) for row in section.rows),
        notes=tuple(map(visible, section.notes)),
        details=tuple(map(visible, section.details)),
    )


def render(section: Section, width: int = WIDTH) -> str:
    """One section as text. Tables are as wide as their cells, notes and details are wrapped at `width`."""
    section = _harmless(section)
    lines = [section.title, "-" * min(len(section.title), width)]
    table = [row for row in (section.header, *section.rows) if row]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))] if table else []
    details = ("",) * bool(section.header) + (section.details or ("",) * len(section.rows))
    for row, detail in zip(table, details, strict=True):
        cells = (
            cell.ljust(size) if i < section.left else cell.rjust(size)
            for i, (cell, size) in enumerate(zip(row, widths, strict=True))
        )
        lines += _wrapped(_GAP.join(cells).rstrip(), width, " " * (sum(widths[:1]) + len(_GAP)))
        if detail:
            lines += textwrap.wrap(detail, width, initial_indent="      ", subsequent_indent="      ")
    for note in section.notes:
        lines += textwrap.wrap(note, width)
    return "\n".join(lines)


def _wrapped(line: str, width: int, indent: str) -> list[str]:
    """A row that is wider than the terminal goes on below its second column."""
    return [line] if len(line) <= width else textwrap.wrap(line, width, subsequent_indent=indent[: width // 2])
