"""What the user set on JoBSSearcher: checked once, kept frozen, and turned into an optimiser."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from jobs_ray.search.optimizer import JoBSOptimizer
from jobs_ray.space import SpaceError
from jobs_ray.tune.codec import from_json, to_json
from jobs_ray.tune.domains import TuneSpace

_MODES = ("min", "max")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The constructor's arguments of JoBSSearcher but space, metric, mode and predictor.

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

    def __post_init__(self) -> None:
        if self.max_t is not None and not (math.isfinite(self.max_t) and self.max_t > 0):
            raise ValueError(f"max_t is {self.max_t!r}; expected a positive number of {self.time_attr!r}")
        if self.budget is not None and not self.budget >= 1:
            raise ValueError(
                f"budget is {self.budget!r} full runs, too small for one full run; give at least 1 "
                "(a recommendation is always a fully trained configuration)"
            )
        if not isinstance(self.short_t, str) and self.max_t is not None and not 0 < self.short_t < self.max_t:
            raise ValueError(f"short_t is {self.short_t!r}; expected a number between 0 and max_t={self.max_t}")
        if self.steps_key is not None and self.max_t is None:
            raise ValueError(
                f"steps_key={self.steps_key!r} needs max_t: without it a full run's number of steps is unknown"
            )
        if self.steps_key is not None and self.steps_key == self.resume_key:
            raise ValueError(f"steps_key and resume_key are both {self.steps_key!r}; give them two names")

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
        return translated

    def optimizer(self, space: TuneSpace, mode: str, num_samples: int | None, predictor: Any) -> JoBSOptimizer:
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
            points_to_evaluate=[space.core_config(point) for point in self.points_to_evaluate],
            predictor=predictor,
            resume=self.resume_key is not None,
            # a run that ends by itself at the steps it was given cannot go on when it turns out well
            extend=self.steps_key is None,
            seed=self.seed,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return data | {"points_to_evaluate": [to_json(point) for point in self.points_to_evaluate]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, trusted: bool = False) -> Settings:
        """The inverse of `to_json`. Raises as `codec.from_json`, whose `trusted` it takes."""
        points = tuple(from_json(point, trusted=trusted) for point in data["points_to_evaluate"])
        return cls(**{**data, "points_to_evaluate": points})
