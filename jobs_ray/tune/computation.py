"""One suggestion computed by a worker thread on a fork of the optimiser, and spare points after it."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from jobs_ray.search.generator import RunKind, kind_of
from jobs_ray.search.lookahead import Lookahead
from jobs_ray.search.optimizer import Suggestion
from jobs_ray.search.promotion import is_promotable

if TYPE_CHECKING:
    from jobs_ray.search.optimizer import JoBSOptimizer

logger = logging.getLogger(__name__)

NOT_READY = object()  # ask again later
_AT_ONCE = 8  # spare points that are computed before another job has its turn: some 20 ms
_LEAVE_S = 10.0  # that the interpreter's end waits for what is being computed

_running: weakref.WeakKeyDictionary[threading.Thread, Job] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Moment:
    """What a proposal depends on, as counters: trials handed out, trials ended, and the kind of question."""

    handed_out: int
    ended: int
    full: bool

    def knows_all_running(self, now: Moment) -> bool:
        """Whether trials may have ended between the two moments, but none was handed out."""
        return (self.handed_out, self.full) == (now.handed_out, now.full)


@dataclass(eq=False)
class Job:
    """`proposal`: of the optimiser `fork`, or `error`, once `done`; then spare points."""

    moment: Moment
    fork: JoBSOptimizer
    done: threading.Event = field(default_factory=threading.Event)
    proposal: Any = NOT_READY
    error: BaseException | None = None
    seconds: float = 0.0
    wanted: int = 0  # spare points
    ahead: Lookahead = field(default_factory=Lookahead)
    spare: list[Suggestion] = field(default_factory=list)  # each knows of the proposal and of those before it
    given: Counter[RunKind] = field(default_factory=Counter)  # suggestions since, its own or not
    growing: bool = True  # while there is something to come
    superseded: bool = False

    def left(self, kind: RunKind) -> list[Suggestion]:
        """Of what was computed, in order. What was given since, of whatever origin, counts as the first of its kind."""
        return [s for s in (self.proposal, *self.spare) if isinstance(s, Suggestion) and kind_of(s) == kind][
            self.given[kind] :
        ]

    def start(self, turn: threading.Lock) -> Job:
        """Computes in a thread, one job with the `turn` at a time."""
        # a daemon: a fit that hangs must not keep the driver from ending
        thread = threading.Thread(target=_compute, args=(self, turn), name="jobs-ray-suggest", daemon=True)
        thread.start()
        _running[thread] = self
        return self


def may_start(core: JoBSOptimizer, suggestion: Suggestion) -> bool:
    """Whether the short run that it promotes, if any, waits for that still; and whether a new one of a small space was
    not asked for meanwhile (an older chain does not know what a newer one has given)."""
    if suggestion.promotes is None:
        x = None if core.space.grid is None else tuple(core.space.encode(suggestion.config).tolist())
        return x is None or all(t.x != x for t in core.trials.values())
    source = core.trials.get(suggestion.promotes)
    return source is not None and is_promotable(source, core.trials.values())


def _compute(job: Job, turn: threading.Lock) -> None:
    try:
        with turn:
            _propose(job)
            chain = _chain(job)
            for _ in islice(chain, _AT_ONCE):
                pass
        while not job.superseded:  # another job comes first
            with turn:
                if next(chain, None) is None:
                    break
    except Exception:
        logger.warning("no further suggestion could be computed ahead", exc_info=True)
    finally:
        job.growing = False


def _propose(job: Job) -> None:
    start = time.perf_counter()
    try:
        job.proposal = job.fork.propose(full=job.moment.full, ahead=job.ahead if job.wanted else None)
    except Exception as error:  # handed to Ray's thread, which logs it and falls back
        job.error = error
    finally:
        job.seconds = time.perf_counter() - start
        job.done.set()


def _chain(job: Job) -> Iterator[Suggestion]:
    """Computes the spare points, each when it is asked for."""
    fork, newest = job.fork.fork(), job.proposal
    # where none is at hand (a model of the user's, the first one after a promotion) each is a whole computation
    while len(job.spare) < job.wanted and isinstance(newest, Suggestion) and (job.ahead.filled or not job.superseded):
        fork.accept(f"spare {len(job.spare)}", newest)
        newest = fork.propose(full=job.moment.full, ahead=job.ahead)
        if isinstance(newest, Suggestion):
            job.spare.append(newest)
            yield newest


@atexit.register
def _leave() -> None:
    """A script may end while its next suggestion is computed. Python stops a daemon thread where it next asks for the
    interpreter; from within torch that aborts the process (exit status 134) after a search that went well.
    """
    running = list(_running.items())
    for _, job in running:
        job.superseded = True
    end = time.monotonic() + _LEAVE_S
    for thread, _ in running:
        thread.join(max(0.0, end - time.monotonic()))
