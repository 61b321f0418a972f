"""Frozen records of what was asked and observed: LearningCurve, Trial. Values are *maximised* throughout.

Reports are idempotent by `(trial, t)`, the last one wins, because Ray delivers a report through the scheduler and
again through the searcher. A report that goes back in `t` comes from a restarted trial: it replaces the tail of the
curve, and the steps of that tail are charged a second time, since they were trained a second time.
"""

from __future__ import annotations

import copy
import itertools
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

RECALLED = 500
"""So many of the first and of the newest trials are looked at for a decision, besides full runs and promotions."""


class Phase(StrEnum):
    """LEARN: learn the predictor. SEARCH: short, predicted runs. CONFIRM: full runs of the most promising."""

    LEARN = "learn"
    SEARCH = "search"
    CONFIRM = "confirm"


class TrialStatus(StrEnum):
    RUNNING = "running"  # asked for and not yet told
    STOPPED = "stopped"  # ended before max_t: a short run
    COMPLETED = "completed"  # trained to max_t (or to its own end where there is no max_t)
    FAILED = "failed"  # told with error=True, or ended on a failed observation


@dataclass(frozen=True)
class LearningCurve:
    """Increasing `(t, value)` pairs, and the times `failed_at` whose value was NaN, infinite or missing."""

    t: tuple[float, ...] = ()
    value: tuple[float, ...] = ()
    failed_at: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.t) != len(self.value):
            raise ValueError(f"a curve needs as many values as times, not {len(self.value)} and {len(self.t)}")
        if not all(math.isfinite(number) for number in (*self.t, *self.value)):
            raise ValueError("a curve holds finite numbers only; put the time of a failed report in failed_at")
        for times in (self.t, self.failed_at):
            if any(a >= b for a, b in itertools.pairwise(times)):
                raise ValueError(f"the times of a curve must increase, got {times}")

    @cached_property
    def last_t(self) -> float:
        """Largest time reported, failed reports included; 0 for an empty curve."""
        return max((*self.t[-1:], *self.failed_at[-1:]), default=0.0)

    @cached_property
    def ends_failed(self) -> bool:
        return bool(self.failed_at) and self.failed_at[-1] == self.last_t

    def add(self, t: float, value: float | None) -> LearningCurve:
        """The curve with the report at `t` (None: a failed observation); what was reported after `t` is dropped."""
        kept, failed = bisect_left(self.t, t), bisect_left(self.failed_at, t)
        times, values, failures = self.t[:kept], self.value[:kept], self.failed_at[:failed]
        if value is None:
            return LearningCurve(times, values, (*failures, t))
        return LearningCurve((*times, t), (*values, value), failures)

    def up_to(self, t: float) -> LearningCurve:
        """The prefix of the curve with times <= `t`."""
        kept, failed = bisect_right(self.t, t), bisect_right(self.failed_at, t)
        return LearningCurve(self.t[:kept], self.value[:kept], self.failed_at[:failed])

    def at(self, t: float) -> float:
        """Value at `t`, linear in log t between reports, constant outside. Raises ValueError when empty."""
        if not self.t:
            raise ValueError("an empty curve has no value; check `curve.t` first")
        right = bisect_left(self.t, t)
        if right == len(self.t):
            return self.value[-1]
        if right == 0 or self.t[right] == t:
            return self.value[right]
        low, high = self.t[right - 1], self.t[right]
        weight = math.log(t / low) / math.log(high / low) if low > 0 else (t - low) / (high - low)
        return self.value[right - 1] + weight * (self.value[right] - self.value[right - 1])


@dataclass(frozen=True)
class Trial:
    """One trial as the optimiser knows it.

    `grant`: the `t` it may train to (None: to its own end). `start`: the `t` it resumed from (0: from scratch).
    `wasted`: steps that were trained and lost to restarts. `charged=False`: given as an observation.
    """

    trial_id: str
    config: Mapping[str, Any]
    x: tuple[float, ...]
    phase: Phase
    grant: float | None
    status: TrialStatus = TrialStatus.RUNNING
    curve: LearningCurve = field(default_factory=LearningCurve)
    start: float = 0.0
    wasted: float = 0.0
    promotes: str | None = None
    charged: bool = True

    def __post_init__(self) -> None:
        if self.grant is not None and not self.grant > 0:
            raise ValueError(f"trial {self.trial_id!r} is granted {self.grant!r} steps; expected a positive number")
        if self.start < 0 or self.wasted < 0:
            raise ValueError(f"trial {self.trial_id!r} has a negative start or waste")

    @cached_property
    def running(self) -> bool:
        return self.status is TrialStatus.RUNNING

    @cached_property
    def completed(self) -> bool:
        return self.status is TrialStatus.COMPLETED

    @property
    def kind(self) -> Kind:
        return Kind(self.phase, self.grant, self.charged, self.running, self.completed)

    @cached_property
    def final(self) -> float | None:
        """The confirmed value: the last one of a completed trial."""
        return self.curve.value[-1] if self.completed and self.curve.value else None

    @cached_property
    def steps(self) -> float:
        """Steps trained by this trial so far, in units of `t`."""
        return max(self.curve.last_t - self.start, 0.0) + self.wasted

    def report(
        self, t: float, value: float | None, source: LearningCurve | None = None, *, restarted: bool = False
    ) -> Trial:
        """The trial after a report at `t`.

        source: the curve of the short run it resumes, if it does. restarted: known to come from a new process, so that
        a report at the last `t` is that step trained again, and not the same report once more.
        """
        start, curve, wasted = self.start, self.curve, self.wasted
        if source is not None and t <= start:  # the checkpoint was older than the short run's end
            start = source.t[bisect_left(source.t, t) - 1] if source.t and source.t[0] < t else 0.0
            wasted += max(curve.last_t - self.start, 0.0)
            curve = source.up_to(start)
        elif t < curve.last_t or (restarted and t == curve.last_t):
            before = [s for s in (*curve.t, *curve.failed_at) if s < t]
            wasted += curve.last_t - max([start, *before])
        return replace(self, curve=curve.add(t, value), start=start, wasted=wasted)


