"""Searches of JoBSSearcher made by hand, and saved as Ray would: no Ray runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jobs_ray import JoBSSearcher

MAX_T = 8


def made(space: Mapping[str, Any], **options: Any) -> JoBSSearcher:
    options = {"metric": "loss", "mode": "min", "max_t": MAX_T, "budget": 5, "seed": 0} | options
    return JoBSSearcher(space, **options)


def saved(searcher: JoBSSearcher, folder: Path) -> Path:
    searcher.save(str(folder / "searcher-state-2026-01-01_00-00-00.pkl"))
    return folder


def falling(off: Callable[[Mapping[str, Any]], float]) -> Callable[[Mapping[str, Any], float], float]:
    return lambda config, t: 2.0 + off(config) + 1.0 / t
