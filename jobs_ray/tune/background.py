"""Suggestions computed off Ray's loop: on a fork of the optimiser, in one worker thread.

Ray's loop stands still while `suggest` runs, so `suggest` may take a few milliseconds at most, while a model fit
takes 20 to 200. The fork shares the frozen records with the original; results go on being recorded in the
original meanwhile, without a lock. A proposal counts only for the trials it was computed from: if a trial was
handed out since, it is computed again; if one ended since, too, but once only, or eight busy trials would keep
it from ever being ready.

Where Ray reuses actors, an idle slot costs more than time: at the second trial that ends while none is pending Ray
ends its actor, and a language model is loaded again. Trials of one length end together. So the thread goes on, each
time as if what it has proposed were running already: spare points, for when the present one is not ready (see
`search/lookahead.py`: they take milliseconds). They lack a result or two; what kind of run they are for is decided
anew.

In a hurry (suggestions are taken so fast that computing takes up a good part of the time between two: trials of a
second, or a thousand in flight) an answer that lacks the last results is worth more than an idle slot, and Ray's loop
needs the interpreter as well. Spare points come first then, and a proposal is taken as it is; the next one is computed
after a rest of several times what it takes.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobs_ray.search.generator import kind_of
from jobs_ray.search.settings import Suggestion
from jobs_ray.tune.computation import NOT_READY, Job, Moment, may_start

if TYPE_CHECKING:
    from jobs_ray.search.optimizer import JoBSOptimizer

logger = logging.getLogger(__name__)

__all__ = ["NOT_READY", "Moment", "Proposer"]

# `suggest` may hold the loop for so long (refilled at half speed while it does not): below the 100 ms that a result may
# wait, yet enough for most fits. Answering None costs more: with no trial pending, Ray ends actors it could reuse
_ALLOWANCE_S = 0.06
_STALE_LIMIT = 1
_HURRY = 0.1  # part of the time between two suggestions that computing one may take before we are in a hurry
_SMOOTHING = 0.2  # of the newest in the running means of both
_MOST_AHEAD = 64  # spare points for the time until the next computation
_REST = 2.0  # times what a computation takes from the start of one to the next, in a hurry (4: no faster, staler)


class Proposer:
    """One background computation at a time. `cap_s`: after so many seconds the space-filling fallback answers."""

    def __init__(self, cap_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.cap_s = cap_s
        self._clock = clock
        self._job: Job | None = None
        self._turn = threading.Lock()
        self._chains: deque[Job] = deque(maxlen=2)  # the last ones, the newest first: for their spare points
        self._started = -math.inf  # when the last computation was
        self._first_asked: float | None = None
        self._stale = 0
        self._allowance = _ALLOWANCE_S
        self._last = clock()
        self._given: float | None = None  # when the last suggestion was
        self._pace: float | None = None  # seconds between suggestions
        self._cost: float | None = None  # seconds to compute one
        self._slow = 0.0  # the same on a bad day: beside actors that start it takes three times as long
        self.fallbacks = 0

    @property
    def hurried(self) -> bool:
        """Whether computing a suggestion takes a good part of the time between two."""
        return self._cost is not None and self._pace is not None and self._cost > _HURRY * self._pace

    @property
    def computing(self) -> bool:
        """Whether the next suggestion is on its way; else, while slots are free, it waits for a result."""
        return self._job is not None or (self.hurried and self._growing())

    def next(self, core: JoBSOptimizer, moment: Moment, wait: bool, spare: int = 0) -> Any:
        """A Suggestion, None or FINISHED from `core.propose`, or NOT_READY.

        `wait`: nothing runs, so no result can be held up; NOT_READY would make Ray sleep for a second. `spare`: so many
        spare points are computed after it, and one may be given in the place of NOT_READY.
        """
        now = self._clock()
        if self._first_asked is None:
            self._first_asked = now
        deadline = self._first_asked + self.cap_s
        self._allowance = min(_ALLOWANCE_S, self._allowance + 0.5 * (now - self._last))
        patience = deadline - now if wait else self._allowance
        end = now + max(0.0, patience)
        result: Any = NOT_READY
        if hurried := spare > 0 and not wait and self.hurried:
            self._take_in(core)
            result = self._spare(core, moment)
        computed = False
        if result is NOT_READY and not (hurried and self._growing()):
            result = self._await(core, moment, end, wait, spare)
            computed = result is not NOT_READY
            if not computed and spare and not wait:
                result = self._spare(core, moment)
        self._last = self._clock()
        self._allowance = max(0.0, self._allowance - (self._last - now))
        if result is NOT_READY and self._last >= deadline:
            logger.warning("the next suggestion was not ready after %.0f s; a space-filling one is used", self.cap_s)
            result, computed = self._fallback(core, moment), True
        if computed:
            self._take_in(core)
            self._job = None
        if result is not NOT_READY:
            self._first_asked, self._stale = None, 0
        if isinstance(result, Suggestion):
            for job in (*self._chains, *filter(None, [self._job])):
                job.given[kind_of(result)] += 1
            if self._given is not None:
                self._pace = _running_mean(self._pace, self._last - self._given)
            self._given = self._last if moment.ended else None  # the first trials are handed out all at once
        return result

    def prepare(self, core: JoBSOptimizer, moment: Moment, spare: int = 0) -> None:
        """Starts on the next suggestion before Ray asks for it (a trial has just ended, or begun in a hurry)."""
        job = self._job
        if job is not None and (not job.done.is_set() or job.moment == moment or self._good_enough(job, moment)):
            return
        if self.hurried and self._resting():
            return
        self._take_in(core)
        self._job = self._start(core, moment, spare)

    def _await(self, core: JoBSOptimizer, moment: Moment, end: float, wait: bool, spare: int) -> Any:
        while True:
            job = self._job
            if job is not None and job.done.is_set() and not self._usable(job, moment, wait):
                self._take_in(core)
                job = None
            if job is None:
                job = self._job = self._start(core, moment, spare)
            if not job.done.wait(max(0.0, end - self._clock())):
                return NOT_READY
            if self._usable(job, moment, wait):
                if job.error is None:
                    return job.proposal
                # an exception in `suggest` would end the whole experiment (DESIGN 5.3)
                logger.error("computing a suggestion failed; a space-filling one is used", exc_info=job.error)
                return self._fallback(core, moment)

    def _usable(self, job: Job, moment: Moment, wait: bool) -> bool:
        if job.moment == moment or wait:  # nothing runs: only the very trials known now will do
            return job.moment == moment
        if not job.moment.knows_all_running(moment):
            return False
        if self._good_enough(job, moment):
            return True
        if self._stale < _STALE_LIMIT:
            self._stale += 1
            return False
        return True

    def _good_enough(self, job: Job, moment: Moment) -> bool:
        """In a hurry: a suggestion that knows every trial that runs, if not each that has ended since."""
        return job.moment.knows_all_running(moment) and self.hurried and isinstance(job.proposal, Suggestion)

    def _fallback(self, core: JoBSOptimizer, moment: Moment) -> Any:
        self.fallbacks += 1
        return core.propose(full=moment.full, quick=True)

    def _resting(self) -> bool:
        return self._clock() < self._started + _REST * (self._cost or 0.0)

    def _growing(self) -> bool:
        """Whether the next spare point is not far: a new computation would only put an end to it."""
        return bool(self._chains) and self._chains[0].growing and self._resting()

    def _take_in(self, core: JoBSOptimizer) -> None:
        """What has been computed by now."""
        job = self._job
        if job is not None and job.done.is_set():
            core.adopt_cache(job.fork)  # what was fitted serves the next fork, and predictions meanwhile
            self._cost = _running_mean(self._cost, job.seconds)
            self._slow = max(job.seconds, _running_mean(self._slow, job.seconds))
            if job.wanted:
                self._chains.appendleft(job)
            self._job = None

    def _spare(self, core: JoBSOptimizer, moment: Moment) -> Any:
        """A spare point of the kind of run that is next. Those that were given since it was computed count as what its
        chain had foreseen in their places: mostly they are much the same.
        """
        after = [(job, job.moment.handed_out + job.given.total()) for job in self._chains]
        chains = [job for job, n in after if (n, job.moment.full) == (moment.handed_out, moment.full)]
        if not chains or (kind := core.next_kind(full=moment.full)) is None:
            return NOT_READY
        found = (s for job in chains for s in job.left(kind) if may_start(core, s))
        return next(found, NOT_READY)

    def _start(self, core: JoBSOptimizer, moment: Moment, spare: int) -> Job:
        for older in self._chains:
            older.superseded = True
        self._started = self._clock()
        if spare and self.hurried and self._pace and self._cost:
            # until the chain after this one is there: the rest, then the computation, at the machine's slowest
            spare += math.ceil(min((_REST * self._cost + self._slow) / self._pace, _MOST_AHEAD))
        return Job(moment, core.fork(), wanted=spare).start(self._turn)


def _running_mean(mean: float | None, newest: float) -> float:
    return newest if mean is None else mean + _SMOOTHING * (newest - mean)
