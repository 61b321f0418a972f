"""Log expected improvement, and its maximum over mixed dimensions and the simplex.

    log EI(x) = log E max(f(x) - best, 0),  f(x) ~ Normal(mean, stddev^2)

in the numerically stable form of Ament et al. 2023, "Unexpected Improvements to Expected Improvement" (section 4.1):
plain EI is flat zero far from the best, its logarithm still tells up from down.

The maximiser samples: space-filling points, then rounds of moves around the best ones. Every move ends in
`SearchSpace.snap`, so a candidate is always valid and a mixture never leaves its simplex; no gradient is needed, and
integers, choices and conditional parameters need no special case.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree
from scipy.special import erfcx, log_ndtr

from jobs_ray.models.surrogate import Surrogate
from jobs_ray.space import Array, Categorical, Integer, Mixture, SearchSpace

LEARN_SPARSITY = 0.1
"""Space-filling mixtures are drawn from a Dirichlet of this share of their concentration: most weight on one or two
domains. Uniform weights blur the domains, and the search then never learns which vertex trains well in the end:
regret at C = 10 on the emulator .22 with 1, .19 with .5, .14 with .2, .10 with .1 (4 to 10 seeds x 3 tasks, +-.02)."""

_SAMPLES = 512
_ROUNDS = 4
_PARENTS = 10
_CHILDREN = 24  # moves of each parent in a round
_SAME = 1e-6  # distance below which two points are one
_LOG_SQRT_2PI = 0.5 * np.log(2.0 * np.pi)


def log_expected_improvement(mean: Array, stddev: Array, best: float) -> Array:
    """`(m,)` means and standard deviations -> `(m,)` logarithms of the expected improvement over `best`."""
    stddev = np.maximum(stddev, 1e-12)
    return np.asarray(_log_h((mean - best) / stddev) + np.log(stddev))


def _log_h(u: Array) -> Array:
    """log(phi(u) + u Phi(u)), stable for u -> -infinity."""
    result = np.empty_like(u)
    high = u > -1.0
    a = u[high]
    result[high] = np.log(np.exp(-0.5 * a * a - _LOG_SQRT_2PI) + a * np.exp(log_ndtr(a)))
    b = u[~high]
    # phi + u Phi = phi (1 + u Phi / phi);  Phi / phi = sqrt(pi / 2) erfcx(-u / sqrt 2)
    ratio = 1.0 + b * np.sqrt(np.pi / 2.0) * erfcx(-b / np.sqrt(2.0))
    far = b < -1e3  # the ratio cancels to 0: its expansion is 1 / u^2
    ratio = np.where(far, 1.0 / np.square(b), np.maximum(ratio, 1e-300))
    result[~high] = -0.5 * b * b - _LOG_SQRT_2PI + np.log(ratio)
    return result


def maximise(
    space: SearchSpace, surrogate: Surrogate, best: float, good: Array, avoid: Array, rng: np.random.Generator
) -> Array:
    """The point `(d,)` with the largest log EI found.

    `good`: `g x d` good points known, whose neighbourhood is searched too. `avoid`: `n x d` points asked before; one
    is only repeated when nothing else was found (a small finite space).
    """
    X = np.vstack([space.sample(_SAMPLES // 2, rng), space.sample(_SAMPLES // 2, rng, sparsity=LEARN_SPARSITY)])
    if len(good):
        X = np.vstack([X, _moves(space, np.repeat(good, _CHILDREN, axis=0), rng, 0.3)])
    asked = KDTree(avoid) if len(avoid) else None
    score = _score(space, surrogate, best, X, asked)
    for round_ in range(_ROUNDS):
        top = np.argsort(-score, kind="stable")[:_PARENTS]
        children = _moves(space, np.repeat(X[top], _CHILDREN, axis=0), rng, 0.3 * 0.5**round_)
        X = np.vstack([X[top], children])
        score = np.concatenate([score[top], _score(space, surrogate, best, children, asked)])
    return np.asarray(X[int(np.argmax(score))])


def best_of(space: SearchSpace, surrogate: Surrogate, best: float, X: Array) -> Array:
    """The row of `X` (`m x d`) with the largest log EI."""
    score = log_expected_improvement(*surrogate.posterior(space.features(X)), best)
    return np.asarray(X[int(np.argmax(score))])


def _score(space: SearchSpace, surrogate: Surrogate, best: float, X: Array, asked: KDTree | None) -> Array:
    score = log_expected_improvement(*surrogate.posterior(space.features(X)), best)
    if asked is not None:
        nearest, _ = asked.query(X, distance_upper_bound=_SAME)  # infinite when there is none so near
        score = np.where(np.isfinite(nearest), score - 1e6, score)
    return score


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
                bins = 1.0 / (block.parameter.upper - block.parameter.lower + 1)
                jump = np.where(np.abs(jump) < bins, np.copysign(bins, jump), jump)
            reflected = np.abs(x + jump)
            result[rows, columns] = np.clip(np.where(reflected > 1.0, 2.0 - reflected, reflected), 0.0, 1.0)
    return space.snap(result)


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
