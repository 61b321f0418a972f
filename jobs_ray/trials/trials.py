"""Trial: the frozen record of what was asked and observed. Values are *maximised* throughout.

Reports are idempotent by `(trial, t)`, the last one wins, because Ray delivers a report through the scheduler and
again through the searcher. A report that goes back in `t` comes from a restarted trial: it replaces the tail of the
curve, and the steps of that tail are charged a second time, since they were trained a second time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple

from jobs_ray.trials.curve import LearningCurve
from jobs_ray.trials.meter import Meter

_NO_REPORTS, _NO_READINGS = LearningCurve(), Meter()


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
class Trial:
    """One trial as the optimiser knows it.

    `grant`: the `t` it may train to (None: to its own end). `start`: the `t` it resumed from (0: from scratch).
    `wasted`: steps that were trained and lost to restarts. `charged=False`: given as an observation. `own_end`: it is
    known to have ended by itself; else whoever ended it may have cut it short. `silent`: it was given up, or has not
    reported for so long that nobody should wait for it. `checkpoint_t`: where its newest checkpoint stands (0: it
    left none; None: nobody has looked, so it is taken to stand at the last report). `meter`: what it has cost, where
    costs are reported; a promotion's counts only what it trains itself.
    """

    trial_id: str
    config: Mapping[str, Any]
    x: tuple[float, ...]
    phase: Phase
    grant: float | None
    status: TrialStatus = TrialStatus.RUNNING
    curve: LearningCurve = _NO_REPORTS
    start: float = 0.0
    wasted: float = 0.0
    promotes: str | None = None
    charged: bool = True
    own_end: bool = False
    silent: bool = False
    checkpoint_t: float | None = None
    meter: Meter = _NO_READINGS
    final: float | None = field(init=False, repr=False, compare=False)  # the last value of a completed trial

    def __post_init__(self) -> None:
        if not isinstance(self.trial_id, str):
            raise ValueError(f"a trial has the id {self.trial_id!r}; expected a string, {str(self.trial_id)!r}")
        if self.grant is not None and not self.grant > 0:
            raise ValueError(f"trial {self.trial_id!r} is granted {self.grant!r} steps; expected a positive number")
        if self.start < 0 or self.wasted < 0 or (self.checkpoint_t or 0.0) < 0:
            raise ValueError(f"trial {self.trial_id!r} has a negative start, waste or checkpoint_t")
        # looked up thousands of times for a decision, but never by a `cached_property`: see `LearningCurve`
        object.__setattr__(self, "final", self.curve.value[-1] if self.completed and self.curve.value else None)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()  # pickled by an older version, in an experiment's tuner.pkl, it may have no `final`

    @property
    def running(self) -> bool:
        return self.status is TrialStatus.RUNNING

    @property
    def completed(self) -> bool:
        return self.status is TrialStatus.COMPLETED

    @property
    def kind(self) -> Kind:
        failed = self.status is TrialStatus.FAILED
        return Kind(self.phase, self.grant, self.charged, self.running, self.completed, self.silent, failed)

    @property
    def resume_t(self) -> float:
        """The `t` that a promotion of it would go on from; 0: from scratch."""
        last = self.curve.last_t
        return last if self.checkpoint_t is None else min(self.checkpoint_t, last)

    def resume_before(self, end: float | None) -> float:
        """Where a promotion to `end` goes on from: 0, anew, if it stands there already and yet has no final (an
        observation, say), for it would train nothing."""
        return self.resume_t if end is not None and self.resume_t < end else 0.0

    @property
    def steps(self) -> float:
        """Steps trained by this trial so far, in units of `t`."""
        return max(self.curve.last_t - self.start, 0.0) + self.wasted

    @property
    def reached(self) -> float:
        """The `t` that it stands at: of its last report, or where it resumed from."""
        return max(self.curve.last_t, self.start)

    def outstanding(self, max_t: float) -> float:
        """Steps that it may still train under its grant."""
        return max((max_t if self.grant is None else self.grant) - self.reached, 0.0)

    @property
    def rate(self) -> float | None:
        """Its cost a step so far; None while it has not reported any."""
        return self.meter.cost / self.steps if self.meter.cost > 0 and self.steps > 0 else None

    def report(
        self,
        t: float,
        value: float | None,
        source: LearningCurve | None = None,
        *,
        restarted: bool = False,
        cost: float | None = None,
    ) -> Trial:
        """The trial after a report at `t`. cost: of this trial so far, as its counter reads; None: not reported.

        source: the curve of the short run it resumes, if it does. restarted: known to come from a new process, so that
        a report at the last `t` is that step trained again, and not the same report once more.
        """
        start, curve, wasted = self.start, self.curve, self.wasted
        if source is not None and t <= start:  # the checkpoint was older than the short run's end
            start = source.t[bisect_left(source.t, t) - 1] if source.t and source.t[0] < t else 0.0
            wasted += max(curve.last_t - self.start, 0.0)
            curve = source.up_to(start)
        elif t < curve.last_t or (restarted and t == curve.last_t):
            wasted += curve.last_t - max(start, _went_on_from(curve, t))
        meter = self.meter if cost is None else self.meter.read(t, cost, restarted=restarted)
        silent = self.silent and t == self.curve.last_t and not restarted  # told once more as it ends: no news
        return replace(self, curve=curve.add(t, value), start=start, wasted=wasted, silent=silent, meter=meter)

    def trained_again(self, t: float, source: LearningCurve | None = None, cost: float | None = None) -> Trial:
        """The trial, which has ended, after a new process has trained it to `t`: only what it has cost changes."""
        again = self.report(t, None, source, restarted=True, cost=cost)
        return replace(self, wasted=self.wasted + again.steps - self.steps, meter=again.meter)


def _went_on_from(curve: LearningCurve, t: float) -> float:
    """Where a trial that was started anew, and reports `t` now, went on from: its report before `t`.

    Of a long curve that report may have been thinned out; then it is one interval before `t`, the shortest that is
    left: the first reports always are. (The number of reports does not tell: thinned to 237, that before 905 was 900.)
    """
    known = (*curve.t, *curve.failed_at)
    before = max((s for s in known if s < t), default=0.0)
    if not curve.thinned or len(curve.t) < 2:
        return before
    return max(before, t - min(later - earlier for earlier, later in pairwise(curve.t)))


class Kind(NamedTuple):
    """What the rule of the phases distinguishes trials by."""

    phase: Phase
    grant: float | None
    charged: bool
    running: bool
    completed: bool
    silent: bool
    failed: bool = False  # the last, and with a default: pickled by an older version, in a tuner.pkl, it is not there
