"""The searches that `lm_compare` compares, through the real Ray Tune: each gets a Bench and gives what it Found."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lm_budget import Account, OnSimplex, RandomVariants, SimplexOptuna, Suggested, off_simplex
from jobs_ray.lm.demo import DEFAULT, Size, demo_space
from jobs_ray.lm.task import Task

PARALLEL = 2


@dataclass(frozen=True)
class Bench:
    """One search: its task (of `seed`), size, budget in full runs, and the folder for its experiment."""

    task: Task
    size: Size
    budget: float
    seed: int
    folder: Path

    def account(self, least: int, *, cuts: bool = True) -> Account:
        size = self.size
        return Account(round(self.budget * size.max_steps), size.max_steps, size.eval_every, least, cuts=cuts)


@dataclass(frozen=True)
class Found:
    """What a search recommends, the value that made it do so, and its ledger; `report`: JoBS' own summary."""

    config: dict[str, Any]
    value: float
    account: Account
    report: dict[str, Any] | None = None


def _fit(bench: Bench, space: Mapping[str, Any], account: Account, **tune_config: Any) -> None:
    from ray import tune

    from jobs_ray.lm import run_config, trainable

    shutil.rmtree(bench.folder, ignore_errors=True)
    tune.Tuner(
        trainable(bench.task),
        param_space=dict(space),
        tune_config=tune.TuneConfig(metric="eval_loss", mode="min", num_samples=-1, reuse_actors=True, **tune_config),
        run_config=run_config(
            bench.task, name=bench.folder.name, storage_path=str(bench.folder.parent), verbose=0,
            stop=account, callbacks=[account],
        ),
    ).fit()  # fmt: skip
    shutil.rmtree(bench.folder, ignore_errors=True)


def _jobs(bench: Bench, space: Mapping[str, Any]) -> Found:
    """As a stranger would use it: nothing is set by hand."""
    from jobs_ray import JoBSScheduler, JoBSSearcher

    task, account = bench.task, bench.account(0, cuts=False)
    searcher = JoBSSearcher(
        max_t=task.max_steps, budget=bench.budget, time_attr="step", steps_key=task.steps_key,
        resume_key=task.resume_key, seed=bench.seed,
    )  # fmt: skip
    _fit(bench, space, account, search_alg=searcher, scheduler=JoBSScheduler(), max_concurrent_trials=PARALLEL)
    recommendation = searcher.recommendation()
    if recommendation is None:
        raise RuntimeError("no trial of JoBS finished")
    return Found(dict(recommendation.config), recommendation.mean, account, searcher.report())


def _jobs_joint(bench: Bench) -> Found:
    return _jobs(bench, demo_space(bench.task))


def _jobs_data_only(bench: Bench) -> Found:
    return _jobs(bench, {**DEFAULT, "mixture": demo_space(bench.task)["mixture"]})


def _jobs_model_only(bench: Bench) -> Found:
    return _jobs(bench, {name: value for name, value in demo_space(bench.task).items() if name != "mixture"})


def _rival(bench: Bench, account: Account, space: Mapping[str, Any], algorithm: Any, scheduler: Any = None) -> Found:
    _fit(bench, space, account, search_alg=algorithm, scheduler=scheduler)
    best = account.best()
    if best is None:
        raise RuntimeError("no trial reported a value")
    return Found(*best, account)


def _random(bench: Bench) -> Found:
    account = bench.account(bench.size.max_steps)
    return _rival(
        bench, account, demo_space(bench.task),
        RandomVariants(account, max_concurrent=PARALLEL, random_state=bench.seed),
    )  # fmt: skip


def _asha_scheduler(size: Size) -> Any:
    from ray.tune.schedulers import ASHAScheduler

    return ASHAScheduler(time_attr="step", max_t=size.max_steps, grace_period=size.short, reduction_factor=3)


def _asha(bench: Bench) -> Found:
    account = bench.account(bench.size.short)
    algorithm = RandomVariants(account, max_concurrent=PARALLEL, random_state=bench.seed)
    return _rival(bench, account, demo_space(bench.task), algorithm, _asha_scheduler(bench.size))


def _optuna_asha(bench: Bench) -> Found:
    import optuna
    from ray.tune.search import ConcurrencyLimiter

    account = bench.account(bench.size.short)
    sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=bench.seed)
    searcher = ConcurrencyLimiter(SimplexOptuna(sampler=sampler), max_concurrent=PARALLEL)
    space = off_simplex(demo_space(bench.task), tuple(bench.task.domains))
    return _rival(bench, account, space, Suggested(account, searcher), _asha_scheduler(bench.size))


def _bohb(bench: Bench) -> Found:
    import hpbandster  # noqa: F401  (what TuneBOHB asks for only when it is made)
    from ray.tune.schedulers import HyperBandForBOHB
    from ray.tune.search.bohb import TuneBOHB

    class SimplexBOHB(OnSimplex, TuneBOHB):  # type: ignore[misc]
        """TuneBOHB over mixtures."""

    account = bench.account(bench.size.short)
    searcher = SimplexBOHB(max_concurrent=PARALLEL, seed=bench.seed)
    scheduler = HyperBandForBOHB(time_attr="step", max_t=bench.size.max_steps, reduction_factor=3)
    space = off_simplex(demo_space(bench.task), tuple(bench.task.domains))
    return _rival(bench, account, space, Suggested(account, searcher), scheduler)


def _default(bench: Bench) -> Found:
    return Found(DEFAULT, float("nan"), bench.account(0))


METHODS: dict[str, Callable[[Bench], Found]] = {
    "jobs": _jobs_joint, "optuna-asha": _optuna_asha, "asha": _asha, "random": _random,
    "jobs-model-only": _jobs_model_only, "jobs-data-only": _jobs_data_only, "default": _default, "bohb": _bohb,
}  # fmt: skip
