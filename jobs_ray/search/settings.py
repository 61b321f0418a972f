"""Settings of the optimiser, checked when built, and the values it answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

from jobs_ray.space.base import is_number
from jobs_ray.trials import Phase, StateError


class Decision(Enum):
    """What a trial should do after a report."""

    CONTINUE = "continue"
    STOP = "stop"


class _Finished:
    """The budget is spent (or the trials are): nothing more will be asked for."""

    def __repr__(self) -> str:
        return "FINISHED"


FINISHED = _Finished()


@dataclass(frozen=True)
class Suggestion:
    """What to train. `steps`: the `t` to train to (None: its own end); `resume_from`: the short run to resume;
    `promotes`: the short run that it takes to the end, resumed or not."""

    config: dict[str, Any]
    phase: Phase
    steps: float | None
    resume_from: str | None = None
    promotes: str | None = None


Answer: TypeAlias = Suggestion | _Finished | None
"""To "what next?". None: wait for a trial in flight."""


@dataclass(frozen=True)
class Recommendation:
    """What to train. `mean` and `stddev` in the user's sign and unit; `confirmed`: it was fully trained.

    `mean` is the final value of a confirmed configuration (of noisy reports an average, with the noise left in it as
    `stddev`, else 0), else the predicted one; while there is nothing to predict from, the last value that the trial
    reported, at `t`, and `stddev` is None.
    """

    config: dict[str, Any]
    mean: float
    stddev: float | None
    confirmed: bool
    trial_id: str
    t: float | None = None

    def basis(self, max_t: float | None, time_attr: str = "t") -> str:
        """What `mean` is, in words. `max_t`: length of a full run, if known."""
        if self.confirmed:
            return "confirmed by a full run"
        if self.stddev is not None:
            return "predicted, not confirmed by a full run"
        of = "" if max_t is None else f" of {max_t:g}"
        return f"last value at {time_attr} = {self.t:g}{of}, not a prediction"


@dataclass(frozen=True)
class Settings:
    """Everything a decision depends on besides the trials and the ask-counter. Raises ValueError when built wrong."""

    mode: Literal["min", "max"]
    max_t: float | None
    budget: float | None
    num_trials: int | None
    short_t: float | Literal["auto"]
    num_full: int | Literal["auto"]
    num_confirm: int | Literal["auto"]
    resume: bool
    extend: bool
    seed: int
    cost_unit: str | None = None

    def __post_init__(self) -> None:
        _require(self.mode in ("min", "max"), "mode", "'min' or 'max'", self.mode)
        _require(_positive(self.max_t, True), "max_t", "a positive number or None", self.max_t)
        if self.cost_unit is not None:
            _require(isinstance(self.cost_unit, str) and self.cost_unit != "", "cost_unit", "a name", self.cost_unit)
            _require(_positive(self.budget, True), "budget", f"above 0 {self.cost_unit}, or None", self.budget)
            _require(self.max_t is not None, "max_t", "set with cost_unit: else what a full run costs is unknown", None)
        _require(
            self.cost_unit is not None or self.budget is None or (_positive(self.budget) and self.budget >= 1),
            "budget",
            "at least 1 (one full run; the unit is full-run equivalents) or None",
            self.budget,
        )
        _require(_whole(self.num_trials, 1, None), "num_trials", "a whole number >= 1 or None", self.num_trials)
        _require(self.short_t == "auto" or _positive(self.short_t), "short_t", "'auto' or > 0", self.short_t)
        if self.max_t is not None and self.short_t != "auto":
            _require(self.short_t <= self.max_t, "short_t", f"at most max_t = {self.max_t}", self.short_t)
        _require(_whole(self.num_full, 1, "auto"), "num_full", "'auto' or a whole number >= 1", self.num_full)
        _require(_whole(self.num_confirm, 0, "auto"), "num_confirm", "'auto' or a whole number >= 0", self.num_confirm)
        _require(_whole(self.seed, 0), "seed", "a whole number >= 0", self.seed)

    @property
    def sign(self) -> float:
        """+1 when the metric is maximised, -1 when minimised: values are maximised inside."""
        return 1.0 if self.mode == "max" else -1.0

    @property
    def unit(self) -> str:
        """Of the budget, in words."""
        return "full runs" if self.cost_unit is None else self.cost_unit

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Settings:
        """The inverse of `as_json`. Raises StateError when `data` does not fit."""
        try:
            return Settings(**data)
        except (TypeError, ValueError) as error:
            raise StateError(f"the state is damaged: its settings ({error})") from None


def _positive(value: Any, none: bool = False) -> bool:
    if value is None:
        return none
    return is_number(value) and value > 0


def _whole(value: Any, least: int, *others: Any) -> bool:
    return value in others or (isinstance(value, int) and not isinstance(value, bool) and value >= least)


def _require(condition: bool, name: str, expected: str, got: Any) -> None:
    if not condition:
        raise ValueError(f"{name} must be {expected}, got {got!r}")
