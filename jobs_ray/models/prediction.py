"""What a predictor is: curve prefix + configuration -> final value with its uncertainty. Values are *maximised*."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jobs_ray.space import Array
from jobs_ray.trials import LearningCurve


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of final values, Student-t with `dof` degrees of freedom. Shapes `(n,)`."""

    mean: Array
    stddev: Array
    dof: float = math.inf

    def __post_init__(self) -> None:
        if self.mean.shape != self.stddev.shape or self.mean.ndim != 1:
            raise ValueError(f"mean and stddev must be (n,), got {self.mean.shape} and {self.stddev.shape}")
        if not (np.all(np.isfinite(self.mean)) and np.all(self.stddev >= 0) and np.all(np.isfinite(self.stddev))):
            raise ValueError("a prediction needs finite means and finite stddevs >= 0")

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Central interval that holds the final value with probability `level`."""
        from scipy.stats import norm, t

        if math.isinf(self.dof):
            half = norm.ppf(0.5 + level / 2) * self.stddev
        else:  # stddev is that of the Student-t: its scale is smaller
            half = t.ppf(0.5 + level / 2, self.dof) * math.sqrt((self.dof - 2) / self.dof) * self.stddev
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class CrossValidation:
    """Leave-one-out quality of a predictor for prefixes that end at `t`; errors in units of the value."""

    t: float
    n: int
    rmse: float
    r2: float
    coverage: float  # of the 90 % interval


class FittedPredictor(Protocol):
    """What `Predictor.fit` returns."""

    def predict(self, features: Array, curves: Sequence[LearningCurve]) -> Prediction:
        """Final values `(m,)` for features `m x p` and prefixes of any length (also empty)."""

    def cross_validate(self, t: float) -> CrossValidation | None:
        """Its own leave-one-out error for prefixes that end at `t`; None where it has nothing to go by."""

    def ready_at(self, t: float) -> float | None:
        """The largest time up to `t` from which a prediction is made at once, without fitting; None without one."""


class Predictor(Protocol):
    """Settings of a predictor; fitting changes nothing in it."""

    def fit(self, features: Array, curves: Sequence[LearningCurve], max_t: float) -> FittedPredictor:
        """Learn from full runs: features `n x p`, their curves up to `max_t`. Maximised values."""


@dataclass(frozen=True)
class LastValuePredictor:
    """The last value as if it were final: what early-stopping schedulers do. Baseline and ablation."""

    def fit(self, features: Array, curves: Sequence[LearningCurve], max_t: float) -> LastValuePredictor:
        return self

    def predict(self, features: Array, curves: Sequence[LearningCurve]) -> Prediction:
        last = np.array([curve.value[-1] if curve.value else -math.inf for curve in curves])
        known = last[np.isfinite(last)]
        last = np.where(np.isfinite(last), last, known.min() if known.size else 0.0)
        return Prediction(last, np.zeros(len(last)))

    def cross_validate(self, t: float) -> CrossValidation | None:
        return None

    def ready_at(self, t: float) -> float | None:
        return t
