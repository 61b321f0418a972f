"""The nested dict that a user writes as a search space: its leaves by path, and configurations of the same shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs_ray.space.base import SpaceError
from jobs_ray.space.parameters import Categorical, Integer, Mixture, Parameter, Real


def is_parameter(leaf: Any) -> bool:
    return isinstance(leaf, Real | Integer | Categorical | Mixture)


def copied(node: Any) -> Any:
    """The dicts and lists of a space, or of a configuration, anew; what they hold is the same."""
    if isinstance(node, Mapping):
        return {key: copied(child) for key, child in node.items()}
    return [copied(item) for item in node] if isinstance(node, list) else node


def leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, Mapping):
        if set(node) == {"grid_search"}:
            name = "/".join(path)
            raise SpaceError(f"parameter {name!r} is a grid search; use Categorical (tune.choice) instead")
        for key, child in node.items():
            if not isinstance(key, str):
                if any(True for _ in _parameters_in(child)):
                    raise SpaceError(f"parameter {'/'.join((*path, repr(key)))} hangs on a key that is not a string")
                continue
            yield from leaves(child, (*path, key))
        return
    if isinstance(node, list | tuple) and any(True for _ in _parameters_in(node)):
        raise SpaceError(f"parameter {'/'.join(path)!r} is inside a list; give it a name in a dict")
    yield path, node


def _parameters_in(node: Any) -> Iterator[Parameter]:
    if is_parameter(node):
        yield node
    elif isinstance(node, Mapping):
        for child in node.values():
            yield from _parameters_in(child)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _parameters_in(item)


def parents(
    when: Mapping[str, Any] | None, names: list[str], found: list[tuple[tuple[str, ...], Any]]
) -> Iterator[tuple[int, frozenset[int]]]:
    for path, wanted in (when or {}).items():
        parent = found[names.index(path)][1] if path in names else None
        if not isinstance(parent, Categorical):
            raise SpaceError(f"depends on {path!r}, which is not a Categorical of this space")
        allowed = wanted if isinstance(wanted, tuple | list | set | frozenset) else (wanted,)
        yield names.index(path), frozenset(parent.index(value) for value in allowed)


def get(config: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    node: Any = config
    for key in path:
        if not isinstance(node, Mapping) or key not in node:
            raise SpaceError(f"is missing from the configuration {config!r}")
        node = node[key]
    return node


def build(node: Any, path: tuple[str, ...], values: Mapping[str, Any]) -> Any:
    if isinstance(node, Mapping):
        return {k: build(child, (*path, k), values) for k, child in node.items() if _present(child, path, k, values)}
    if is_parameter(node):
        value = values["/".join(path)]
        return dict(value) if isinstance(value, Mapping) else value
    return [build(item, path, values) for item in node] if isinstance(node, list) else node


def _present(child: Any, path: tuple[str, ...], key: Any, values: Mapping[str, Any]) -> bool:
    return not is_parameter(child) or "/".join((*path, key)) in values


def first_duplicate(names: list[str]) -> str:
    return next(name for i, name in enumerate(names) if name in names[:i])
