"""SMAC3, DEHB, NePS, Ax and BOHB through their own interfaces.

None is a dependency of this project: install them into an environment of their own and run `benchmarks.compare` with
its Python into the same --out folder (README.md here says what each needs). SMAC, DEHB and BOHB get max_t / 27 as the
shortest run, one report of 25, so four rungs at eta = 3: with three DEHB has .64 / .59 / .48 instead of
.61 / .48 / .42 at C = 5 / 10 / 20 (eight families, 4 seeds).
"""

from __future__ import annotations

import math
import tempfile
from typing import Any

import numpy as np

from benchmarks.rivals_asked import Asked, Wish, quiet
from benchmarks.simulate import Problem


def config_space(rival: Asked) -> Any:
    """The rival's box as a ConfigSpace."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer

    space = ConfigurationSpace(seed=rival.seed)
    add = getattr(space, "add", None) or space.add_hyperparameter  # hpbandster needs ConfigSpace below 1
    for d in rival.box.dimensions:
        if d.kind == "float":
            add(Float(d.name, (d.low, d.high), log=d.log))
        elif d.kind == "int":
            add(Integer(d.name, (int(d.low), int(d.high)), log=d.log))
        else:
            add(Categorical(d.name, list(range(len(d.choices)))))
    return space


def values_of(rival: Asked, config: Any) -> dict[str, Any]:
    """Values of the box from a mapping that holds the *index* of a choice."""
    return {
        d.name: d.choices[int(config[d.name])] if d.kind == "choice" else config[d.name] for d in rival.box.dimensions
    }


def shortest(rival: Asked) -> float:
    return rival.max_t / 27 if rival.max_t >= 25 else 1.0


class Smac(Asked):
    """SMAC3's multi-fidelity facade: Hyperband with a random forest and log EI."""

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        from smac import MultiFidelityFacade, Scenario

        super().__init__(problem, budget, seed)
        self.folder = tempfile.TemporaryDirectory()
        with quiet():
            scenario = Scenario(
                config_space(self), deterministic=True, n_trials=100_000, seed=self.seed, n_workers=1,
                min_budget=shortest(self), max_budget=self.max_t, output_directory=self.folder.name,
            )  # fmt: skip
            self.smac = MultiFidelityFacade(
                scenario, lambda config, seed, budget: 0.0, logging_level=False, overwrite=True,
                initial_design=MultiFidelityFacade.get_initial_design(scenario, n_configs=10),
                intensifier=MultiFidelityFacade.get_intensifier(scenario, eta=3),
            )  # fmt: skip

    def wish(self) -> Wish | None:
        info = self.smac.ask()
        return Wish(info, values_of(self, info.config), max(1, round(info.budget)))

    def told(self, wish: Wish, cost: float) -> None:
        from smac.runhistory import TrialValue

        self.smac.tell(wish.handle, TrialValue(cost=cost), save=False)


class Dehb(Asked):
    """DEHB: differential evolution in Hyperband's brackets."""

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        from dehb import DEHB

        super().__init__(problem, budget, seed)
        self.folder = tempfile.TemporaryDirectory()
        with quiet():
            self.dehb = DEHB(
                cs=config_space(self), min_fidelity=shortest(self), max_fidelity=self.max_t, eta=3, n_workers=1,
                seed=self.seed, output_path=self.folder.name, save_freq="end", log_level="ERROR",
            )  # fmt: skip

    def wish(self) -> Wish | None:
        job = self.dehb.ask()
        return Wish(job, values_of(self, job["config"]), max(1, round(job["fidelity"])))

    def told(self, wish: Wish, cost: float) -> None:
        self.dehb.tell(wish.handle, {"fitness": cost, "cost": wish.goal})


