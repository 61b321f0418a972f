"""What the value depends on: importance of each parameter, and where a mixture and a parameter hang together.

A Gaussian process is fitted to all that is known of the configurations (BoTorch's `SingleTaskGP`, one length scale a
dimension, the variance of each predicted final as its noise), and its mean is taken apart by Sobol's indices over the
search space [1].

[1] Saltelli et al., Variance based sensitivity analysis of model output, Comp. Phys. Comm. 181 (2010); estimators of
    Table 2, (b) for first-order and (f) for total effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs_ray.report.experiment import Report, Row
from jobs_ray.space import Array, Integer, Mixture, Real, SearchSpace
from jobs_ray.space.sampling import sobol

FEWEST = 8
"""Configurations with a known or predicted value from which a model of them says anything."""

_MOST = 200  # configurations that the model is fitted to
_SAMPLES = 2048
_AT_ONCE = 128  # points: a posterior has the covariance of each with each, too
_NOISE = 1e-4  # variance of a confirmed final, of the variance of all values
_GRID = 21

Surface = Callable[[Array], Array]
"""Mean of the model: `n x d` points of the space -> `(n,)` values in the user's sign."""


@dataclass(frozen=True)
class Effect:
    """Shares of the variance of the value over the space. `total`: with everything that hangs on the parameter.

    `alone`: what remains when its effect is averaged over all other parameters.
    """

    name: str
    total: float
    alone: float


@dataclass(frozen=True)
class Interaction:
    """Mean of the model over the weight of one domain (`weights`, columns) and a parameter (`values`, rows).

    Everything else is as in the configuration `centre`, the other domains in proportion. `best`: for each weight the
    index of the best value.
    """

    mixture: str
    domain: str
    parameter: str
    weights: Array
    values: Sequence[Any]
    mean: Array
    best: Sequence[int]
    centre: Row


def known(report: Report) -> list[Row]:
    """Every configuration once, with a confirmed or predicted value, best first."""
    return [row for row in report.best_first() if row.x]


def fit(report: Report) -> Surface | None:
    """The model's mean; None while there are fewer than `FEWEST` configurations, or all their values are alike."""
    space, rows = report.space, known(report)
    if space is None or len(rows) < FEWEST:
        return None
    if len(rows) > _MOST:  # the best half, and every so many of the others
        half = _MOST // 2
        rows = rows[:half] + rows[half :: (len(rows) - half) // half + 1]
    y = np.array([row.estimate for row in rows], dtype=np.float64)
    centre, spread = float(y.mean()), float(y.std(ddof=1))
    if not spread > 0:
        return None
    noise = np.array([0.0 if row.final is not None or row.predicted is None else row.predicted.stddev for row in rows])
    return _fit(space, np.array([row.x for row in rows]), (y - centre) / spread, (noise / spread) ** 2 + _NOISE,
                lambda z: centre + spread * z)  # fmt: skip


def _fit(space: SearchSpace, X: Array, y: Array, variance: Array, unscale: Callable[[Array], Array]) -> Surface:
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    from jobs_ray.models.threads import one_thread

    def tensor(values: Array) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float64)

    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the fit's restarts, if it needs any
        model = SingleTaskGP(
            tensor(space.unit_features(X)), tensor(y)[:, None], tensor(variance)[:, None], outcome_transform=None
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))

    def mean(points: Array) -> Array:
        features = tensor(space.unit_features(points))
        parts = [features[start : start + _AT_ONCE] for start in range(0, len(features), _AT_ONCE)]
        with torch.no_grad(), one_thread():
            found = torch.cat([model.posterior(part).mean[:, 0] for part in parts])
        return unscale(found.numpy())

    return mean


