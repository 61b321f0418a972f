"""What the user set on JoBSSearcher: checked once, kept frozen, and turned into an optimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jobs_ray.models.hooks import Hooks
from jobs_ray.search.optimizer import JoBSOptimizer
from jobs_ray.space import SpaceError
from jobs_ray.space.base import is_number
from jobs_ray.tune import points
from jobs_ray.tune.codec import from_json, to_json
from jobs_ray.tune.domains import TuneSpace

_MODES = ("min", "max")


@dataclasses.dataclass(frozen=True)
class Replaced:
    """What the user put in the place of our models. A saved state does not hold it, it only names it."""

    predictor: Any = None
    surrogate: Any = None
    acquisition: Any = None

    def __post_init__(self) -> None:
        if self.predictor is not None and not callable(getattr(self.predictor, "fit", None)):
            raise ValueError(
                f"predictor is {self.predictor!r}; expected an object with fit(), as ScalingLawPredictor()"
            )
        Hooks(self.surrogate, self.acquisition)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The constructor's arguments of JoBSSearcher but space, metric, mode and what replaces our models.

    search_id: tells the search's own saved state from another search's in the same folder; "" in older states.
    Raises ValueError, in one sentence with the remedy, when they contradict each other.
    """

    max_t: float | None
    budget: float | None
    short_t: float | Literal["auto"]
    num_full: int | Literal["auto"]
    num_confirm: int | Literal["auto"]
    time_attr: str
    steps_key: str | None
    resume_key: str | None
    points_to_evaluate: tuple[Mapping[str, Any], ...]
    seed: int | None
    trial_timeout_s: float | None = None
    cost_attr: str | None = None
    search_id: str = ""

    def __post_init__(self) -> None:
        for name in ("max_t", "budget", "short_t", "num_full", "num_confirm", "seed"):
            value = getattr(self, name)
            if isinstance(value, np.generic):
                object.__setattr__(self, name, value.item())
        for name in ("time_attr", "steps_key", "resume_key", "cost_attr"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and (value is not None or name == "time_attr"):
                raise ValueError(f"{name} is {value!r}; expected the name of a key, a string that is not empty")
        if self.max_t is not None and not (is_number(self.max_t) and self.max_t > 0):
            raise ValueError(f"max_t is {self.max_t!r}; expected a positive number of {self.time_attr!r}")
        self._check_budget()
        if self.trial_timeout_s is not None and not (is_number(self.trial_timeout_s) and self.trial_timeout_s > 0):
            raise ValueError(f"trial_timeout_s is {self.trial_timeout_s!r}; expected seconds above 0, or None")
        if self.short_t != "auto" and not (is_number(self.short_t) and self.short_t > 0):
            raise ValueError(f"short_t is {self.short_t!r}; expected 'auto' or a positive number of {self.time_attr!r}")
        if not isinstance(self.short_t, str) and self.max_t is not None and not 0 < self.short_t < self.max_t:
            raise ValueError(f"short_t is {self.short_t!r}; expected a number between 0 and max_t={self.max_t}")
        if self.steps_key is not None and self.max_t is None:
            raise ValueError(
                f"steps_key={self.steps_key!r} needs max_t: without it a full run's number of steps is unknown"
            )
        if self.steps_key is not None and self.steps_key == self.resume_key:
            raise ValueError(f"steps_key and resume_key are both {self.steps_key!r}; give them two names")
        for name, least in (("num_full", 1), ("num_confirm", 0)):
            number = getattr(self, name)
            if number == "auto":
                continue
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ValueError(f"{name} is {number!r}; expected 'auto' or a whole number from {least} on")
            if self.budget is not None and self.cost_attr is None and number > self.budget:
                raise ValueError(f"{name} is {number} full runs, more than the budget of {self.budget:g}; lower it")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0):
            raise ValueError(f"seed is {self.seed!r}; expected a whole number from 0 on, or None")
        for point in self.points_to_evaluate:
            if not isinstance(point, Mapping):
                raise ValueError(f"points_to_evaluate holds {point!r}; expected a list of configurations (dicts)")

    def _check_budget(self) -> None:
        if self.cost_attr is not None:
            if self.max_t is None:
                raise ValueError(f"cost_attr={self.cost_attr!r} needs max_t: else what a full run costs is unknown")
            if self.budget is not None and not (is_number(self.budget) and self.budget > 0):
                raise ValueError(
                    f"budget is {self.budget!r}; expected an amount of {self.cost_attr!r} above 0, or None"
                )
            return
        if self.budget is not None and not is_number(self.budget):
            raise ValueError(
                f"budget is {self.budget!r}; expected a number of full runs, at least 1 (or None: no limit)"
            )
        if self.budget is not None and not self.budget >= 1:
            raise ValueError(
                f"budget is {self.budget!r} full runs, too small for one full run; give at least 1 "
                "(a recommendation is always a fully trained configuration)"
            )

    def check_objective(self, metric: Any, mode: Any) -> None:
        """Raises ValueError for several metrics, or a mode other than min and max."""
        if not (metric is None or isinstance(metric, str)) or not (mode is None or isinstance(mode, str)):
            raise ValueError(
                f"JoBSSearcher optimises one metric, got metric={metric!r}, mode={mode!r}; "
                "report a weighted sum of them"
            )
        if mode is not None and mode not in _MODES:
            raise ValueError(f"mode is {mode!r}; expected 'min' or 'max'")

    def agree(self, name: str, mine: str | None, given: str | None) -> str | None:
        """The one of two values that is set. Raises ValueError when both are and differ."""
        if mine is not None and given is not None and mine != given:
            raise ValueError(
                f"{name} is {mine!r} in JoBSSearcher and {given!r} in tune.TuneConfig; set it in one place"
            )
        return mine if mine is not None else given

    def translate(self, space: Mapping[str, Any]) -> TuneSpace:
        """The Ray space, checked not to search what this searcher writes itself. Raises SpaceError."""
        translated = TuneSpace(space)
        for argument, key in (("steps_key", self.steps_key), ("resume_key", self.resume_key)):
            clash = [name for name in translated.core if name == key or name.startswith(f"{key}/")]
            if key is not None and clash:
                raise SpaceError(f"parameter {clash[0]!r} is what {argument} writes; remove it from the space")
        self._points(translated)
        return translated

    def _points(self, space: TuneSpace) -> list[dict[str, Any]]:
        """The points to evaluate, completed. Raises SpaceError when one is not of the space."""
        return [
            points.complete(space, point, np.random.default_rng([self.seed or 0, number]))
            for number, point in enumerate(self.points_to_evaluate)
            if space.core
        ]

    def optimizer(self, space: TuneSpace, mode: str, num_samples: int | None, replaced: Replaced) -> JoBSOptimizer:
        """A new optimiser over `space`. Raises SpaceError when a point to evaluate is not of the space."""
        return JoBSOptimizer(
            space.core,
            mode="min" if mode == "min" else "max",
            max_t=self.max_t,
            budget=self.budget,
            num_trials=num_samples,
            short_t=self.short_t,
            num_full=self.num_full,
            num_confirm=self.num_confirm,
            points_to_evaluate=self._points(space),
            predictor=replaced.predictor,
            surrogate=replaced.surrogate,
            acquisition=replaced.acquisition,
            resume=self.resume_key is not None,
            # a run that ends by itself at the steps it was given cannot go on when it turns out well
            extend=self.steps_key is None,
            seed=self.seed,
            cost_unit=self.cost_attr,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return data | {"points_to_evaluate": [to_json(point) for point in self.points_to_evaluate]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, trusted: bool = False) -> Settings:
        """The inverse of `to_json`. Raises as `codec.from_json`, whose `trusted` it takes."""
        given = tuple(from_json(point, trusted=trusted) for point in data["points_to_evaluate"])
        return cls(**{**data, "points_to_evaluate": given})
