"""Log expected improvement, and the maximum of an acquisition function over mixed dimensions and the simplex.

    log EI(x) = log E max(f(x) - best, 0),  f(x) ~ Normal(mean, stddev^2)

by botorch, in the numerically stable form of Ament et al. 2023, "Unexpected Improvements to Expected Improvement":
plain EI is flat zero far from the best, its logarithm still tells up from down.

The maximiser samples: space-filling points, then rounds of moves around the best ones. Every move ends in
`SearchSpace.snap`, so a candidate is always valid and a mixture never leaves its simplex; no gradient is needed, and
integers, choices and conditional parameters need no special case. (botorch's optimize_acqf_mixed_alternating takes
seconds a suggestion; polishing our candidates by its gradients brought nothing. Nor did looking away from the best: an
incumbent raised by half the spread at every other suggestion gained .02 where it was chosen and nothing on fresh
instances. Nor did the improvement that a run would show in the posterior mean, which leaves what is known alone: a tie.
See benchmarks/README.md.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from jobs_ray.models.fitting import FittedModels
from jobs_ray.models.hooks import HookError, Hooks, guarded
from jobs_ray.space import Array, Categorical, Integer, Mixture, SearchSpace

if TYPE_CHECKING:
    from botorch.acquisition import AcquisitionFunction
    from botorch.models.model import Model

LEARN_SPARSITY = 0.1
"""Space-filling mixtures are drawn from a Dirichlet of this share of their concentration: most weight on one or two
domains. Uniform weights blur the domains, and the search then never learns which vertex trains well in the end:
regret at C = 10 on the emulator .22 with 1, .19 with .5, .14 with .2, .10 with .1 (4 to 10 seeds x 3 tasks, +-.02)."""

_SAMPLES = 512
_ROUNDS = 4
_PARENTS = 10
_CHILDREN = 24  # moves of each parent in a round
_SAME = 1e-6  # distance below which two points are one
# of a score that count: a restored search computes predictions in other batches, which moves the last bits, and of two
# candidates that differ in their last bits must choose the same one
_DIGITS = 9


Score: TypeAlias = Callable[[Array], Array]
"""Points `n x d` to the value `(n,)` of an acquisition function there."""

Within: TypeAlias = Callable[[Array], NDArray[np.bool_]]
"""Which of `n x d` points cost no more than they may."""


def acquisition(models: FittedModels, hooks: Hooks, best: float | None = None) -> Score:
    """The acquisition function over points. Its score raises HookError where a hook of the user's fails.

    best: what is to be improved, on the scale; the best posterior mean unless given. Given, it is log EI always.
    Raises RuntimeError without a surrogate.
    """
    from botorch.acquisition import AcquisitionFunction  # it is there: a surrogate is

    surrogate = models.surrogate
    if surrogate is None:
        raise RuntimeError("nothing was observed yet: ask for space-filling points first")
    regression, hook = surrogate.regression, hooks.acquisition if best is None else None
    best_f = surrogate.standardised(models.best if best is None else best)
    if hook is None:
        function = log_improvement(regression.model, best_f)
    else:
        with guarded(hook, "the acquisition function"):
            function = hook(surrogate.observed, best_f, surrogate.pending)
            if not isinstance(function, AcquisitionFunction):
                raise HookError(f"the acquisition hook returned a {type(function).__name__}, no AcquisitionFunction")
    return partial(_values, function, models, hook or hooks.surrogate)


def log_improvement(model: Model, best_f: float) -> AcquisitionFunction:
    """Log EI of a BoTorch model over `best_f`, in the model's units."""
    import torch
    from botorch.acquisition import LogExpectedImprovement

    # a number would become a single-precision tensor
    return LogExpectedImprovement(model, best_f=torch.tensor(best_f, dtype=torch.double))


def _values(function: AcquisitionFunction, models: FittedModels, hook: Any, X: Array) -> Array:
    from jobs_ray.models.regression import evaluate

    with guarded(hook, "what came of"):
        values = evaluate(function, models.features(X))
    if hook is not None and values.shape != (len(X),):
        raise HookError(f"the acquisition function gave values of shape {values.shape} for {len(X)} points")
    if hook is not None and np.any(np.isnan(values)):
        raise HookError("the acquisition function gave NaN")
    return values


