"""Optuna through its ask-and-tell interface: TPE with Hyperband's or halving's pruner, its GP sampler on full runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.box import Box
from benchmarks.protocol import Decision
from benchmarks.rivals import ASHA, Rival, rescaled
from benchmarks.rivals_asked import Asked, Wish, quiet
from benchmarks.simulate import Problem


def suggest(trial: Any, box: Box) -> Mapping[str, Any]:
    """Values of every dimension of the box, from an Optuna trial."""
    values = {}
    for d in box.dimensions:
        if d.kind == "float":
            values[d.name] = trial.suggest_float(d.name, d.low, d.high, log=d.log)
        elif d.kind == "int":
            values[d.name] = trial.suggest_int(d.name, int(d.low), int(d.high), log=d.log)
        else:
            values[d.name] = trial.suggest_categorical(d.name, d.choices)
    return values


class OptunaTPE(Asked):
    """Multivariate TPE (constant liar for what is in flight); Hyperband prunes at the reports.

    A trial begins when a full run can be paid, what pruning saves comes back.
    """

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        import optuna

        super().__init__(problem, budget, seed)
        with quiet():
            self.study = optuna.create_study(
                study_name=str(seed),  # the pruner draws brackets from the name
                direction="minimize" if problem.mode == "min" else "maximize",
                sampler=optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=self.seed),
                pruner=self.pruner(),
            )
        self.trials: dict[str, Any] = {}
        self.pruned: set[str] = set()

    def pruner(self) -> Any:
        from optuna.pruners import HyperbandPruner

        return HyperbandPruner(min_resource=1, max_resource=self.max_t, reduction_factor=3)

    def ask(self, trial_id: str) -> Any:
        if self.left < self.max_t:
            return self.wait_or_finish()
        with quiet():
            trial = self.trials[trial_id] = self.study.ask()
            config = self.box.config(suggest(trial, self.box))
        return self.begin(trial_id, config, self.max_t)

    def report(self, trial_id: str, t: float, value: float) -> Decision:
        decision = super().report(trial_id, t, value)
        if not math.isfinite(value):
            return decision
        with quiet():
            self.trials[trial_id].report(value, int(t))
            if decision is Decision.CONTINUE and self.trials[trial_id].should_prune():
                self.pruned.add(trial_id)
                return Decision.STOP
        return decision

    def tell(self, trial_id: str, error: bool = False) -> None:
        from optuna.trial import TrialState

        Rival.tell(self, trial_id, error)
        run, trial = self.runs[trial_id], self.trials.pop(trial_id)
        with quiet():
            if error:
                self.study.tell(trial, state=TrialState.FAIL)
            elif trial_id in self.pruned:
                self.study.tell(trial, state=TrialState.PRUNED)
            else:
                self.study.tell(trial, self.problem.sign * run.last)


class OptunaTPEHalving(OptunaTPE):
    """The same with one bracket, rungs at 8, 24 and 72 % of a run.

    Hyperband shares few trials out among its brackets: TPE, which models each by itself, starts late, and the brackets
    that begin high prune little. One bracket is better with 5, 10 and 20 full runs.
    """

    def pruner(self) -> Any:
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=rescaled(ASHA.rungs, self.max_t)[0], reduction_factor=3)


class OptunaGP(Asked):
    """Optuna's own GP sampler (log EI), full runs."""

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        import optuna

        super().__init__(problem, budget, seed)
        start = min(10, max(3, int(budget) // 3))
        with quiet():
            sampler = optuna.samplers.GPSampler(seed=self.seed, n_startup_trials=start)
            self.study = optuna.create_study(direction="minimize", sampler=sampler)

    def wish(self) -> Wish | None:
        if self.left < self.max_t:
            return None
        trial = self.study.ask()
        return Wish(trial, suggest(trial, self.box), self.max_t)

    def told(self, wish: Wish, cost: float) -> None:
        self.study.tell(wish.handle, cost)
