"""The methods by name. All of them answer the core's ask / report / tell, so the simulator treats them alike."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.data import Scope
from benchmarks.protocol import Method
from benchmarks.simulate import Problem

Build = Callable[[Problem, float, int], Method]


def _paper_full(problem: Problem, budget: float, seed: int) -> Method:
    from benchmarks.paper import PUBLISHED, PaperRecipe

    return PaperRecipe(problem, budget, seed, effort=PUBLISHED)


def library(module: str, name: str) -> Build:
    """A rival whose module imports a library: only when it is built."""

    def build(problem: Problem, budget: float, seed: int) -> Method:
        rival: Method = getattr(import_module(f"benchmarks.{module}"), name)(problem, budget, seed)
        return rival

    return build


def jobs(scope: Scope = "all", *, full: bool = False, plain: bool = False, **settings: Any) -> Build:
    """Ours. full: only full runs (`ask(full=True)`); plain: LastValuePredictor; settings go to JoBSOptimizer."""

    def build(problem: Problem, budget: float, seed: int) -> Method:
        from jobs_ray import JoBSOptimizer

        given: dict[str, Any] = {"resume": True, **settings}
        if plain:
            from jobs_ray.models.prediction import LastValuePredictor

            given["predictor"] = LastValuePredictor()
        if problem.candidates is not None:
            if scope != "all":
                raise ValueError(f"jobs-{scope}-only: no table holds runs with the other side fixed; use the emulator")
            given["candidates"] = list(problem.candidates)
        optimizer = JoBSOptimizer(
            problem.coding.space(scope), mode=problem.mode, max_t=float(problem.max_t), budget=budget, seed=seed,
            **given,
        )  # fmt: skip
        return FullRuns(optimizer) if full else optimizer

    return build


class FullRuns:
    """JoBSOptimizer that is asked for full runs only: Bayesian optimisation with its surrogate and encoding."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.report = optimizer.report
        self.tell = optimizer.tell
        self.recommendation = optimizer.recommendation

    def ask(self, trial_id: str) -> Any:
        return self.optimizer.ask(trial_id, full=True)


METHODS: dict[str, Build] = {
    "jobs": jobs(),
    "random": library("rivals", "RandomFullRuns"),
    "gp-ei": library("rivals_gp", "GPEI"),
    "gp-ei-jobs": jobs(full=True),
    "halving": library("rivals", "SuccessiveHalving"),
    "asha": library("rivals", "ASHA"),
    "paper": library("paper", "PaperRecipe"),
    "paper-full": _paper_full,
    "jobs-costs": jobs(cost_unit="mean full runs"),
    "jobs-no-predictor": jobs(plain=True),
    "jobs-no-confirmation": jobs(num_confirm=0),
    "jobs-data-only": jobs("data"),
    "jobs-model-only": jobs("model"),
    "jobs-fixed-split": jobs(num_full=5),
    "jobs-no-resume": jobs(resume=False),
    **{f"jobs-n{n}": jobs(num_full=n) for n in (1, 2, 3, 4, 6)},
    "regmix": library("rivals_regmix", "RegMix"),
    "botorch-ei": library("rivals_botorch", "BotorchEI"),
    "botorch-ei-seq": library("rivals_botorch", "BotorchEI"),
    "optuna-tpe-hb": library("rivals_optuna", "OptunaTPE"),
    "optuna-tpe-sh": library("rivals_optuna", "OptunaTPEHalving"),
    "optuna-gp": library("rivals_optuna", "OptunaGP"),
    "jobs-under-asha": library("rivals_scheduled", "JoBSUnderASHA"),
    "optuna-under-asha": library("rivals_scheduled", "OptunaUnderASHA"),
    "random-under-asha": library("rivals_scheduled", "RandomUnderASHA"),
    "smac-mf": library("rivals_external", "Smac"),
    "dehb": library("rivals_external", "Dehb"),
    "neps-hyperband": library("rivals_external", "Neps"),
    "bohb": library("rivals_external", "Bohb"),
    "ax": library("rivals_external", "Ax"),
}
SEQUENTIAL: frozenset[str] = frozenset({"botorch-ei-seq"})
"""Run with one trial in flight, whatever `--parallel` says."""


def in_flight(method: str, parallel: int) -> int:
    """Trials at once. `parallel`: what the flags say."""
    return 1 if method in SEQUENTIAL else parallel


RIVALS = tuple(name for name in METHODS if name != "gp-ei-jobs" and not name.startswith("jobs"))
"""What the ratio is taken against: nothing of ours, `gp-ei-jobs` included, is a rival."""


def unknown(names: list[str]) -> list[str]:
    """Names that are no method."""
    return [name for name in names if name not in METHODS]
