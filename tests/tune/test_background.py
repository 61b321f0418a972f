"""Suggestions computed off Ray's loop: never stale, never blocking, never missing. The clock is the test's own."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray.tune.trainable import wrap_function

from jobs_ray.search.generator import RunKind
from jobs_ray.search.optimizer import JoBSOptimizer, Phase, Suggestion
from jobs_ray.space import Integer, Real, SearchSpace
from jobs_ray.trials import LearningCurve, Trial, TrialStatus
from jobs_ray.tune.background import NOT_READY, Moment, Proposer
from jobs_ray.tune.capacity import Capacity
from jobs_ray.tune.computation import may_start


def proposal(number: int) -> Suggestion:
    """What SlowCore's computation of that number comes to."""
    return Suggestion({"number": number}, Phase.SEARCH, 2.0)


QUICK = proposal(-1)


@dataclass
class SlowCore:
    """Proposes its number of the computation, once its gate opens; `broken`: raises instead."""

    gate: threading.Event = field(default_factory=threading.Event)
    broken: bool = False
    computed: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def fork(self) -> SlowCore:
        return self

    def adopt_cache(self, fork: SlowCore) -> None:
        assert fork is self

    def propose(self, *, full: bool, quick: bool = False, ahead: Any = None) -> Suggestion:
        if quick:
            return QUICK
        self.computed.append(len(self.computed))
        number = self.computed[-1]
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(20)
        if self.broken:
            raise RuntimeError("no fit today")
        return proposal(number)


@pytest.fixture
def core() -> Any:
    core = SlowCore()
    yield core
    core.gate.set()  # lets a waiting thread go


def finish(proposer: Proposer, core: SlowCore) -> None:
    core.gate.set()
    assert proposer._job is not None
    assert proposer._job.done.wait(20)


def test_not_ready_while_trials_run_and_ready_afterwards(core: SlowCore) -> None:
    proposer, moment = Proposer(), Moment(3, 1, False)
    assert proposer.next(core, moment, wait=False) is NOT_READY
    assert proposer.next(core, moment, wait=False) is NOT_READY
    finish(proposer, core)
    assert proposer.next(core, moment, wait=False) == proposal(0)
    assert core.computed == [0]  # one computation served all three questions
    assert core.threads == {"jobs-ray-suggest"}


def test_with_nothing_running_it_waits_instead_of_making_ray_sleep(core: SlowCore) -> None:
    threading.Timer(0.2, core.gate.set).start()
    assert Proposer().next(core, Moment(0, 0, False), wait=True) == proposal(0)


def test_a_proposal_from_before_another_hand_out_is_computed_again(core: SlowCore) -> None:
    proposer = Proposer()
    assert proposer.next(core, Moment(3, 1, False), wait=False) is NOT_READY
    finish(proposer, core)
    assert proposer.next(core, Moment(4, 1, False), wait=True) == proposal(1)


def test_a_trial_that_ended_meanwhile_is_taken_into_account_once(core: SlowCore) -> None:
    proposer = Proposer()
    assert proposer.next(core, Moment(3, 1, False), wait=False) is NOT_READY
    finish(proposer, core)
    core.gate.clear()
    assert proposer.next(core, Moment(3, 2, False), wait=False) is NOT_READY  # again, with what is new
    finish(proposer, core)
    assert proposer.next(core, Moment(3, 5, False), wait=False) == proposal(1)  # busy trials cannot starve it


def test_prepared_when_a_trial_ends(core: SlowCore) -> None:
    proposer, moment = Proposer(), Moment(3, 2, False)
    proposer.prepare(core, moment)
    finish(proposer, core)
    proposer.prepare(core, moment)  # is ready: nothing to do
    assert proposer.next(core, moment, wait=False) == proposal(0)
    assert core.computed == [0]


def test_with_nothing_running_only_the_present_trials_count(core: SlowCore) -> None:
    proposer = Proposer()
    for ended in (1, 2):
        assert proposer.next(core, Moment(3, ended, False), wait=False) is NOT_READY
        finish(proposer, core)
        core.gate.clear()
    core.gate.set()
    assert proposer.next(core, Moment(3, 9, False), wait=True) == proposal(2)


