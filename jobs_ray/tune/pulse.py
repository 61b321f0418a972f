"""Whether the trials in flight get on: how many reports each has made since its time last advanced, and how long it has
been silent, compared with what is usual in this run."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PATIENCE = 1000
"""Reports without progress after which a trial is stopped; a trainable may well report many times an epoch."""

_SLOW = 5.0  # times the usual interval between reports; the usual one is that of the slowest tenth
_LEAST_S = 30.0  # nobody is called slow before
_KNOWN = 5  # intervals from which there is a usual one
_KEPT = 200


def mark_of(result: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What tells a report from all others of its trial: node, process, and its number there. None: not from Ray."""
    found = tuple(result.get(key) for key in ("node_ip", "pid", "iterations_since_restore"))
    return None if None in found else found


@dataclass
class _Beat:
    mark: Hashable
    reached: float
    since: float  # when it was handed out, or last reported
    idle: int = 0

    @property
    def started(self) -> bool:
        return self.mark is not None


class Pulse:
    """Of live trials only: `drop` those that have ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._beats: dict[str, _Beat] = {}
        self._clock = clock
        self._looked = -math.inf
        self._intervals: dict[bool, deque[float]] = {started: deque(maxlen=_KEPT) for started in (False, True)}

    def now(self) -> float:
        """Seconds since whenever the clock began."""
        return self._clock()

    def due(self) -> bool:
        """True at most once a second: to look at all trials costs."""
        now = self._clock()
        if now - self._looked < 1.0:
            return False
        self._looked = now
        return True

    def start(self, trial_id: str) -> None:
        """The trial was handed out; until its first report it waits for resources, and starts."""
        self._beats[trial_id] = _Beat(None, 0.0, self._clock())

    def report(self, trial_id: str, mark: Hashable, t: float) -> int:
        """Notes a report, whoever brings it and how often; how many there were since `t` last advanced.

        `mark` tells the report from others of its trial.
        """
        now = self._clock()
        beat = self._beats.setdefault(trial_id, _Beat(None, 0.0, now))
        if mark != beat.mark:
            self._intervals[beat.started].append(now - beat.since)
            beat.since = now
            beat.idle = 0 if t > beat.reached else beat.idle + 1
            beat.mark, beat.reached = mark, max(t, beat.reached)
        return beat.idle

    def silent_s(self, trial_id: str) -> float:
        """Seconds since its last report, or since it was handed out."""
        beat = self._beats.get(trial_id)
        return 0.0 if beat is None else self._clock() - beat.since

    def slow(self, trial_ids: Iterable[str]) -> list[str]:
        """Which have been silent for several times as long as is usual (before or after a first report)."""
        now, beats = self._clock(), self._beats
        waiting, reporting = (now - _patience(self._intervals[started]) for started in (False, True))
        found = ((trial_id, beats[trial_id]) for trial_id in trial_ids if trial_id in beats)
        return [name for name, beat in found if beat.since < (waiting if beat.mark is None else reporting)]

    def drop(self, trial_id: str) -> None:
        self._beats.pop(trial_id, None)


def _patience(intervals: Collection[float]) -> float:
    known = sorted(intervals)
    return max(_LEAST_S, _SLOW * known[int(0.9 * (len(known) - 1))]) if len(known) >= _KNOWN else math.inf