def maximise(
    space: SearchSpace,
    score: Score,
    good: Array,
    avoid: Array,
    rng: np.random.Generator,
    note: Callable[[Array, Array], None] | None = None,
) -> Array:
    """The point `(d,)` with the largest score found.

    `good`: `g x d` good points known, whose neighbourhood is searched too. `avoid`: `n x d` points asked before; one
    is only repeated when nothing else was found (a small finite space). `note`: is told all points of each round, and
    their scores.
    """
    # with no traces of a domain from the start: cut off at the end, they made one point of many, asked again and again
    X = np.vstack([space.sample(_SAMPLES // 2, rng), space.sample(_SAMPLES // 2, rng, sparsity=LEARN_SPARSITY)])
    X = space.without_traces(X)
    if len(good):
        X = np.vstack([X, _moves(space, np.repeat(good, _CHILDREN, axis=0), rng, 0.3)])
    asked = KDTree(avoid) if len(avoid) else None
    found = _score(score, X, asked)
    if note is not None:
        note(X, found)
    for round_ in range(_ROUNDS):
        top = np.argsort(-found, kind="stable")[:_PARENTS]
        children = _moves(space, np.repeat(X[top], _CHILDREN, axis=0), rng, 0.3 * 0.5**round_)
        X = np.vstack([X[top], children])
        found = np.concatenate([found[top], _score(score, children, asked)])
        if note is not None:
            note(X, found)
    return np.asarray(X[int(np.argmax(found))])


def _score(score: Score, X: Array, asked: KDTree | None) -> Array:
    values = np.round(score(X), _DIGITS)
    if asked is not None:
        nearest, _ = asked.query(X, distance_upper_bound=_SAME)  # infinite when there is none so near
        values = np.where(np.isfinite(nearest), values - 1e6, values)
    return values


def _moves(space: SearchSpace, X: Array, rng: np.random.Generator, step: float) -> Array:
    """One random move of each row: some of its parameters change, numbers by about `step` of their range."""
    result = X.copy()
    n, blocks = len(X), space.blocks
    moved = rng.random((n, len(blocks))) < min(1.0, 2.0 / len(blocks))
    moved[np.arange(n), rng.integers(0, len(blocks), n)] = True
    for number, block in enumerate(blocks):
        rows = np.flatnonzero(moved[:, number])
        columns = block.columns
        x = result[rows, columns]
        if isinstance(block.parameter, Mixture):
            result[rows, columns] = _mixture_moves(x, rng, step)
        elif isinstance(block.parameter, Categorical):
            result[rows, columns] = rng.random(x.shape)
        else:
            jump = step * rng.standard_normal(x.shape)
            if isinstance(block.parameter, Integer):  # at least to the neighbour
                bins = block.parameter.bins(x)
                jump = np.where(np.abs(jump) < bins, np.copysign(bins, jump), jump)
            reflected = np.abs(x + jump)
            result[rows, columns] = np.clip(np.where(reflected > 1.0, 2.0 - reflected, reflected), 0.0, 1.0)
    return space.without_traces(result)


def _mixture_moves(w: Array, rng: np.random.Generator, step: float) -> Array:
    """Towards a random vertex, away from one, a swap between two domains, or a multiplicative jitter of all."""
    n, k = w.shape
    kind = np.expand_dims(rng.integers(0, 4, size=n), axis=1)
    size = step * np.abs(rng.standard_normal((n, 1)))
    vertices = np.eye(k)
    one, other = (np.take(vertices, rng.integers(0, k, size=n), axis=0) for _ in range(2))
    towards = w + np.minimum(size, 1.0) * (one - w)
    away = w * (1.0 - one * np.minimum(size * 3.0, 1.0))
    amount = np.minimum((w * other).sum(axis=1, keepdims=True), size)
    swapped = w + amount * (one - other)
    jittered = w * np.exp(2.0 * step * rng.standard_normal((n, k)))
    result = np.select([kind == 0, kind == 1, kind == 2], [towards, away, swapped], jittered)
    total = result.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 1e-9, result / np.maximum(total, 1e-9), w))