def effects(space: SearchSpace, surface: Surface) -> list[Effect]:
    """Of every parameter, the most important first; empty when the model sees no difference anywhere."""
    A, B = _independent(space)
    at_a, at_b = surface(space.snap(A)), surface(space.snap(B))
    variance = float(np.var(np.concatenate([at_a, at_b])))
    if not variance > 0:
        return []
    found = []
    for block in space.blocks:
        mixed = A.copy()
        mixed[:, block.columns] = B[:, block.columns]
        at_mixed = surface(space.snap(mixed))
        total = float(np.mean((at_a - at_mixed) ** 2)) / (2.0 * variance)
        alone = float(np.mean((at_b - at_b.mean()) * (at_mixed - at_a))) / variance
        total = min(max(total, 0.0), 1.0)
        found.append(Effect(block.name, total, min(max(alone, 0.0), total)))
    return sorted(found, key=lambda effect: -effect.total)


def _independent(space: SearchSpace) -> tuple[Array, Array]:
    """Two samples `n x d` of the space. The estimators hold only where rows and columns of both are independent.

    So it is one sequence of twice as many columns (two sequences of the same dimensions go together row by row), and
    not snapped: what is inactive must keep a value of its own, for where another parameter's exchange activates it.
    """
    rng = np.random.default_rng(0)
    U = sobol(_SAMPLES, 2 * space.dim, rng)
    return space.distributed(U[:, : space.dim], rng), space.distributed(U[:, space.dim :], rng)


def strongest_interaction(report: Report, surface: Surface) -> Interaction | None:
    """The domain and the parameter that depend most on each other around the best configuration; None without one."""
    space, rows = report.space, known(report)
    if space is None or not rows:
        return None
    active = space.active(np.array([rows[0].x]))[0]
    blocks = [block for block, here in zip(space.blocks, active, strict=True) if here]
    candidates = [
        interaction
        for mixture in blocks
        if isinstance(mixture.parameter, Mixture)
        for number, domain in enumerate(mixture.parameter.names)
        for other in blocks
        if not isinstance(other.parameter, Mixture)
        if (interaction := _over(report, surface, rows[0], mixture, number, domain, other)) is not None
    ]
    return max(candidates, key=lambda found: _mismatch(report, found), default=None)


def _over(
    report: Report, surface: Surface, centre: Row, mixture: Any, number: int, domain: str, other: Any
) -> Interaction | None:
    assert report.space is not None
    x = np.array(centre.x)
    parameter = mixture.parameter
    weights = np.linspace(parameter.lower[number], parameter.upper[number], _GRID)
    columns = np.linspace(0.0, 1.0, _GRID)[:, None]
    if not isinstance(other.parameter, Real | Integer):
        columns = (np.arange(len(other.parameter.choices))[:, None] + 0.5) / len(other.parameter.choices)
    columns = np.unique(other.parameter.snap(columns), axis=0)
    if weights[0] == weights[-1] or len(columns) < 2:
        return None
    points = np.tile(x, (len(columns), _GRID, 1))
    share = x[mixture.columns].copy()
    share[number] = 0.0
    if share.sum() == 0.0:  # at its vertex: the others alike
        share[:] = 1.0
        share[number] = 0.0
    share = share / share.sum()
    points[:, :, mixture.columns] = share * (1.0 - weights[:, None])
    points[:, :, mixture.columns.start + number] = weights
    points[:, :, other.columns] = columns[:, None]
    flat = report.space.snap(points.reshape(-1, len(x)))
    mean = surface(flat).reshape(len(columns), _GRID)
    best = np.argmax(report.sign * mean, axis=0).tolist()
    values = [other.parameter.decode(column) for column in columns]
    return Interaction(mixture.name, domain, other.name, weights, values, mean, best, centre)


def _mismatch(report: Report, found: Interaction) -> float:
    """What is lost on average by tuning the parameter on another weight of the domain, within the weights tried.

    Not the variance of what neither explains alone: that is largest in corners where no trial was.
    """
    block = next(block for block in (report.space.blocks if report.space else ()) if block.name == found.mixture)
    column = block.columns.start + list(block.parameter.names).index(found.domain)  # type: ignore[union-attr]
    low, high = np.quantile([row.x[column] for row in known(report)], [0.1, 0.9])
    inside = [i for i, weight in enumerate(found.weights) if low <= weight <= high]
    if len(inside) < 2:
        return 0.0
    value = report.sign * found.mean[:, inside]
    best = [found.best[i] for i in inside]
    return float(np.mean(value.max(axis=0) - value[best]))
