"""Random sequences of operations on random spaces break no invariant. `JOBS_RAY_FUZZ=10000` (make fuzz) runs more."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from core_runs import as_json
from core_spaces import spaces
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from jobs_ray.models.cost import InFullRuns
from jobs_ray.search.budget import ledger, promotion_cost
from jobs_ray.search.lookahead import Lookahead
from jobs_ray.search.optimizer import FINISHED, Decision, JoBSOptimizer, Suggestion
from jobs_ray.search.promotion import promotable
from jobs_ray.space import Categorical, Integer, Mixture, Real
from jobs_ray.trials import Trial, TrialStatus, TrialTable

SEQUENCES = int(os.environ.get("JOBS_RAY_FUZZ", "75"))
TOLERANCE = 1e-9


@dataclass
class Shadow:
    """One trial as an independent book-keeper sees it: what it trained, and what was promised for it."""

    grant: float | None
    start: float
    source: tuple[float, ...] = ()
    times: list[float] = field(default_factory=list)
    steps: float = 0.0
    excess: float = 0.0  # steps beyond what the ask was charged for: trained again, or past the grant
    ended: bool = False

    @property
    def last(self) -> float:
        return max([self.start, *self.times])

    def report(self, t: float) -> None:
        last = self.last
        if t <= self.start and self.source:  # its checkpoint was older than the short run's end
            base = max([0.0, *(s for s in self.source if s < t)])
            self.excess += last - base
            self.steps += t - base
            self.start, self.times, self.source = base, [], tuple(s for s in self.source if s <= base)
        elif t <= last:
            base = max([self.start, *(s for s in self.times if s < t)])
            if t < last:
                self.excess += last - base
                self.steps += t - base
            self.times = [s for s in self.times if s < t]
        else:
            self.steps += t - last
        self.times.append(t)

    def again(self, t: float) -> None:
        """A new process has trained it, though it had ended."""
        times = self.source if t <= self.start and self.source else (self.start, *self.times)
        trained = t - max([0.0, *(s for s in times if s < t)])
        self.steps += trained
        self.excess += trained


class Driver:
    """Carries out operations and checks what must hold after each."""

    def __init__(self, space: Mapping[str, Any], options: dict[str, Any]) -> None:
        self.space, self.options = space, options
        self.optimizer = JoBSOptimizer(space, **options)
        self.shadows: dict[str, Shadow] = {}
        self.names = (f"trial-{i}" for i in itertools.count())

    # -- operations: each gets a random number and picks with it -------------------------------------------------

    def ask(self, n: int) -> str | None:
        name, full = next(self.names), n % 20 == 0
        before = self.optimizer.budget
        answer = self.optimizer.ask(name, full=full)
        if answer is None:
            assert self.running()
        elif answer is FINISHED:
            self.check_finished(full)
        else:
            assert isinstance(answer, Suggestion)
            check_config(self.optimizer, self.space, answer.config)
            trial = self.optimizer.trials[name]
            source = trial.curve.t if answer.resume_from else ()
            self.shadows[name] = Shadow(trial.grant, trial.start, source)
            assert before.left > 0
            return name
        return None

    def ask_ahead(self, n: int) -> None:
        """Several at once, all but the first looked ahead for."""
        ahead = Lookahead()
        for _ in range(2 + n % 3):
            name, before = next(self.names), self.optimizer.budget
            answer = self.optimizer.propose(ahead=ahead)
            if not isinstance(answer, Suggestion):
                break
            check_config(self.optimizer, self.space, answer.config)
            self.optimizer.accept(name, answer)
            trial = self.optimizer.trials[name]
            assert answer.promotes in (None, trial.promotes)  # a whole run of the same point is one as well
            self.shadows[name] = Shadow(trial.grant, trial.start, trial.curve.t if answer.resume_from else ())
            assert before.left > 0

    def ask_and_run(self, n: int) -> None:
        name = self.ask(n)
        if name is not None:
            interval = self.interval(n)
            for _ in range(60):
                if self.step(name, self.shadows[name].last + interval, value_of(n)) is Decision.STOP:
                    break
            self.end(name, error=False)

    def advance(self, n: int) -> None:
        if name := self.pick(n):
            self.step(name, self.shadows[name].last + self.interval(n), value_of(n))

    def nan(self, n: int) -> None:
        if name := self.pick(n):
            bad = [math.nan, math.inf, -math.inf, None, "text", 10**400][n % 6]
            self.step(name, self.shadows[name].last + self.interval(n), bad)

    def duplicate(self, n: int) -> None:
        if (name := self.pick(n)) and self.shadows[name].times:
            t = self.shadows[name].last
            value = value_of(n)
            self.step(name, t, value)
            once = self.optimizer.state_dict()
            self.step(name, t, value)
            assert self.optimizer.state_dict() == once

    def restart(self, n: int) -> None:
        if (name := self.pick(n)) and self.shadows[name].last > 0:
            self.step(name, self.shadows[name].last * ((n % 7 + 0.5) / 8.0), value_of(n))

    def jump(self, n: int) -> None:
        if name := self.pick(n):
            self.step(name, self.shadows[name].last + 3.0 * self.unit(), value_of(n))

    def stray(self, n: int) -> None:
        """Reports that belong to nothing that runs, and times that are no times: all without effect."""
        ended = [name for name, shadow in self.shadows.items() if shadow.ended]
        before = self.optimizer.state_dict()
        assert self.optimizer.report("never-asked", 1.0, 1.0) is Decision.CONTINUE
        self.optimizer.tell("never-asked", error=bool(n % 2))
        self.optimizer.forget("never-asked")
        if ended:
            name = ended[n % len(ended)]
            assert self.optimizer.report(name, 1.0 + n % 30, 1.0) is Decision.STOP
            self.optimizer.tell(name, error=bool(n % 2))
            self.optimizer.forget(name)
        if name := self.pick(n):
            self.optimizer.report(name, [0.0, -1.0, math.nan, math.inf][n % 4], 1.0)
        assert self.optimizer.state_dict() == before

    def run_again(self, n: int) -> None:
        """Ray trains a trial that has ended: charged, and nothing else."""
        if ended := [name for name, shadow in self.shadows.items() if shadow.ended]:
            name, t = ended[n % len(ended)], (n % 29 + 1) * self.unit() / 25.0
            before = self.optimizer.trials[name]
            assert self.optimizer.report(name, t, value_of(n), restarted=True) is Decision.STOP
            self.shadows[name].again(t)
            now = self.optimizer.trials[name]
            assert (now.curve, now.status, now.final) == (before.curve, before.status, before.final)

    def error(self, n: int) -> None:
        if name := self.pick(n):
            self.end(name, error=True)

    def tell(self, n: int) -> None:
        if name := self.pick(n):
            self.end(name, error=False)

    def forget(self, n: int) -> None:
        if (name := self.pick(n)) and self.shadows[name].steps == 0:
            self.optimizer.forget(name)
            assert name not in self.optimizer.trials
            del self.shadows[name]

    def note_checkpoint(self, n: int) -> None:
        """Of the short run that would be promoted now, else of any: there is none, an older one, or one as expected."""
        answer = self.optimizer.propose()
        name = answer.resume_from if isinstance(answer, Suggestion) else None
        if name is None:
            short = [name for name, trial in self.optimizer.trials.items() if trial.status is TrialStatus.STOPPED]
            name = short[n % len(short)] if short else None
        if name is not None:
            t = self.optimizer.trials[name].curve.last_t * (n % 3) / 2.0
            before = self.optimizer.budget
            if not self.optimizer.note_checkpoint(name, t):
                again = self.optimizer.propose()
                assert not isinstance(again, Suggestion) or again.resume_from != name
            assert self.optimizer.budget == before

    def observe(self, n: int) -> None:
        config = self.optimizer.space.decode(self.optimizer.space.sample(1, np.random.default_rng(n))[0])
        curve = [(t * self.unit() / 4.0, value_of(n + t)) for t in range(1, 5)]
        spent = self.optimizer.budget_spent if self.options["max_t"] else None
        name = self.optimizer.add_observation(config, curve, complete=bool(n % 3))
        final = self.optimizer.settings.sign * curve[-1][1]
        assert self.optimizer.trials[name].final in ((None,) if n % 3 == 0 else (final, None))
        assert spent is None or self.optimizer.budget_spent == spent

    def reload(self, n: int) -> None:
        state = as_json(self.optimizer.state_dict())
        fresh = JoBSOptimizer(self.space, **(self.options | {"seed": n % 100}))
        fresh.load_state_dict(state)
        assert as_json(fresh.state_dict()) == state
        assert fresh.propose() == self.optimizer.propose()
        self.optimizer = fresh

    def look(self, n: int) -> None:
        before = self.optimizer.state_dict()
        summary = as_json(self.optimizer.summary())
        recommended = self.optimizer.recommendation()
        assert len(summary["trials"]) == len(self.optimizer.trials)
        if any(trial.curve.value and trial.completed for trial in self.optimizer.trials.values()):
            assert recommended is not None
            assert recommended.confirmed
            check_config(self.optimizer, self.space, recommended.config)
        self.optimizer.propose()
        quick = self.optimizer.propose(quick=True)
        kind = (quick.phase, quick.steps, quick.promotes is None) if isinstance(quick, Suggestion) else None
        assert self.optimizer.next_kind() == kind
        assert self.optimizer.state_dict() == before

    # -- what they share -----------------------------------------------------------------------------------------

    def unit(self) -> float:
        return self.options["max_t"] or 10.0

    def interval(self, n: int) -> float:
        return self.unit() / (25.0, 7.0, 3.0, 1.0)[n // 3 % 4]

    def running(self) -> list[str]:
        return [name for name, shadow in self.shadows.items() if not shadow.ended]

    def pick(self, n: int) -> str | None:
        running = self.running()
        return running[n % len(running)] if running else None

    def step(self, name: str, t: float, value: Any) -> Decision:
        decision = self.optimizer.report(name, t, value)
        self.shadows[name].report(t)
        if self.options["max_t"] and t >= self.options["max_t"]:
            assert decision is Decision.STOP
        return decision

    def end(self, name: str, error: bool) -> None:
        self.optimizer.tell(name, error=error)
        self.shadows[name].ended = True
        status = self.optimizer.trials[name].status
        assert status is not TrialStatus.RUNNING
        assert not error or status is TrialStatus.FAILED
        self.optimizer.tell(name, error=not error)
        assert self.optimizer.trials[name].status is status

    def check(self) -> None:
        trials = self.optimizer.trials
        assert set(self.shadows) == {name for name, trial in trials.items() if trial.charged}
        for name, shadow in self.shadows.items():
            assert trials[name].running is not shadow.ended
            assert math.isclose(trials[name].steps, shadow.steps, abs_tol=1e-6)
        max_t, total = self.options["max_t"], self.options["budget"]
        money = self.optimizer.budget
        assert money.spent <= money.committed + TOLERANCE
        assert math.isclose(self.optimizer.budget_spent, money.spent, abs_tol=1e-9)  # added up as it goes
        if max_t is None or total is None:
            return
        assert math.isclose(money.spent, sum(s.steps for s in self.shadows.values()) / max_t, abs_tol=1e-6)
        excess = sum(s.excess + self.overrun(name) for name, s in self.shadows.items()) / max_t
        costs = self.optimizer.costs
        assert costs is not None
        granted = money.spent + costs.outstanding(TrialTable(trials.values()))
        assert granted <= total + excess + 1e-6
        assert granted <= money.committed + TOLERANCE  # they may turn out to report later than that

    def overrun(self, name: str) -> float:
        grant = self.optimizer.trials[name].grant
        limit = self.options["max_t"] if grant is None else grant
        return max(self.shadows[name].last - limit, 0.0)

    def affords(self, trial: Trial) -> bool:
        costs, resume = self.optimizer.costs, self.optimizer.settings.resume
        return costs is not None and self.optimizer.budget.affords(promotion_cost(trial, resume, costs))

    def check_finished(self, full: bool) -> None:
        """FINISHED: the trials are used up, or nothing runs and no short run with its confirmation is affordable."""
        limit = self.options["num_trials"]
        if limit is not None and len(self.shadows) >= limit:
            return
        assert not self.running()
        trials, wanted = self.optimizer.trials.values(), self.options.get("num_confirm", "auto")
        pool = self.optimizer.space.grid
        if pool is not None and {tuple(x) for x in pool.tolist()} <= {t.x for t in trials}:  # none is asked for twice
            usual = self.optimizer.plan()
            rest = 1.0 - usual["short_t"] / usual["max_t"] if usual and self.optimizer.settings.resume else 1.0
            left = [t for t in promotable(trials) if self.affords(t)]
            assert full or wanted != "auto" or not left or not self.optimizer.budget.affords(rest + TOLERANCE)
            return
        confirmed = [t for t in trials if t.phase == "confirm" and t.completed]
        if limit is not None and wanted != "auto" and len(confirmed) >= wanted:
            return  # what is left of the trials would be short runs that nothing may confirm
        assert limit is None or self.options["budget"] is not None
        reported = [bool(self.optimizer.trials[name].curve.t) for name in self.shadows]
        if len(reported) >= 15 and not any(reported[-15:]):  # a broken trainable: nothing would ever be spent
            return
        plan = self.optimizer.plan()
        short = 0.0 if full or plan is None else plan["short_t"] / plan["max_t"]
        assert not self.optimizer.budget.affords(1.0 + short + TOLERANCE)


def check_config(optimizer: JoBSOptimizer, space: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Within bounds, mixtures on the simplex, exactly the active parameters, constants kept, plain Python."""
    values = optimizer.space.values(config)
    assert as_json(config)["fixed"] == {"epochs": 1, "tag": "x"}
    kept = {"/".join(path) for path in leaf_paths(config)} - {"fixed/epochs", "fixed/tag"}
    nested = {f"{name}/{domain}" for name, v in values.items() if isinstance(v, dict) for domain in v}
    assert kept == nested | {name for name, v in values.items() if not isinstance(v, dict)}
    for block in optimizer.space.blocks:
        value, parameter = values.get(block.name), block.parameter
        if block.name not in values:
            assert parameter.when
        elif isinstance(parameter, Mixture):
            weights = np.array([value[name] for name in parameter.names])
            assert abs(math.fsum(weights) - 1.0) <= 1e-9
            assert np.all(weights >= parameter.lower - 1e-12)
            assert np.all(weights <= parameter.upper + 1e-12)
        elif isinstance(parameter, Categorical):
            assert any(type(value) is type(choice) and value == choice for choice in parameter.choices)
        else:
            assert type(value) is (int if isinstance(parameter, Integer) else float)
            assert parameter.lower <= value <= parameter.upper


