"""Asynchronous training in simulated time: several trials in flight, every report costs one unit of time.

Rules, the same for every method:
- In a unit of time each trial in flight trains on to its next t and reports; the report is charged 1/max_t of a run,
  times the configuration's `step_cost` where the problem has one. A method that counts costs is told them.
- A report that is no finite number ends its trial: the training has crashed.
- A Suggestion with `resume_from` goes on from the last t of that trial: only what it trains itself is charged.
- When `budget` is spent training stops there and then: later reports do not exist, whatever was in flight.
- The regret of a method is the *noise-free* one of its own recommendation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from benchmarks.coding import Coding, TableCoding
from benchmarks.data import MAX_T, Array, Config, Metric, Task, mode_of, to_row, to_rows
from benchmarks.emulator import Emulator
from benchmarks.protocol import FINISHED, Decision, Method

NOISE: dict[Metric, float] = {"eval_loss": 0.005, "performance": 0.05}
"""Sd of a report on the emulator. Accuracy is of about 100 questions: sqrt(.6 x .4 / 100) = .05."""


@dataclass(frozen=True)
class Problem:
    """What is searched. `curve`: config -> (max_t,) noise-free; `regret`: config -> noise-free regret >= about 0.

    noise: sd of a report.
    candidates: the only configurations that can be evaluated, None when any can.
    fallback: the regret of a method that recommends nothing (the median random configuration).
    coding: the search space, and how rivals see it.
    step_cost: cost of a report relative to that of a mean configuration; None: all cost the same.
    """

    name: str
    metric: Metric
    curve: Callable[[Config], Array]
    regret: Callable[[Config], float]
    noise: float
    candidates: tuple[Config, ...] | None
    fallback: float
    max_t: int = MAX_T
    coding: Coding = field(default_factory=TableCoding)
    step_cost: Callable[[Config], float] | None = None

    @property
    def mode(self) -> Literal["min", "max"]:
        return mode_of(self.metric)

    @property
    def sign(self) -> float:
        """+1 where the metric is maximised, else -1."""
        return 1.0 if self.mode == "max" else -1.0


def emulator_problem(emulator: Emulator, noise: float | None = None) -> Problem:
    """Any configuration; normalised regret."""
    sd = NOISE[emulator.metric] if noise is None else noise
    return Problem(emulator.name, emulator.metric, emulator.curve, emulator.regret, sd, None, 1.0)


def pool_problem(task: Task, metric: Metric) -> Problem:
    """The table's own configurations with their real curves, noise included; raw regret of the real finals."""
    configs, curves = task.configs, task.curves(metric)
    rows = to_rows(configs)
    sign = 1.0 if mode_of(metric) == "max" else -1.0
    best = float(np.max(sign * curves[:, -1]))

    def find(config: Config) -> int:
        distance = np.abs(rows - to_row(config)).max(1)  # an encoding may cost the last digits
        if distance.min() > 1e-6:
            raise ValueError(f"pool {task.name}: expected a configuration of the table, came {config}")
        return int(distance.argmin())

    return Problem(
        task.name, metric, lambda c: curves[find(c)], lambda c: best - sign * float(curves[find(c), -1]), 0.0,
        tuple(configs), float(np.median(best - sign * curves[:, -1])),
    )  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """One run. points: (spent in full runs, regret of the recommendation then), the last one at the end."""

    points: tuple[tuple[float, float], ...]
    spent: float
    regret: float
    trials: int
    full_runs: int
    seconds: float
    recommended: Config | None


def granted(method: Method, name: str, goal: float, max_t: float) -> float:
    """How far a trial may train: as it was told, or further if JoBSOptimizer lets it go on on the spot."""
    known = getattr(method, "trials", None)
    grant = getattr(known.get(name), "grant", goal) if isinstance(known, Mapping) else goal
    return goal if grant is None else min(grant, max_t)


def simulate(method: Method, problem: Problem, budget: float, *, parallel: int = 4, seed: int = 0,
             every: float = 0.25) -> Trace:  # fmt: skip
    """Run `method` to its FINISHED or to the end of the budget.

    every: full-run equivalents between two points of the trace.

    Raises:
        RuntimeError: the method waits although nothing is in flight.
    """
    # The stream of JoBS' seventh suggestion, too (search/generator.py); another tag would change all published runs.
    rng = np.random.default_rng((seed, 7))
    max_t = problem.max_t
    limit = round(budget * max_t)
    running: dict[str, tuple[float, Array]] = {}  # trial -> (goal, curve)
    rates: dict[str, float] = {}
    paid: dict[str, float] = {}
    told = getattr(getattr(method, "settings", None), "cost_unit", None) is not None
    reached: dict[str, int] = {}
    points: list[tuple[float, float]] = []
    used, count, full = 0.0, 0, 0
    finished = False
    began = time.perf_counter()

    def regret() -> tuple[float, Config | None]:
        got = method.recommendation()
        return (problem.fallback, None) if got is None else (problem.regret(got.config), got.config)

    while used < limit:
        while len(running) < parallel and not finished:
            name = f"trial-{count}"
            suggestion = method.ask(name)
            if suggestion is FINISHED:
                finished = True
            elif suggestion is None:
                break
            else:
                count += 1
                goal = max_t if suggestion.steps is None else min(float(suggestion.steps), max_t)
                reached[name] = reached[suggestion.resume_from] if suggestion.resume_from else 0
                running[name] = (goal, problem.curve(suggestion.config))
                rates[name] = problem.step_cost(suggestion.config) if problem.step_cost else 1.0
                paid[name] = 0.0
        if not running:
            if finished:
                break
            raise RuntimeError(f"{problem.name}: ask answered None with nothing in flight at {used}/{limit} reports")
        for name, (goal, curve) in list(running.items()):
            if used >= limit:
                break
            t = reached[name] = reached[name] + 1
            used += rates[name]
            paid[name] += rates[name]
            value = float(curve[t - 1]) + (problem.noise * rng.normal() if problem.noise else 0.0)
            cost = (paid[name] / max_t,) if told else ()
            decision = method.report(name, float(t), value, *cost)
            goal = granted(method, name, goal, max_t)
            crashed = not math.isfinite(value)
            if crashed or decision is Decision.STOP or t >= goal or t >= max_t:
                full += t >= max_t
                del running[name]
                method.tell(name, error=crashed)
        if not points or used / max_t - points[-1][0] >= every:
            points.append((used / max_t, regret()[0]))
    last, config = regret()
    points.append((used / max_t, last))
    return Trace(tuple(points), used / max_t, last, count, full, time.perf_counter() - began, config)
