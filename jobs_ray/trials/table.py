"""TrialTable: the trials of a search by id, with counts and sums that cost the same at 5,000 trials as at five."""

from __future__ import annotations

import copy
import itertools
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import replace

from jobs_ray.trials.sums import CostSums, Total
from jobs_ray.trials.trials import Kind, Trial, TrialStatus

RECALLED = 500
"""So many of the first and of the newest trials are looked at for a decision, besides full runs and promotions."""
_FIRST = 8  # trials that tell when the others report first


class TrialTable(Mapping[str, Trial]):
    """Trials by id, in the order asked.

    An ended trial never changes (but see `demote` and `charge`; `note_checkpoint` changes nothing that is counted), so
    it is counted and added up once: neither an answer nor the ledger may take longer at 5,000 trials than at five.
    """

    def __init__(self, trials: Iterable[Trial] = (), reached: float = 0.0) -> None:
        self._all: dict[str, Trial] = {}
        self._order: dict[str, int] = {}  # a number for each, larger ones for those asked later
        self._next = 0
        self._running: dict[str, None] = {}
        self._watched: list[str] = []  # what is recalled whenever it was asked: the running, full runs and promotions
        self._kinds: Counter[Kind] = Counter()
        self._recalled: list[Trial] | None = None  # of this moment; None: to be made
        self._steps = Total()
        self._trained = 0
        self._open: tuple[float, Total] | None = None  # what may still be trained, at such a `max_t`
        self._ended_costs = CostSums()
        self._costs: CostSums | None = None  # of this moment; None: to be added up
        self._cut: dict[str, None] = {}  # completed as far as known, but perhaps not by themselves
        self._any_ended = False
        self.reached = reached  # the largest t of a value, also of one that a restarted trial has dropped since
        self.endings = 0  # how often a trial has ended or was demoted: what was made of the ended ones is as of then
        for trial in trials:
            self.put(trial)

    def put(self, trial: Trial) -> None:
        """Adds a trial, or replaces it while it runs. Raises ValueError when it has ended."""
        name = trial.trial_id
        if name in self._all and name not in self._running:
            raise ValueError(f"trial {name!r} has ended; its record does not change any more")
        self._set(trial)
        if _tells_length(trial):
            self.reached = max(self.reached, trial.curve.t[-1])
        if trial.running:
            if name not in self._running:
                self._running[name] = None
                self._watch(name)
            return
        if name in self._running:
            del self._running[name]
            self._unwatch(name)
        self.endings += 1
        if trial.charged:
            self._ended_costs = self._ended_costs.add(trial)
        if trial.final is not None or trial.promotes:
            self._watch(name)
        if trial.completed and not trial.own_end:
            self._cut[name] = None
        if _tells_length(trial) and trial.status in (TrialStatus.COMPLETED, TrialStatus.STOPPED):
            self._any_ended = True

    @property
    def longest(self) -> float | None:
        """The largest `t` that a trial has reported a value at; None before the first one has ended in order."""
        return self.reached if self._any_ended else None

    @property
    def first_report(self) -> float:
        """When trials report first, as the first few did, observations aside; 0 while none has. The least of them: one
        may have lost its first reports."""
        begun = (trial for trial in self._all.values() if trial.charged and trial.curve.t)
        firsts = (trial.curve.t[0] for trial in begun if not trial.start)  # else they are of what it goes on from
        return min(itertools.islice(firsts, _FIRST), default=0.0)

    def demote(self, most: float | None = None) -> None:
        """Trials that others have outlasted, and that may have been cut short, are complete no longer, but stopped.

        most: longer than this nobody has to train.
        """
        full = min(self.reached, math.inf if most is None else most)
        for name in [name for name in self._cut if self._all[name].curve.last_t < full]:
            before = self._all[name]
            self._set(replace(before, status=TrialStatus.STOPPED))
            self.endings += 1
            del self._cut[name]
            if before.final is not None and not before.promotes:
                self._unwatch(name)

    def charge(self, trial: Trial) -> None:
        """Replaces an ended trial by one that differs in what it has cost alone. Raises KeyError."""
        before = self._all[trial.trial_id]
        self._set(trial)
        if trial.charged:
            self._ended_costs = self._ended_costs.add(trial).less(CostSums().add(before))

    def note_checkpoint(self, trial_id: str, t: float) -> None:
        """Records where the newest checkpoint of a trial stands, be it running or ended. Raises KeyError."""
        self._set(replace(self._all[trial_id], checkpoint_t=t))

    def reopened(self, trial_ids: Collection[str]) -> TrialTable:
        """The table with ended trials running again."""
        if not trial_ids:
            return self
        again = (
            replace(self._all[name], status=TrialStatus.RUNNING, own_end=False, checkpoint_t=None) for name in trial_ids
        )
        return TrialTable({**self._all, **{trial.trial_id: trial for trial in again}}.values(), self.reached)

    def remove(self, trial_id: str) -> None:
        """Forgets a trial that runs. Raises KeyError for any other."""
        del self._running[trial_id]
        self._unwatch(trial_id)
        del self._order[trial_id]
        self._less(self._all.pop(trial_id))

    def running(self) -> list[Trial]:
        """The trials in flight, in the order asked."""
        return [self._all[name] for name in self._running]

    @property
    def asked(self) -> int:
        """How many trials were asked for: all but the observations given."""
        return sum(number for kind, number in self._kinds.items() if kind.charged)

    def kinds(self) -> Mapping[Kind, int]:
        """How many trials there are of each kind."""
        return self._kinds

    def _set(self, trial: Trial) -> None:
        """The only way in for a record: what is counted and kept of the one before is no longer true."""
        name = trial.trial_id
        if name in self._all:
            self._less(self._all[name])
        else:
            self._order[name], self._next = self._next, self._next + 1
        self._all[name] = trial
        self._kinds[trial.kind] += 1
        self._count(trial, 1)

    def _less(self, trial: Trial) -> None:
        self._count(trial, -1)
        self._kinds[trial.kind] -= 1
        if not self._kinds[trial.kind]:
            del self._kinds[trial.kind]

    def _count(self, trial: Trial, sign: int) -> None:
        self._recalled = self._costs = None
        if not trial.charged:
            return
        self._steps = self._steps.plus(sign * trial.steps)
        self._trained += sign * bool(trial.curve.last_t)
        if trial.running and self._open is not None:
            max_t, steps = self._open
            self._open = max_t, steps.plus(sign * trial.outstanding(max_t))

    def _watch(self, name: str) -> None:
        self._watched.insert(bisect_left(self._watched, self._order[name], key=self._order.__getitem__), name)

    def _unwatch(self, name: str) -> None:
        del self._watched[bisect_left(self._watched, self._order[name], key=self._order.__getitem__)]

    def spent(self, max_t: float | None) -> float:
        """Full-run equivalents trained; without `max_t` every trial that reported counts as one."""
        return float(self._trained) if max_t is None else self._steps.value / max_t

    def outstanding(self, max_t: float) -> float:
        """Steps that running trials may still train."""
        if self._open is None or self._open[0] != max_t:
            steps = Total()
            for trial in self.running():
                steps = steps.plus(trial.outstanding(max_t)) if trial.charged else steps
            self._open = max_t, steps
        return self._open[1].value

    def costs(self) -> CostSums:
        """What was reported of costs so far."""
        if self._costs is None:
            self._costs = self._ended_costs
            for trial in self.running():
                self._costs = self._costs.add(trial) if trial.charged else self._costs
        return self._costs

    def recalled(self) -> Sequence[Trial]:
        """What a decision looks at, in the order asked: all trials, or of more than `2 RECALLED` not all short runs.

        Full runs and promotions, the first trials (they fill the space) and the newest stay. A short run passed over
        for hundreds of trials is not promoted any more, and to weigh it each time took half of the time at 5,000.
        """
        if self._recalled is None:
            self._recalled = self._recall()
        return self._recalled

    def _recall(self) -> list[Trial]:
        newest_from = len(self._all) - RECALLED
        if newest_from <= RECALLED:
            return list(self._all.values())
        first = list(itertools.islice(self._all, RECALLED))
        newest = list(itertools.islice(reversed(self._all), RECALLED))[::-1]
        low = bisect_right(self._watched, self._order[first[-1]], key=self._order.__getitem__)
        high = bisect_left(self._watched, self._order[newest[0]], key=self._order.__getitem__)
        return [self._all[name] for name in (*first, *self._watched[low:high], *newest)]

    def newest(self) -> Iterator[Trial]:
        """The trials asked for, the last one first; observations given are not among them."""
        return (trial for trial in reversed(self._all.values()) if trial.charged)

    def copy(self) -> TrialTable:
        twin = copy.copy(self)
        twin._all, twin._order = dict(self._all), dict(self._order)
        twin._running, twin._kinds = dict(self._running), self._kinds.copy()
        twin._watched, twin._cut = list(self._watched), dict(self._cut)
        return twin

    def values(self) -> ValuesView[Trial]:
        return self._all.values()  # Mapping's own would look each one up

    def __getitem__(self, trial_id: str) -> Trial:
        return self._all[trial_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


def _tells_length(trial: Trial) -> bool:
    """Whether its curve says how long runs are. An observation's of one value does not: its t may be made up."""
    return bool(trial.curve.t) and (trial.charged or (trial.completed and len(trial.curve.t) > 1))
