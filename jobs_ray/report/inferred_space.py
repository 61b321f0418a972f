"""A search space that a set of configurations may have come from, where nobody says which it was."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs_ray.space import Categorical, Integer, Mixture, Real, SearchSpace, SpaceError
from jobs_ray.space.base import is_number, is_scalar

_LOG = 30.0  # a positive number that spans more than this factor is taken to be searched on a log scale
_CHOICES = 20


def infer_space(configs: Sequence[Mapping[str, Any]]) -> tuple[SearchSpace | None, tuple[str, ...]]:
    """The space of everything that differs, and the paths of its mixtures; (None, ()) when nothing can be said.

    A dict of numbers that sum to 1 everywhere is a mixture. What not every configuration has is left out.
    """
    columns: dict[str, list[Any]] = {}
    for config in configs:
        for path, value in _leaves(config):
            columns.setdefault(path, []).append(value)
    parameters: dict[str, Any] = {}
    for path, values in columns.items():
        found = _parameter(values) if len(values) == len(configs) else None
        if found is not None:
            parameters[path] = found
    try:
        space = SearchSpace(parameters) if parameters else None
    except SpaceError:
        return None, ()
    return space, tuple(path for path, parameter in parameters.items() if isinstance(parameter, Mixture))


def encoded(space: SearchSpace, config: Mapping[str, Any]) -> tuple[float, ...]:
    """The point of a configuration: that of its leaves, since an inferred space is flat; () if it is not of it."""
    try:
        return tuple(space.encode(dict(_leaves(config))).tolist())
    except SpaceError:
        return ()


def _leaves(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{path}/{key}" if path else str(key)
        if isinstance(value, Mapping) and value and not _is_mixture(value):
            yield from _leaves(value, name)
        else:
            yield name, value


def _is_mixture(value: Any) -> bool:
    if not isinstance(value, Mapping) or len(value) < 2:
        return False
    weights = list(value.values())
    return all(is_number(w) and 0 <= w <= 1 for w in weights) and math.isclose(sum(weights), 1.0, abs_tol=1e-6)


def _parameter(values: Sequence[Any]) -> Real | Integer | Categorical | Mixture | None:
    first = values[0]
    if _is_mixture(first):
        alike = all(_is_mixture(value) and set(value) == set(first) for value in values)
        return Mixture(list(first)) if alike and any(value != first for value in values) else None
    if all(is_number(value) for value in values):
        low, high = min(values), max(values)
        if not (low < high and math.isfinite(high - low)):
            return None
        kind = Integer if all(isinstance(value, int) for value in values) else Real
        return kind(low, high, log=low > 0 and high > _LOG * low)
    if all(map(is_scalar, values)):
        choices = list({(type(value), value): value for value in values}.values())
        return Categorical(choices) if 1 < len(choices) <= _CHOICES else None
    return None
