"""A budget of trained steps for any search of Ray Tune, and the demo's mixture for searchers that know no simplex.

A report costs the steps between two reports, whoever trained what lies before: a resumed promotion pays what it trains
itself. Every running trial is owed the rest of its full run, the older ones first. While something is left beyond that
a new trial begins, and the youngest is cut where it would live on what the older ones are owed: so a rival's budget is
used up and its last full runs are not cut short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.search import BasicVariantGenerator, SearchGenerator
from ray.tune.search.optuna import OptunaSearch

from benchmarks.box import EDGE, Box
from jobs_ray import Mixture

Curve = list[tuple[int, float]]


class Account(Stopper, Callback):  # type: ignore[misc]  # ray.tune is not typed
    """The ledger of one search, its stopper (`RunConfig(stop=...)`) and, to learn of trials' ends, its callback.

    budget, full, interval: steps in all, of a full run, and between two reports. least: what must be left for a new
    trial to begin. cuts: False only counts, for a searcher that has a budget of its own.
    """

    def __init__(self, budget: int, full: int, interval: int, least: int, *, cuts: bool = True) -> None:
        self.budget, self.full, self.interval, self.least, self.cuts = budget, full, interval, least, cuts
        self.curves: dict[str, Curve] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.running: list[str] = []  # the oldest first

    @property
    def spent(self) -> int:
        """Steps trained so far, by all trials."""
        return self.interval * sum(map(len, self.curves.values()))

    def left(self, trial_id: str | None = None) -> int:
        """Steps beyond what was spent and what the running trials (older than `trial_id`) are owed."""
        older = self.running[: self.running.index(trial_id)] if trial_id in self.running else self.running
        owed = sum(self.full - self.interval * len(self.curves.get(name, ())) for name in older)
        return self.budget - self.spent - owed

    def admits(self) -> bool:
        """Whether a new trial may begin."""
        return self.left() >= self.least

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        self.configs[trial_id] = dict(result["config"])
        self.curves.setdefault(trial_id, []).append((int(result["step"]), float(result["eval_loss"])))
        return self.cuts and self.left(trial_id) <= 0

    def stop_all(self) -> bool:
        return False

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial.trial_id)

    def _ended(self, trial_id: str) -> None:
        if trial_id in self.running:
            self.running.remove(trial_id)

    def best(self) -> tuple[dict[str, Any], float] | None:
        """(config, last value) of the lowest among the full runs, else among all trials; None without any value."""
        last = {name: curve[-1] for name, curve in self.curves.items() if math.isfinite(curve[-1][1])}
        full = {name: value for name, value in last.items() if value[0] >= self.full}
        if not last:
            return None
        name = min(full or last, key=lambda trial_id: last[trial_id][1])
        return self.configs[name], last[name][1]


class _Gate:
    """Of a search algorithm: no new trial without money, and the end when none is left and nothing runs."""

    account: Account

    def next_trial(self) -> Any:
        if not self.account.admits():
            if not self.account.running:
                self.set_finished()  # type: ignore[attr-defined]
            return None
        trial = super().next_trial()  # type: ignore[misc]
        if trial is not None:
            self.account.running.append(trial.trial_id)
        return trial


class RandomVariants(_Gate, BasicVariantGenerator):  # type: ignore[misc]
    """Random configurations while the account has money."""

    def __init__(self, account: Account, **settings: Any) -> None:
        super().__init__(**settings)
        self.account = account


class Suggested(_Gate, SearchGenerator):  # type: ignore[misc]
    """A searcher's suggestions while the account has money."""

    def __init__(self, account: Account, searcher: Any) -> None:
        super().__init__(searcher)
        self.account = account


def off_simplex(space: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The space with one u in (0, 1) a domain in the place of the mixture."""
    from ray import tune

    return {**space, "mixture": {name: tune.uniform(EDGE, 1 - EDGE) for name in names}}


class OnSimplex:
    """Of a searcher over `off_simplex`: its suggestions get weights, -log u over their sum (`benchmarks.box`)."""

    def suggest(self, trial_id: str) -> Any:
        config = super().suggest(trial_id)  # type: ignore[misc]
        if not isinstance(config, dict):  # None or FINISHED
            return config
        drawn = config["mixture"]
        values = {f"mixture.{name}": u for name, u in drawn.items()}
        return {**config, **Box({"mixture": Mixture(tuple(drawn))}).config(values)}


class SimplexOptuna(OnSimplex, OptunaSearch):  # type: ignore[misc]
    """OptunaSearch over mixtures."""
