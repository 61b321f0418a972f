"""What stands for objects that are no plain data in the configurations of other searchers' folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def pickles_named(node: Any) -> Any:
    """Ray's JSON of a configuration with NotRead in the place of its pickles, which stand there in hexadecimal."""
    from jobs_ray.tune.codec import NotRead

    if isinstance(node, dict):
        if node.get("_type") == "CLOUDPICKLE_FALLBACK":
            return NotRead()
        return {key: pickles_named(value) for key, value in node.items()}
    return [pickles_named(item) for item in node] if isinstance(node, list) else node


def filled(node: Any, reported: Any) -> Any:
    """`node` with what Ray reported of its objects as plain data, numbers of numpy for instance.

    Texts are left out: that of a function holds its address, another one in every process.
    """
    from jobs_ray.tune.codec import NotRead

    if isinstance(node, NotRead):
        return node if reported is None or isinstance(reported, str) else reported
    if isinstance(node, dict):
        there = reported if isinstance(reported, Mapping) else {}
        return {key: filled(value, there.get(key)) for key, value in node.items()}
    if isinstance(node, list) and isinstance(reported, list) and len(node) == len(reported):
        return [filled(value, other) for value, other in zip(node, reported, strict=True)]
    return node
