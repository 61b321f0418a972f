"""One suggestion computed by a worker thread on a fork of the optimiser, and spare points after it."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from jobs_ray.search.optimizer import FINISHED, Suggestion
from jobs_ray.trials import Phase

if TYPE_CHECKING:
    from jobs_ray.search.optimizer import JoBSOptimizer

logger = logging.getLogger(__name__)

NOT_READY = object()  # ask again later
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
    spare: list[Suggestion] = field(default_factory=list)  # each knows of the proposal and of those before it
    given: int = 0  # suggestions since; its proposal is mostly the first of them
    superseded: bool = False

    def start(self, turn: threading.Lock) -> Job:
        """Computes in a thread, one job with the `turn` at a time."""
        # a daemon: a fit that hangs must not keep the driver from ending
        thread = threading.Thread(target=_compute, args=(self, turn), name="jobs-ray-suggest", daemon=True)
        thread.start()
        _running[thread] = self
        return self


def is_suggestion(proposal: Any) -> bool:
    """Whether a trial can be started with it."""
    return proposal is not NOT_READY and proposal is not None and proposal is not FINISHED


def is_new(proposal: Any) -> TypeGuard[Suggestion]:
    """Whether it is a run of a new configuration: no promotion."""
    return isinstance(proposal, Suggestion) and proposal.resume_from is None and proposal.phase is not Phase.CONFIRM


def _compute(job: Job, turn: threading.Lock) -> None:
    with turn:
        start = time.perf_counter()
        try:
            job.proposal = job.fork.propose(full=job.moment.full)
        except Exception as error:  # handed to Ray's thread, which logs it and falls back
            job.error = error
        finally:
            job.seconds = time.perf_counter() - start
            job.done.set()
    try:
        _go_on(job, turn)
    except Exception:
        logger.warning("no further suggestion could be computed ahead", exc_info=True)


def _go_on(job: Job, turn: threading.Lock) -> None:
    """Computes the spare points; another job comes first."""
    fork, newest = job.fork.fork(), job.proposal
    while len(job.spare) < job.wanted and is_new(newest) and not job.superseded:
        with turn:
            fork.accept(f"spare {len(job.spare)}", newest)
            newest = fork.propose(full=job.moment.full)
        if is_new(newest):
            job.spare.append(newest)


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
