"""Searchers under somebody else's scheduler: ASHA as Ray Tune has it, which stops trials and resumes none.

What a user gets who swaps OptunaSearch for JoBSSearcher in `TuneConfig(search_alg=..., scheduler=ASHAScheduler())` and
changes nothing else: neither `max_t` nor a budget is known to the searcher, and it learns how long a run is from the
longest.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.box import Box
from benchmarks.protocol import Decision, Suggestion
from benchmarks.rivals import Pick, Rival
from benchmarks.rivals_asked import quiet
from benchmarks.rivals_optuna import suggest
from benchmarks.simulate import Problem

ETA = 4  # Ray's reduction_factor; grace_period 1


class Stopping:
    """The rungs of one bracket: a trial goes on where it is among the best quarter of those that came there before it
    (ray/tune/schedulers/async_hyperband.py)."""

    def __init__(self, max_t: int) -> None:
        self.rungs: dict[int, list[float]] = {}
        t = 1
        while t < max_t:
            self.rungs[t] = []
            t *= ETA

    def stops(self, t: int, value: float) -> bool:
        """value: maximised."""
        if t not in self.rungs:
            return False
        seen = [v for v in self.rungs[t] if math.isfinite(v)]
        self.rungs[t].append(value)
        return bool(seen and value < np.percentile(seen, 100.0 * (1.0 - 1.0 / ETA)))


class UnderASHA(Rival):
    """A trial begins when a full run can be paid; what stopping saves comes back. A subclass writes `suggest`."""

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        super().__init__(problem, budget, seed)
        self.bracket = Stopping(self.max_t)

    def suggest(self, trial_id: str) -> Any:
        """A configuration."""
        raise NotImplementedError

    def ask(self, trial_id: str) -> Any:
        if self.left < self.max_t:
            return self.wait_or_finish()
        return self.begin(trial_id, self.suggest(trial_id), self.max_t)

    def report(self, trial_id: str, t: float, value: float) -> Decision:
        decision = super().report(trial_id, t, value)
        run = self.runs[trial_id]
        stops = self.bracket.stops(int(t), run.last)
        return Decision.STOP if stops or decision is Decision.STOP else Decision.CONTINUE


class JoBSUnderASHA(UnderASHA):
    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        from jobs_ray import JoBSOptimizer

        super().__init__(problem, budget, seed)
        self.optimizer = JoBSOptimizer(problem.coding.space(), mode=problem.mode, seed=seed)

    def suggest(self, trial_id: str) -> Any:
        suggestion = self.optimizer.ask(trial_id, full=True)
        assert isinstance(suggestion, Suggestion), "without a budget there is always a next one"
        return suggestion.config

    def report(self, trial_id: str, t: float, value: float) -> Decision:
        self.optimizer.report(trial_id, t, value)
        return super().report(trial_id, t, value)

    def tell(self, trial_id: str, error: bool = False) -> None:
        super().tell(trial_id, error)
        self.optimizer.tell(trial_id, error, own_end=False)

    def recommendation(self) -> Pick | None:
        found = self.optimizer.recommendation()
        return None if found is None else Pick(found.config)


class OptunaUnderASHA(UnderASHA):
    """OptunaSearch's sampler (plain TPE), told the last value of each trial as OptunaSearch tells it."""

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        import optuna

        super().__init__(problem, budget, seed)
        self.box = Box(problem.coding.space())
        with quiet():
            sampler = optuna.samplers.TPESampler(seed=seed % 2**31)
            self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.trials: dict[str, Any] = {}

    def suggest(self, trial_id: str) -> Any:
        with quiet():
            trial = self.trials[trial_id] = self.study.ask()
            return self.box.config(suggest(trial, self.box))

    def tell(self, trial_id: str, error: bool = False) -> None:
        from optuna.trial import TrialState

        super().tell(trial_id, error)
        run = self.runs[trial_id]
        with quiet():
            if error or not math.isfinite(run.last):
                self.study.tell(self.trials.pop(trial_id), state=TrialState.FAIL)
            else:
                self.study.tell(self.trials.pop(trial_id), run.last)


class RandomUnderASHA(UnderASHA):
    """BasicVariantGenerator with ASHAScheduler."""

    def suggest(self, trial_id: str) -> Any:
        return self.fresh()