class Neps(Asked):
    """NePS's Hyperband. Its PriorBand needs priors, which nobody here has."""

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        import neps
        import torch

        super().__init__(problem, budget, seed)
        np.random.seed(self.seed)  # noqa: NPY002  NePS takes no seed: it draws from the global generators
        torch.manual_seed(self.seed)
        space: dict[str, Any] = {}
        for d in self.box.dimensions:
            if d.kind == "float":
                space[d.name] = neps.HPOFloat(d.low, d.high, log=d.log)
            elif d.kind == "int":
                space[d.name] = neps.HPOInteger(int(d.low), int(d.high), log=d.log)
            else:
                space[d.name] = neps.HPOCategorical([str(i) for i in range(len(d.choices))])
        space["fidelity"] = neps.HPOInteger(max(1, self.max_t // 27), self.max_t, is_fidelity=True)
        with quiet():
            self.neps = neps.AskAndTell(neps.algorithms.hyperband(neps.SearchSpace(space), eta=3))

    def wish(self) -> Wish | None:
        trial = self.neps.ask()
        return Wish(trial, values_of(self, trial.config), int(trial.config["fidelity"]))

    def told(self, wish: Wish, cost: float) -> None:
        self.neps.tell(wish.handle.metadata.id, cost)


class Bohb(Asked):
    """BOHB (hpbandster 0.7.4): its model, its brackets and its order of them, without the Pyro server around them."""

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        super().__init__(problem, budget, seed)
        with quiet():
            from hpbandster.optimizers.bohb import CG_BOHB

            np.random.seed(self.seed)  # noqa: NPY002  it draws from the global generator
            self.model = CG_BOHB(configspace=config_space(self))  # its defaults are those of `BOHB`
        self.levels = 1 + math.floor(math.log(self.max_t / shortest(self), 3) + 1e-9)
        self.brackets: list[Any] = []

    def bracket(self) -> Any:
        """The next one, as `BOHB.get_next_iteration` makes it."""
        from hpbandster.optimizers.iterations import SuccessiveHalving

        s = self.levels - 1 - len(self.brackets) % self.levels
        first = int(self.levels / (s + 1)) * 3**s
        sizes = [max(int(first / 3**i), 1) for i in range(s + 1)]
        budgets = [self.max_t / 3.0**i for i in range(s, -1, -1)]
        made = SuccessiveHalving(
            HPB_iter=len(self.brackets), num_configs=sizes, budgets=budgets, config_sampler=self.model.get_config
        )
        self.brackets.append(made)
        return made

    def wish(self) -> Wish | None:
        found = next((run for b in self.brackets if (run := b.get_next_run()) is not None), None)
        name, config, budget = found or self.bracket().get_next_run()
        return Wish((name, config, budget), values_of(self, config), max(1, round(budget)))

    def told(self, wish: Wish, cost: float) -> None:
        from hpbandster.core.dispatcher import Job

        name, config, budget = wish.handle
        job = Job(name, config=config, budget=budget)
        job.result, job.exception = {"loss": cost}, None
        self.brackets[name[0]].register_result(job)
        self.model.new_result(job)


class Ax(Asked):
    """Ax's client with its default generation strategy (Sobol, then BoTorch), full runs."""

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        super().__init__(problem, budget, seed)
        parameters: list[Any] = []
        self.short = {d.name: f"x{i}" for i, d in enumerate(self.box.dimensions)}  # Ax wants plain names
        for d in self.box.dimensions:
            if d.kind == "choice":
                order = list(range(len(d.choices)))
                parameters.append(ChoiceParameterConfig(self.short[d.name], order, "int", is_ordered=False))
            else:
                bounds = (d.low, d.high) if d.kind == "float" else (int(d.low), int(d.high))
                scaling = "log" if d.log else "linear"
                parameters.append(RangeParameterConfig(self.short[d.name], bounds, d.kind, scaling=scaling))
        start = min(10, max(3, int(budget) // 3))
        with quiet():
            self.client = Client(random_seed=self.seed)
            self.client.configure_experiment(parameters=parameters)
            self.client.configure_optimization(objective="-cost")
            self.client.configure_generation_strategy(initialization_budget=start, method="fast")

    def wish(self) -> Wish | None:
        if self.left < self.max_t:
            return None
        from ax.exceptions.core import DataRequiredError

        try:
            ((index, found),) = self.client.get_next_trials(max_trials=1).items()
        except DataRequiredError:  # its Sobol points are in flight: it wants their values first
            return None
        return Wish(index, values_of(self, {name: found[short] for name, short in self.short.items()}), self.max_t)

    def told(self, wish: Wish, cost: float) -> None:
        self.client.complete_trial(trial_index=wish.handle, raw_data={"cost": cost})
