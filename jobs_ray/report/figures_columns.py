"""What each trial had of every parameter, as the figures draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jobs_ray.report.experiment import Report, Row
from jobs_ray.report.figure_style import at, labels
from jobs_ray.report.sensitivity import Effect
from jobs_ray.space import Categorical, Integer, Mixture
from jobs_ray.space.base import is_number
from jobs_ray.space.search_space import Block


@dataclass(frozen=True)
class Column:
    """A parameter, or the weight of one `domain` of a mixture; `block`: the name of the parameter either way.

    `values`: one a row: a number, or where there are `options` (texts) the number of the one chosen; None where the
    row has no such parameter.
    """

    name: str
    block: str
    values: tuple[float | None, ...]
    domain: str | None = None
    log: bool = False
    options: tuple[str, ...] = ()

    def shown(self, longest: int) -> list[Any]:
        """The values as an axis of a figure takes them: numbers, or labels of the options."""
        names = labels(self.options, longest)
        return [names[int(value)] if names and value is not None else value for value in self.values]


def columns(report: Report, rows: Sequence[Row]) -> list[Column]:
    """Of every parameter and every domain's weight that one of the rows has."""
    found: list[Column] = []
    there = _active(report, rows)
    for number, block in enumerate(report.space.blocks if report.space is not None else ()):
        active = there[number]
        values = [at(row.config, block.name) if on else None for row, on in zip(rows, active, strict=True)]
        name, parameter = block.name, block.parameter
        if isinstance(parameter, Mixture):
            found += [
                Column(f"{name}/{domain}", name, tuple(weight(value, domain) for value in values), domain)
                for domain in parameter.names
            ]
        elif isinstance(parameter, Categorical):
            chosen = tuple(_option(block, row) if on else None for row, on in zip(rows, active, strict=True))
            found.append(Column(name, name, chosen, options=_options(report, block, chosen, values)))
        else:
            numbers = tuple(value if is_number(value) else None for value in values)
            found.append(Column(name, name, numbers, log=parameter.log))
    return [column for column in found if any(value is not None for value in column.values)]


def of_rows(found: Sequence[Column], numbers: Sequence[int]) -> list[Column]:
    """The columns of these rows only, without those that none of them has."""
    chosen = [replace(column, values=tuple(column.values[number] for number in numbers)) for column in found]
    return [column for column in chosen if any(value is not None for value in column.values)]


def most_important(found: Sequence[Column], effects: Sequence[Effect], most: int) -> list[Column]:
    """At most so many, in the order of `effects`.

    No mixture has a second weight before every parameter has its first, the one that varies most: one of many domains
    would leave room for no other.
    """
    rank = {effect.name: number for number, effect in enumerate(effects)}

    def place(column: Column) -> int:
        return rank.get(column.block, len(rank))

    blocks: dict[str, list[Column]] = {}
    for column in found:
        blocks.setdefault(column.block, []).append(column)
    places = {
        column.name: (number, place(column))
        for mine in blocks.values()
        for number, column in enumerate(sorted(mine, key=_spread, reverse=True) if len(mine) > 1 else mine)
    }
    kept = {column.name for column in sorted(found, key=lambda column: places[column.name])[:most]}
    return sorted((column for column in found if column.name in kept), key=place)


def _spread(column: Column) -> float:
    return float(np.std([value for value in column.values if value is not None]))


def step(report: Report, name: str, rows: Sequence[Row], column: Column) -> float:
    """What a whole number of the space stands for: of a quantised domain, the space counts the steps."""
    block = next(block for block in (report.space.blocks if report.space is not None else ()) if block.name == name)
    if isinstance(block.parameter, Integer):
        for row, value in zip(rows, column.values, strict=True):
            count = block.parameter.decode(np.array(row.x)[block.columns]) if value is not None else 0
            if value is not None and count:
                return value / count
    return 1.0


def weight(mixture: Any, domain: str) -> float | None:
    """The weight of a domain, 0 below a thousandth; None where there is no mixture."""
    if not isinstance(mixture, Mapping):
        return None
    value = mixture.get(domain, 0.0)
    return round(float(value), 3) if is_number(value) else 0.0


def _active(report: Report, rows: Sequence[Row]) -> Sequence[Sequence[bool]]:
    """Which of the rows have each parameter: none has any that is not of the space that was inferred."""
    if report.space is None:
        return []
    X = np.array([row.x or (0.0,) * report.space.dim for row in rows]).reshape(len(rows), report.space.dim)
    inside = np.array([bool(row.x) for row in rows], dtype=bool)  # there may be none yet
    active: Sequence[Sequence[bool]] = (report.space.active(X) & inside[:, None]).T.tolist()
    return active


def _option(block: Block, row: Row) -> int:
    """The number of the option chosen: of a choice between trees, a configuration holds the tree only."""
    assert isinstance(block.parameter, Categorical)
    count = len(block.parameter.choices)
    return min(int(row.x[block.columns.start] * count), count - 1)


def _options(report: Report, block: Block, chosen: Sequence[int | None], values: Sequence[Any]) -> tuple[str, ...]:
    """Texts of all options; those whose parts are searched, or that nobody chose, are numbered."""
    assert report.space is not None
    assert isinstance(block.parameter, Categorical)
    choices = block.parameter.choices
    pairs = [(number, value) for number, value in zip(chosen, values, strict=True) if number is not None]
    if all(type(value) is type(choices[number]) and value == choices[number] for number, value in pairs):
        return tuple(map(str, choices))
    texts = {number: str(value) for number, value in pairs}
    parts = [other.name for other in report.space.blocks]
    return tuple(
        f"option {number}"
        if number not in texts or any(part.startswith(f"{block.name}[{number}]") for part in parts)
        else texts[number]
        for number in range(len(choices))
    )
