"""Rivals that use no model: random full runs, successive halving, ASHA.

They draw configurations as the source did (`data.random_rows`), or from the pool without replacement. All of them
commit a trial's cost when it starts and start nothing that the budget does not cover; going on with a stopped trial
is charged as such (Suggestion.resume_from).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.data import MAX_T, Config, random_rows, to_config
from benchmarks.protocol import FINISHED, Decision, Phase, Suggestion
from benchmarks.simulate import Problem


@dataclass
class Run:
    """One trial of a rival: trained from `start` (exclusive) to `goal`; `values` at t in core sign (maximised)."""

    name: str
    config: Config
    start: int
    goal: int
    values: dict[int, float] = field(default_factory=dict)
    ended: bool = False

    @property
    def last(self) -> float:
        return self.values[max(self.values)]


@dataclass(frozen=True)
class Pick:
    """A recommendation."""

    config: Config


class Rival:
    """Bookkeeping common to all rivals; a subclass writes `ask`.

    budget: in full runs; kept here as a whole number of reports.
    """

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        self.problem = problem
        self.left = round(budget * MAX_T)
        self.rng = np.random.default_rng((seed, 1))
        self.runs: dict[str, Run] = {}
        pool = problem.candidates
        self.unused = list(self.rng.permutation(len(pool))) if pool is not None else []

    def fresh(self) -> Config | None:
        """A random configuration, None when the pool is empty."""
        if self.problem.candidates is None:
            return to_config(random_rows(1, self.rng)[0])
        return self.problem.candidates[self.unused.pop()] if self.unused else None

    def begin(self, trial_id: str, config: Config, goal: int, resume: Run | None = None) -> Suggestion:
        """Commit the cost of training to `goal` and hand the trial out."""
        start = max(resume.values) if resume else 0
        run = Run(trial_id, config, start, goal, dict(resume.values) if resume else {})
        self.left -= goal - start
        if self.left < 0:
            raise AssertionError(f"{type(self).__name__} began more than its budget covers: {self.left} reports left")
        self.runs[trial_id] = run
        return Suggestion(config, Phase.SEARCH, float(goal), resume.name if resume else None)

    def wait_or_finish(self) -> Any:
        return None if any(not run.ended for run in self.runs.values()) else FINISHED

    def ask(self, trial_id: str) -> Any:
        raise NotImplementedError

    def report(self, trial_id: str, t: float, value: float) -> Decision:
        run = self.runs[trial_id]
        run.values[int(t)] = self.problem.sign * value
        return Decision.STOP if t >= run.goal else Decision.CONTINUE

    def tell(self, trial_id: str, error: bool = False) -> None:
        self.runs[trial_id].ended = True

    def recommendation(self) -> Pick | None:
        """The best full run; while there is none, the run with the best last value."""
        seen = [run for run in self.runs.values() if run.values]
        full = [run for run in seen if MAX_T in run.values]
        return Pick(max(full or seen, key=lambda run: run.last).config) if seen else None


class RandomFullRuns(Rival):
    """Random configurations, each trained to the end."""

    def ask(self, trial_id: str) -> Any:
        config = self.fresh() if self.left >= MAX_T else None
        return FINISHED if config is None else self.begin(trial_id, config, MAX_T)


class SuccessiveHalving(Rival):
    """Synchronous halving with rungs at t = 1, 4, 25 and a third of the budget on each (Jamieson & Talwalkar 2016).

    The counts go from the top down, so that rounding never costs the last rung; a pool too small for the first rung
    leaves the rest to the last.
    """

    rungs = (1, 4, MAX_T)

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        super().__init__(problem, budget, seed)
        self.sizes = self.plan(self.left, len(self.unused) if problem.candidates is not None else None)
        self.level = 0
        self.queue: list[Run | None] = [None] * self.sizes[0]
        self.members: list[Run] = []

    def plan(self, reports: int, pool: int | None) -> tuple[int, ...]:
        """Number of trials of each rung for a budget of `reports`."""
        low, middle, high = self.rungs
        last = max(1, reports // 3 // (high - middle))
        second = max(last, reports // 3 // (middle - low))
        first = (reports - last * (high - middle) - second * (middle - low)) // low
        if pool is not None and first > pool:
            first, second = pool, min(second, pool)
            last = min(second, (reports - first * low - second * (middle - low)) // (high - middle))
        if first < second:
            raise ValueError(f"successive halving: {reports} reports are too few for rungs {self.rungs}")
        return first, second, last

    def ask(self, trial_id: str) -> Any:
        if not self.queue and self.level + 1 < len(self.rungs):
            if any(not run.ended for run in self.members):
                return None
            self.level += 1
            ranked = sorted(self.members, key=lambda run: run.last, reverse=True)
            self.queue = list(ranked[: self.sizes[self.level]])
            self.members = []
        if not self.queue:
            return self.wait_or_finish()
        run = self.queue.pop(0)
        config = run.config if run else self.fresh()
        assert config is not None, "the plan holds at most as many trials as the pool"
        suggestion = self.begin(trial_id, config, self.rungs[self.level], run)
        self.members.append(self.runs[trial_id])
        return suggestion


class ASHA(Rival):
    """Asynchronous halving (Li et al. 2020) with rungs at t = 2, 6, 25: promote a rung's best third, else widen."""

    rungs = (2, 6, MAX_T)
    eta = 3

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        super().__init__(problem, budget, seed)
        self.promoted: set[str] = set()

    def ask(self, trial_id: str) -> Any:
        for level in range(len(self.rungs) - 2, -1, -1):
            here, above = self.rungs[level], self.rungs[level + 1]
            if self.left < above - here:
                continue
            done = [run for run in self.runs.values() if run.ended and run.goal == here]
            best = sorted(done, key=lambda run: run.last, reverse=True)[: len(done) // self.eta]
            for run in best:
                if run.name not in self.promoted:
                    self.promoted.add(run.name)
                    return self.begin(trial_id, run.config, above, run)
        if self.left >= self.rungs[0] and (config := self.fresh()) is not None:
            return self.begin(trial_id, config, self.rungs[0])
        return self.wait_or_finish()