class Kind(NamedTuple):
    """What the rule of the phases distinguishes trials by."""

    phase: Phase
    grant: float | None
    charged: bool
    running: bool
    completed: bool


class TrialTable(Mapping[str, Trial]):
    """Trials by id, in the order asked.

    An ended trial never changes, so it is counted and added up once: neither a report's answer nor the ledger may take
    longer at 5,000 trials than at five.
    """

    def __init__(self, trials: Iterable[Trial] = ()) -> None:
        self._all: dict[str, Trial] = {}
        self._running: dict[str, None] = {}
        self._kept: set[str] = set()
        self._ended: Counter[Kind] = Counter()
        self._ended_steps = 0.0
        self._ended_trained = 0
        self.longest: float | None = None
        """`t` of the longest completed trial."""
        for trial in trials:
            self.put(trial)

    def put(self, trial: Trial) -> None:
        """Adds a trial, or replaces it while it runs. Raises ValueError when it has ended."""
        name = trial.trial_id
        if name in self._all and name not in self._running:
            raise ValueError(f"trial {name!r} has ended; its record does not change any more")
        self._all[name] = trial
        if trial.running:
            self._running[name] = None
            return
        self._running.pop(name, None)
        self._ended[trial.kind] += 1
        if trial.charged:
            self._ended_steps += trial.steps
            self._ended_trained += bool(trial.curve.last_t)
        if trial.final is not None or trial.promotes:
            self._kept.add(name)
        if trial.completed:
            self.longest = max(self.longest or 0.0, trial.curve.last_t)

    def remove(self, trial_id: str) -> None:
        """Forgets a trial that runs. Raises KeyError for any other."""
        del self._running[trial_id]
        del self._all[trial_id]

    def running(self) -> list[Trial]:
        """The trials in flight, in the order asked."""
        return [self._all[name] for name in self._running]

    def kinds(self) -> Counter[Kind]:
        """How many trials there are of each kind."""
        return self._ended + Counter(trial.kind for trial in self.running())

    def spent(self, max_t: float | None) -> float:
        """Full-run equivalents trained; without `max_t` every trial that reported counts as one."""
        running = [trial for trial in self.running() if trial.charged]
        if max_t is None:
            return float(self._ended_trained + sum(bool(trial.curve.last_t) for trial in running))
        return (self._ended_steps + sum(trial.steps for trial in running)) / max_t

    def recalled(self) -> list[Trial]:
        """What a decision looks at, in the order asked: all trials, or of more than `2 RECALLED` not all short runs.

        Full runs and promotions, the first trials (they fill the space) and the newest stay. A short run passed over
        for hundreds of trials is not promoted any more, and to weigh it each time took half of the time at 5,000.
        """
        newest_from = len(self._all) - RECALLED
        if newest_from <= RECALLED:
            return list(self._all.values())
        first = itertools.islice(self._all.values(), RECALLED)
        between = itertools.islice(self._all, RECALLED, newest_from)
        newest = list(itertools.islice(reversed(self._all.values()), RECALLED))[::-1]
        kept = (self._all[name] for name in between if name in self._kept or name in self._running)
        return [*first, *kept, *newest]

    def newest(self) -> Iterator[Trial]:
        """The trials asked for, the last one first; observations given are not among them."""
        return (trial for trial in reversed(self._all.values()) if trial.charged)

    def copy(self) -> TrialTable:
        twin = copy.copy(self)
        twin._all, twin._running, twin._ended = dict(self._all), dict(self._running), self._ended.copy()
        twin._kept = set(self._kept)
        return twin

    def values(self) -> ValuesView[Trial]:
        return self._all.values()  # Mapping's own would look each one up

    def __getitem__(self, trial_id: str) -> Trial:
        return self._all[trial_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