def test_after_the_cap_a_space_filling_point_comes(core: SlowCore, caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    proposer = Proposer(cap_s=30.0, clock=lambda: now[0])
    assert proposer.next(core, Moment(0, 0, False), wait=False) is NOT_READY
    now[0] += 29.0
    assert proposer.next(core, Moment(0, 0, False), wait=False) is NOT_READY
    now[0] += 2.0
    assert proposer.next(core, Moment(0, 0, False), wait=False) == QUICK
    assert "was not ready after 30 s" in caplog.text
    assert proposer.fallbacks == 1


def test_a_failing_computation_is_logged_and_replaced(core: SlowCore, caplog: pytest.LogCaptureFixture) -> None:
    core.broken = True
    core.gate.set()
    assert Proposer().next(core, Moment(0, 0, False), wait=True) == QUICK
    assert "no fit today" in caplog.text


def test_holding_the_loop_is_rationed(core: SlowCore) -> None:
    """Eight free slots must not hold a result up eight times as long as one."""
    now = [0.0]
    proposer = Proposer(clock=lambda: now[0])
    granted = []

    class Done:
        def is_set(self) -> bool:
            return False

        def wait(self, seconds: float) -> bool:
            granted.append(seconds)
            now[0] += seconds
            return False

        def set(self) -> None:
            """What the worker calls in the end."""

    proposer.next(core, Moment(0, 0, False), wait=False)
    assert proposer._job is not None
    proposer._job.done = Done()  # type: ignore[assignment]
    for _ in range(8):
        proposer.next(core, Moment(0, 0, False), wait=False)
    assert sum(granted) < 0.1


def test_a_spare_point_of_a_small_space_is_not_given_twice() -> None:
    """An older chain does not know what a newer one has given."""
    core = JoBSOptimizer({"n": Integer(1, 9)}, mode="min", max_t=8, budget=9, seed=0)
    core.accept("a", Suggestion({"n": 3}, Phase.SEARCH, 2.0))
    may = [n for n in range(1, 10) if may_start(core, Suggestion({"n": n}, Phase.SEARCH, 2.0))]
    assert may == [1, 2, 4, 5, 6, 7, 8, 9]


class ForeseeingCore:
    """Proposes {"by": number of the fork, "after": what it accepted}; forks after the first `ready` wait."""

    space = SearchSpace({"x": Real(0.0, 1.0)})  # infinite: no point comes twice

    def __init__(self, ready: int = 1) -> None:
        self.gate, self.ready, self.forks, self.number = threading.Event(), ready, 0, 0
        self.accepted: list[str] = []
        self.kind: tuple[Phase, float] = (Phase.SEARCH, 2.0)
        self.promotes: str | None = None
        self.trials: dict[str, Any] = {}

    def fork(self) -> ForeseeingCore:
        twin = copy.copy(self)
        twin.accepted = list(self.accepted)
        if self.number == 0:
            self.forks += 1
            twin.number = self.forks
        return twin

    def adopt_cache(self, fork: ForeseeingCore) -> None:
        """Nothing is fitted."""

    def accept(self, trial_id: str, suggestion: Suggestion) -> None:
        self.accepted.append(trial_id)

    def propose(self, *, full: bool, quick: bool = False, ahead: Any = None) -> Suggestion:
        if not quick and self.number > self.ready:
            assert self.gate.wait(20)
        return Suggestion({"by": self.number, "after": len(self.accepted)}, *self.kind, promotes=self.promotes)

    def next_kind(self, *, full: bool) -> RunKind:
        return (*self.kind, self.promotes is None)


@pytest.fixture
def foreseeing() -> Any:
    core = ForeseeingCore()
    yield core
    core.gate.set()


def computed_ahead(proposer: Proposer, number: int) -> None:
    """Waits until the newest chain is so long."""
    for _ in range(2000):
        if proposer._chains and len(proposer._chains[0].spare) == number:
            return
        time.sleep(0.005)
    raise AssertionError("no spare points came")


def test_trials_that_end_together_get_points_that_were_foreseen(foreseeing: Any) -> None:
    proposer = Proposer()
    first = proposer.next(foreseeing, Moment(1, 0, False), wait=True, spare=2)
    assert first.config == {"by": 1, "after": 0}
    computed_ahead(proposer, 2)
    given = []
    for handed_out, ended in ((2, 1), (3, 2), (4, 3)):
        proposer.prepare(foreseeing, Moment(handed_out, ended, False), spare=2)  # waits for the gate
        given.append(proposer.next(foreseeing, Moment(handed_out, ended, False), wait=False, spare=2))
    assert [point.config for point in given[:2]] == [{"by": 1, "after": 1}, {"by": 1, "after": 2}]
    assert given[2] is NOT_READY, "no more were foreseen"
    assert proposer.fallbacks == 0


def test_where_no_actor_is_reused_nothing_is_foreseen(foreseeing: Any) -> None:
    proposer = Proposer()
    proposer.next(foreseeing, Moment(1, 0, False), wait=True)
    assert proposer.next(foreseeing, Moment(2, 1, False), wait=False) is NOT_READY
    assert not proposer._chains


@pytest.mark.parametrize("change", ["phase", "steps", "promotion", "one more was handed out"])
def test_a_point_foreseen_for_another_situation_is_not_given(foreseeing: Any, change: str) -> None:
    proposer = Proposer()
    proposer.next(foreseeing, Moment(1, 0, False), wait=True, spare=2)
    computed_ahead(proposer, 2)
    if change == "promotion":
        foreseeing.promotes = "a short run"
    elif change != "one more was handed out":
        foreseeing.kind = (Phase.LEARN, 2.0) if change == "phase" else (Phase.SEARCH, 3.0)
    handed_out = 3 if change == "one more was handed out" else 2
    assert proposer.next(foreseeing, Moment(handed_out, 1, False), wait=False, spare=2) is NOT_READY


def test_a_fresh_point_takes_the_place_of_the_one_foreseen() -> None:
    core = ForeseeingCore(ready=2)
    proposer = Proposer()
    proposer.next(core, Moment(1, 0, False), wait=True, spare=2)
    computed_ahead(proposer, 2)
    fresh = proposer.next(core, Moment(2, 1, False), wait=True, spare=1)
    assert fresh.config == {"by": 2, "after": 0}
    computed_ahead(proposer, 1)
    # the newer chain first, then what is left of the older one
    assert proposer.next(core, Moment(3, 2, False), wait=False, spare=1).config == {"by": 2, "after": 1}
    assert proposer.next(core, Moment(4, 3, False), wait=False, spare=1) is NOT_READY
    core.gate.set()


def hurried(cost: float = 1.0, pace: float = 1.0) -> tuple[Proposer, list[float]]:
    """A proposer that has seen computations take as long as trials, and its clock."""
    now = [100.0]
    proposer = Proposer(clock=lambda: now[0])
    proposer._cost, proposer._pace = cost, pace
    return proposer, now


def test_in_a_hurry_spare_points_come_first_and_the_next_computation_rests() -> None:
    core = ForeseeingCore(ready=99)
    proposer, now = hurried()
    assert proposer.hurried
    proposer.next(core, Moment(1, 0, False), wait=True, spare=1)
    computed_ahead(proposer, 3)  # one, and two more for the time until the next computation
    proposer._cost = 1.0
    for n in (1, 2):
        proposer.prepare(core, Moment(1 + n, n, False), spare=1)
        found = proposer.next(core, Moment(1 + n, n, False), wait=False, spare=1)
        assert found.config == {"by": 1, "after": n}
    assert core.forks == 1, "nothing was computed meanwhile"
    now[0] += 10.0
    proposer.prepare(core, Moment(4, 3, False), spare=1)
    assert core.forks == 2


def test_a_new_computation_does_not_end_a_chain_that_grows(foreseeing: Any) -> None:
    """The spare point that comes in a moment serves; it may be the only one for long."""
    proposer, now = hurried()
    proposer.next(foreseeing, Moment(1, 0, False), wait=True, spare=1)
    computed_ahead(proposer, 3)
    proposer._cost = 1.0
    job = proposer._chains[0]
    job.spare.clear()
    job.growing = True
    assert proposer.next(foreseeing, Moment(2, 1, False), wait=False, spare=1) is NOT_READY
    assert foreseeing.forks == 1
    now[0] += 10.0  # it takes too long
    assert proposer.next(foreseeing, Moment(2, 1, False), wait=False, spare=1) is NOT_READY
    assert foreseeing.forks == 2


@pytest.mark.parametrize("gone", ["", "promoted", "reopened"])
def test_a_promotion_is_given_while_its_short_run_waits_for_it(gone: str) -> None:
    core = ForeseeingCore(ready=99)
    core.kind, core.promotes = (Phase.CONFIRM, 9.0), "short"
    short = Trial("short", {}, (), Phase.SEARCH, 2.0, status=TrialStatus.STOPPED, curve=LearningCurve((2.0,), (1.0,)))
    core.trials = {"short": replace(short, status=TrialStatus.RUNNING) if gone == "reopened" else short}
    proposer, _ = hurried()
    proposer.next(core, Moment(1, 0, False), wait=True, spare=1)
    computed_ahead(proposer, 3)
    proposer._cost = 1.0
    if gone == "promoted":
        core.trials["full"] = Trial("full", {}, (), Phase.CONFIRM, 9.0, promotes="short")
    found = proposer._spare(core, Moment(2, 1, False))
    assert (found is NOT_READY) is bool(gone)


def test_a_spare_point_of_the_kind_that_is_next_is_found_among_others(foreseeing: Any) -> None:
    proposer = Proposer()
    proposer.next(foreseeing, Moment(1, 0, False), wait=True, spare=3)
    computed_ahead(proposer, 3)
    chain = proposer._chains[0].spare
    chain[1] = Suggestion({"another": "length"}, Phase.SEARCH, 5.0)
    foreseeing.kind = (Phase.SEARCH, 5.0)
    given = proposer.next(foreseeing, Moment(2, 1, False), wait=False, spare=3)
    assert given.config == {"another": "length"}
    foreseeing.kind = (Phase.SEARCH, 2.0)
    given = proposer.next(foreseeing, Moment(3, 2, False), wait=False, spare=3)
    assert given.config == {"by": 1, "after": 1}


def test_the_pace_is_that_of_trials_that_follow_others() -> None:
    """Those at the beginning are handed out all at once, and then nothing is for as long as a trial takes."""
    core = ForeseeingCore(ready=99)
    now = [0.0]
    proposer = Proposer(clock=lambda: now[0])
    for handed_out, ended, at in ((0, 0, 1.0), (1, 0, 1.1), (2, 1, 90.0), (3, 2, 91.0), (4, 3, 92.0)):
        now[0] = at
        proposer.next(core, Moment(handed_out, ended, False), wait=True)
    assert proposer._pace == pytest.approx(1.0)


def test_only_actors_that_keep_something_want_spare_points() -> None:
    class Resets(tune.Trainable):
        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

    def wanted(kind: Any, live: int = 3) -> int:
        return Capacity().spare(live, [SimpleNamespace(get_trainable_cls=lambda: kind)])

    assert wanted(Resets) == wanted(tune.with_parameters(Resets, data=1)) == 3
    assert wanted(Resets, live=100) == 63
    assert wanted(tune.Trainable) == wanted(wrap_function(lambda config: None)) == wanted(None) == 0
    assert Capacity().spare(3, []) == 0
    assert Capacity().spare(3, [], hurried=True) == 3


def test_a_computation_ahead_that_fails_takes_nothing_away(caplog: pytest.LogCaptureFixture) -> None:
    class Core(ForeseeingCore):
        def accept(self, trial_id: str, suggestion: Suggestion) -> None:
            raise RuntimeError("no room")

    proposer = Proposer()
    assert proposer.next(Core(), Moment(1, 0, False), wait=True, spare=2).config == {"by": 1, "after": 0}
    for _ in range(2000):
        if "ahead" in caplog.text:
            break
        time.sleep(0.005)
    assert "no room" in caplog.text


LEAVES_EARLY = """
import sys
import time
from jobs_ray import JoBSOptimizer
from jobs_ray.space import Mixture, Real
from jobs_ray.tune.background import Moment, Proposer

space = {"mixture": Mixture(["code", "prose", "maths"]), "lr": Real(1e-5, 1e-2, log=True)}
core = JoBSOptimizer(space, mode="min", max_t=25, num_full=2, budget=100, seed=0)
for i in range(24):
    suggestion = core.ask(str(i))
    for t in range(1, int(suggestion.steps or 25) + 1):
        core.report(str(i), t, 1.0 + suggestion.config["mixture"]["code"] + 1.0 / t)
    core.tell(str(i))
proposer = Proposer()
proposer.prepare(core, Moment(24, 24, False), spare=2000)
proposer._job.done.wait(60)
assert not proposer._job.proposal.resume_from
time.sleep(float(sys.argv[1]))
print("left while spare points were computed:", len(proposer._job.spare) < 2000)
"""


@pytest.mark.parametrize("pause", [0.1, 0.33])
def test_a_script_that_ends_while_a_suggestion_is_computed_ends_in_order(pause: float) -> None:
    """Python kills a daemon thread in the middle of torch, and the process was aborted: exit status 134."""
    found = subprocess.run(
        [sys.executable, "-c", LEAVES_EARLY, str(pause)], capture_output=True, text=True, timeout=120
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "left while spare points were computed: True\n"