def leaf_paths(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(node, Mapping):
        return [leaf for key, child in node.items() for leaf in leaf_paths(child, (*path, key))]
    return [path]


def value_of(n: int) -> float:
    """Mostly losses of ordinary size; sometimes what a diverged, perfect or odd run reports."""
    odd = {0: 0.0, 1: 1e30, 2: -1.0, 3: 1e-30, 4: 1e200, 5: -3e150}
    return odd.get(n % 97, 0.5 + (n * 2654435761 % 4096) / 2048.0)


KINDS = ["ask_and_run"] * 8 + ["ask"] * 6 + ["ask_ahead"] * 2 + ["advance"] * 6 + ["note_checkpoint"] * 2 + [
    "nan", "duplicate", "restart", "jump", "stray", "run_again", "error", "tell", "forget", "observe", "reload", "look",
]  # fmt: skip


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    max_t = draw(st.sampled_from([25.0, 25.0, 1000.0, 6.0, 2.5, 1.0, None]))
    return {
        "mode": draw(st.sampled_from(["min", "max"])),
        "max_t": max_t,
        "budget": draw(st.sampled_from([8.5, 3.0, 20.0, 1.0, 5.0, None])),
        "num_trials": draw(st.sampled_from([None, None, 30, 5, 1])),
        "short_t": draw(st.sampled_from(["auto", "auto", 1.0])),
        "num_full": draw(st.sampled_from(["auto", "auto", 1, 3])),
        "num_confirm": draw(st.sampled_from(["auto", "auto", 0, 2])),
        "resume": draw(st.booleans()),
        "extend": draw(st.booleans()),
        "seed": draw(st.integers(0, 3)),
    }


@settings(
    max_examples=SEQUENCES,
    deadline=None,
    derandomize="JOBS_RAY_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    print_blob=True,
)
@example(  # the horizon, learned from a trial that has gone back since, was not saved
    space={"fixed": {"epochs": 1, "tag": "x"}, "x": Real(0.0, 1.0)},
    given_options={"mode": "min", "max_t": None, "budget": 8.5, "num_trials": None, "resume": False, "seed": 0},
    operations=[("ask_and_run", 0), ("ask", 0), ("jump", 0), ("restart", 0), ("reload", 0)],
)
@example(  # a short run of a configuration that another one had was taken for its promotion
    space={"fixed": {"epochs": 1, "tag": "x"}, "method": Categorical(["full", "lora", "ia3"])},
    given_options={"mode": "min", "max_t": 25.0, "budget": 8.5, "num_trials": None, "extend": False, "seed": 0},
    operations=[*[("ask_and_run", 0)] * 3, ("ask_and_run", 1), ("ask_ahead", 0)],
)
@example(  # an observed run takes the place of one of LEARN: the trial that is left confirms, as num_confirm allows
    space={"fixed": {"epochs": 1, "tag": "x"}, "x": Real(0.0, 1.0)},
    given_options={"mode": "min", "max_t": 25.0, "budget": 3.0, "num_trials": 5, "num_confirm": 2, "seed": 0},
    operations=[*[("ask_and_run", 1)] * 3, ("observe", 2), *[("ask_and_run", 1)] * 2],
)
@given(
    space=spaces(),
    given_options=options(),
    operations=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 10**6)), min_size=5, max_size=40),
)
def test_no_sequence_of_operations_breaks_an_invariant(
    space: dict[str, Any], given_options: dict[str, Any], operations: list[tuple[str, int]]
) -> None:
    driver = Driver(space, given_options)
    for kind, number in operations:
        getattr(driver, kind)(number)
        driver.check()
    for name in driver.running():
        driver.end(name, error=False)
    driver.look(0)
    driver.check()


def test_the_ledger_of_the_shadow_counts_what_is_trained_again() -> None:
    """The oracle itself, by hand: 1, 2, 3 trained, restarted from 1, then 2: three steps and one more."""
    shadow = Shadow(grant=5.0, start=0.0)
    for t in (1.0, 2.0, 3.0, 2.0):
        shadow.report(t)
    assert (shadow.steps, shadow.excess, shadow.last) == (4.0, 2.0, 2.0)
    assert ledger(TrialTable(), 5.0, InFullRuns(5.0)).left == 5.0
