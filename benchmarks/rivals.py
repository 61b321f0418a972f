"""Rivals that use no model: random full runs, successive halving, ASHA.

They draw configurations as the problem says (`coding.random`), or from the pool without replacement. All of them
commit a trial's cost when it starts and start nothing that the budget does not cover; going on with a stopped trial
is charged as such (Suggestion.resume_from).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.data import MAX_T, Config
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
        self.max_t = problem.max_t
        self.left = round(budget * self.max_t)
        self.rng = np.random.default_rng((seed, 1))
        self.runs: dict[str, Run] = {}
        pool = problem.candidates
        self.unused = list(self.rng.permutation(len(pool))) if pool is not None else []

    def fresh(self) -> Config | None:
        """A random configuration, None when the pool is empty."""
        if self.problem.candidates is None:
            return self.problem.coding.to_config(self.problem.coding.random(1, self.rng)[0])
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
        """FINISHED is the last word: what runs may crash or be pruned, and the rest of its cost comes back."""
        return None if any(not run.ended for run in self.runs.values()) else FINISHED

    def ask(self, trial_id: str) -> Any:
        raise NotImplementedError

    def report(self, trial_id: str, t: float, value: float) -> Decision:
        run = self.runs[trial_id]
        run.values[int(t)] = self.problem.sign * value if math.isfinite(value) else -math.inf  # crashed: the worst
        return Decision.STOP if t >= run.goal else Decision.CONTINUE

    def tell(self, trial_id: str, error: bool = False) -> None:
        run = self.runs[trial_id]
        run.ended = True
        self.left += run.goal - max(run.values, default=run.start)  # it crashed or was stopped: the rest is not charged

    def recommendation(self) -> Pick | None:
        """The best full run; while there is none, the run with the best last value."""
        seen = [run for run in self.runs.values() if run.values]
        full = [run for run in seen if self.max_t in run.values]
        best = list(filter(sound, full)) or list(filter(sound, seen)) or seen
        return Pick(max(best, key=lambda run: run.last).config) if seen else None


class RandomFullRuns(Rival):
    """Random configurations, each trained to the end."""

    def ask(self, trial_id: str) -> Any:
        config = self.fresh() if self.left >= self.max_t else None
        return self.wait_or_finish() if config is None else self.begin(trial_id, config, self.max_t)


def sound(run: Run) -> bool:
    """It did not crash."""
    return math.isfinite(run.last)


def rescaled(rungs: tuple[int, ...], max_t: int) -> tuple[int, ...]:
    """The same shares of a run when it has `max_t` reports, without those that coincide: (2, 6, 25) -> (1, 5)."""
    return tuple(sorted({max(1, round(t * max_t / MAX_T)) for t in rungs}))


class SuccessiveHalving(Rival):
    """Synchronous halving with rungs at t = 1, 3, 8, 25 and equal shares of the budget (Jamieson & Talwalkar 2016).

    The counts go from the top down, so that rounding never costs the last rung; a pool too small for the first rung
    leaves the rest to the last.
    """

    rungs: tuple[int, ...] = (1, 3, 8, MAX_T)

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        super().__init__(problem, budget, seed)
        self.rungs = rescaled(self.rungs, self.max_t)
        self.sizes = self.plan(self.left, len(self.unused) if problem.candidates is not None else None)
        self.level = 0
        self.queue: list[Run | None] = [None] * self.sizes[0]
        self.members: list[Run] = []

    def plan(self, reports: int, pool: int | None) -> tuple[int, ...]:
        """Number of trials of each rung for a budget of `reports`."""
        steps = np.diff((0, *self.rungs)).tolist()
        sizes = [1] * len(steps)
        for level in range(len(steps) - 1, 0, -1):
            above = sizes[level + 1] if level + 1 < len(steps) else 1
            sizes[level] = max(above, reports // len(steps) // steps[level])

        def left_for(level: int) -> int:
            used = sum(size * step for size, step in zip(sizes, steps, strict=True))
            return int((reports - used + sizes[level] * steps[level]) // steps[level])

        sizes[0] = left_for(0)
        if pool is not None and sizes[0] > pool:
            sizes = [min(size, pool) for size in sizes]
            sizes[-1] = min(sizes[-2], left_for(len(sizes) - 1))
        if sizes[0] < sizes[1]:
            raise ValueError(f"successive halving: {reports} reports are too few for rungs {self.rungs}")
        return tuple(sizes)

    def ask(self, trial_id: str) -> Any:
        if not self.queue and self.level + 1 < len(self.rungs):
            if any(not run.ended for run in self.members):
                return None
            self.level += 1
            ranked = sorted(filter(sound, self.members), key=lambda run: run.last, reverse=True)
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

    rungs: tuple[int, ...] = (2, 6, MAX_T)
    eta = 3

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        super().__init__(problem, budget, seed)
        self.rungs = rescaled(self.rungs, self.max_t)
        self.promoted: set[str] = set()

    def ask(self, trial_id: str) -> Any:
        for level in range(len(self.rungs) - 2, -1, -1):
            here, above = self.rungs[level], self.rungs[level + 1]
            if self.left < above - here:
                continue
            done = [run for run in self.runs.values() if run.ended and run.goal == here and sound(run)]
            best = sorted(done, key=lambda run: run.last, reverse=True)[: len(done) // self.eta]
            for run in best:
                if run.name not in self.promoted:
                    self.promoted.add(run.name)
                    return self.begin(trial_id, run.config, above, run)
        if self.left >= self.rungs[0] and (config := self.fresh()) is not None:
            return self.begin(trial_id, config, self.rungs[0])
        return self.wait_or_finish()
