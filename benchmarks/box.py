"""Any search space as independent dimensions, for libraries that know no simplex.

The weights of a mixture are -log u of one u in (0, 1) a domain, divided by their sum: uniform u give weights that are
uniform on the simplex, which is the best known way to hand a simplex to such a library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.data import Config

EDGE = 1e-6
"""u stays in [EDGE, 1 - EDGE]: -log u must be neither 0 nor infinite."""


@dataclass(frozen=True)
class Dimension:
    """A float or an int in [low, high], or one of `choices` (then low and high mean nothing)."""

    name: str
    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[Any, ...] = ()


class Box:
    """Dimensions of a (nested) dict of core parameters and constants, and configurations from their values.

    Raises:
        ValueError: the space has something that a box has not: bounded weights, conditions.
    """

    def __init__(self, space: Mapping[str, Any]) -> None:
        self.space = space
        self.dimensions = tuple(_dimensions(space, ()))

    def config(self, values: Mapping[str, Any]) -> Config:
        """{name: value} of every dimension -> the nested configuration."""
        out = _build(self.space, (), values)
        assert isinstance(out, dict)
        return out


def _dimensions(node: Any, path: tuple[str, ...]) -> Iterator[Dimension]:
    from jobs_ray import Categorical, Integer, Mixture, Real

    name = ".".join(path)
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _dimensions(child, (*path, key))
        return
    if getattr(node, "when", None) or (isinstance(node, Mixture) and (node.min or node.max)):
        raise ValueError(f"{name}: a box has neither conditions nor bounds of weights")
    if isinstance(node, Mixture):
        for domain in node.names:
            yield Dimension(f"{name}.{domain}", "float", EDGE, 1 - EDGE)
    elif isinstance(node, Real):
        yield Dimension(name, "float", node.lower, node.upper, node.log)
    elif isinstance(node, Integer):
        yield Dimension(name, "int", node.lower, node.upper, node.log)
    elif isinstance(node, Categorical):
        yield Dimension(name, "choice", choices=tuple(node.choices))


def _build(node: Any, path: tuple[str, ...], values: Mapping[str, Any]) -> Any:
    from jobs_ray import Categorical, Integer, Mixture, Real

    name = ".".join(path)
    if isinstance(node, Mapping):
        return {key: _build(child, (*path, key), values) for key, child in node.items()}
    if isinstance(node, Mixture):
        raw = [-math.log(min(max(float(values[f"{name}.{d}"]), EDGE), 1 - EDGE)) for d in node.names]
        return {domain: value / sum(raw) for domain, value in zip(node.names, raw, strict=True)}
    if isinstance(node, Real):
        return min(max(float(values[name]), node.lower), node.upper)
    if isinstance(node, Integer):
        return int(values[name])
    return values[name] if isinstance(node, Categorical) else node
