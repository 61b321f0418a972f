"""Whether the trials in flight get on: how many reports each has made since its time last advanced."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

PATIENCE = 1000
"""Reports without progress after which a trial is stopped; a trainable may well report many times an epoch."""


def mark_of(result: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What tells a report from all others of its trial: node, process, and its number there. None: not from Ray."""
    found = tuple(result.get(key) for key in ("node_ip", "pid", "iterations_since_restore"))
    return None if None in found else found


@dataclass
class _Beat:
    mark: Hashable
    reached: float
    idle: int = 0


class Pulse:
    """Of live trials only: `drop` those that have ended."""

    def __init__(self) -> None:
        self._beats: dict[str, _Beat] = {}

    def report(self, trial_id: str, mark: Hashable, t: float) -> int:
        """Notes a report, whoever brings it and how often; how many there were since `t` last advanced.

        `mark` tells the report from others of its trial.
        """
        beat = self._beats.setdefault(trial_id, _Beat(None, 0.0))
        if mark != beat.mark:
            beat.idle = 0 if t > beat.reached else beat.idle + 1
            beat.mark, beat.reached = mark, max(t, beat.reached)
        return beat.idle

    def drop(self, trial_id: str) -> None:
        self._beats.pop(trial_id, None)
