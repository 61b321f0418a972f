"""Predictors of the final value to compare ours with. Each sees N full runs, and k reports of m new ones.

Notation
    known   N x T full curves in the user's metric       seen   m x k first reports of new runs
    z       log of a loss, an accuracy as it is: the scale on which gains are alike
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from benchmarks.data import MAX_T, Array, Metric, mode_of, search_space, to_config
from benchmarks.mlp import MLPPredictor


@dataclass(frozen=True)
class Case:
    """One question: rows N x 19 with `known`, new_rows m x 19 with `seen`; answers are values at t = 25."""

    metric: Metric
    rows: Array
    known: Array
    new_rows: Array
    seen: Array
    seed: int

    @property
    def k(self) -> int:
        return int(self.seen.shape[1])


@dataclass(frozen=True)
class Answer:
    """Predicted finals (m,), the central 90 % interval where there is one, and the seconds to fit and predict."""

    mean: Array
    low: Array | None = None
    high: Array | None = None
    seconds: float = 0.0


def last_value(case: Case) -> Answer:
    """The last report as if it were final."""
    return Answer(case.seen[:, -1])


def last_plus_mean_gain(case: Case) -> Answer:
    """The last report and the mean gain of the full runs from there, on the scale z; Student-t(N - 1) interval."""
    forward, back = (np.log, np.exp) if case.metric == "eval_loss" else (_same, _same)
    gains = forward(case.known[:, -1]) - forward(case.known[:, case.k - 1])
    n = len(gains)
    centre = forward(case.seen[:, -1]) + gains.mean()
    half = student.ppf(0.95, n - 1) * gains.std(ddof=1) * np.sqrt(1 + 1 / n)
    return Answer(back(centre), back(centre - half), back(centre + half))


def power_law(case: Case) -> Answer:
    """a + b t^-c by least squares for each curve on its own; c = 1/2 with two reports, the last value with one."""
    if case.k == 1:
        return last_value(case)
    t = np.arange(1.0, case.k + 1)
    exponents = np.array([0.5]) if case.k == 2 else np.geomspace(0.05, 3.0, 60)
    best = np.full(len(case.seen), np.inf)
    final = np.empty(len(case.seen))
    for c in exponents:
        design = np.column_stack([np.ones_like(t), t**-c])
        coefficients = np.linalg.lstsq(design, case.seen.T, rcond=None)[0]
        error = np.sum((design @ coefficients - case.seen.T) ** 2, axis=0)
        better = error < best
        final = np.where(better, coefficients[0] + coefficients[1] * float(MAX_T) ** -c, final)
        best = np.where(better, error, best)
    return Answer(final)


def paper_mlp(case: Case) -> Answer:
    """The paper's MLP, standardised; it has no interval."""
    fitted = MLPPredictor(case.seed).fit(case.rows, case.known, case.k)
    return Answer(fitted.predict(case.new_rows, case.seen))


def ours(case: Case) -> Answer:
    """jobs_ray.models.predictor.ScalingLawPredictor on the features of the core's own search space."""
    from jobs_ray.models.predictor import ScalingLawPredictor
    from jobs_ray.space import SearchSpace
    from jobs_ray.trials import LearningCurve

    sign = 1.0 if mode_of(case.metric) == "max" else -1.0
    space = SearchSpace(search_space())

    def features(rows: Array) -> Array:
        return np.asarray(space.features(np.stack([space.encode(to_config(row)) for row in rows])))

    def curves(values: Array) -> list[LearningCurve]:
        times = tuple(float(t) for t in range(1, values.shape[1] + 1))
        return [LearningCurve(times, tuple(float(sign * v) for v in row)) for row in values]

    known, new = (features(case.rows), curves(case.known)), (features(case.new_rows), curves(case.seen))
    began = time.perf_counter()  # without the encoding, which an optimiser does once a trial
    prediction = ScalingLawPredictor().fit(*known, float(MAX_T)).predict(*new)
    seconds = time.perf_counter() - began
    low, high = prediction.interval(0.9)
    ends = (low, high) if sign > 0 else (-high, -low)
    return Answer(sign * prediction.mean, *ends, seconds)


def _same(x: Array) -> Array:
    return x


PREDICTORS: dict[str, Callable[[Case], Answer]] = {
    "jobs": ours,
    "last": last_value,
    "last+gain": last_plus_mean_gain,
    "power-law": power_law,
    "mlp": paper_mlp,
}


def answer(name: str, case: Case) -> Answer:
    """The predictor's answer with the seconds it took; its own measure counts where it gives one."""
    began = time.perf_counter()
    got = PREDICTORS[name](case)
    return got if got.seconds else Answer(got.mean, got.low, got.high, time.perf_counter() - began)
