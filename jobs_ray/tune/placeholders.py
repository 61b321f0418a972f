"""What Ray puts in the place of objects in a param_space before a searcher sees it (ray/tune/impl/placeholder.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

FUNCTION = "__fn_ph"  # of a sample_from
OBJECT = "__ref_ph"  # of what is no number, string, or container of them


def resolved(config: dict[str, Any], trial_id: str | None, trials: Iterable[Any]) -> dict[str, Any]:
    """`config` with the objects that the trial of that id, one of Ray's, was given; as it is if that is not there."""
    if not _holds(config):
        return config
    given = next((t.config for t in trials if t.trial_id == trial_id), None)
    found: dict[str, Any] = _filled(config, given)
    return found


def _filled(node: Any, given: Any) -> Any:
    if _is(node):
        return node if given is None else given
    if isinstance(node, dict):
        return {key: _filled(value, _at(given, key)) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_filled(value, _at(given, i)) for i, value in enumerate(node))
    return node


def _at(given: Any, key: Any) -> Any:
    if isinstance(given, Mapping):
        return given.get(key)
    return given[key] if isinstance(given, list | tuple) and key < len(given) else None


def _holds(node: Any) -> bool:
    if isinstance(node, dict | list | tuple):
        return _is(node) or any(map(_holds, node.values() if isinstance(node, dict) else node))
    return False


def _is(node: Any) -> bool:
    return isinstance(node, list | tuple) and len(node) == 2 and node[0] == OBJECT
