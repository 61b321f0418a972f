"""What Ray puts in the place of objects in a param_space before a searcher sees it (ray/tune/impl/placeholder.py)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jobs_ray.tune.codec import NotRead

FUNCTION = "__fn_ph"  # of a sample_from
OBJECT = "__ref_ph"  # of what is no number, string, or container of them
_OPTION = re.compile(r"\[\d+\]")


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
    return isinstance(node, list | tuple) and len(node) == 2 and isinstance(node[0], str) and node[0] == OBJECT


def path_of(name: str) -> str:
    """Where a configuration holds the parameter of this name: those of an option are called `opt[1]/momentum`."""
    return _OPTION.sub("", name)


def named(config: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with `<option 0 of act>` in the place of objects of a choice, and NotRead for any others.

    chosen: the values of the search's own parameters, by name; of a choice of objects the option's number.
    """
    options = {path_of(name): f"<option {value} of {path_of(name)}>" for name, value in chosen.items()}
    found: dict[str, Any] = _named(config, options, "", None)
    return found


def _named(node: Any, options: Mapping[str, str], path: str, option: str | None) -> Any:
    option = options.get(path, option)
    if isinstance(node, NotRead) or _is(node):
        return option or NotRead()
    below = f"{path}/" if path else ""
    if isinstance(node, Mapping):
        return {key: _named(value, options, f"{below}{key}", option) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_named(value, options, f"{below}{i}", option) for i, value in enumerate(node))
    return node
