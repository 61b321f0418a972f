"""Space-filling points: scrambled Sobol for the box, Dirichlet on the simplex within its bounds."""

from __future__ import annotations

import math

import numpy as np

from jobs_ray.space.base import Array
from jobs_ray.space.mixture import Mixture

_DIRICHLET_ROUNDS = 64
_LEAST = 1e-300


def sobol(n: int, dim: int, rng: np.random.Generator) -> Array:
    """`n x dim` scrambled Sobol points."""
    from scipy.stats import qmc  # takes a third of a second to import: not at import of the package

    engine = qmc.Sobol(dim, scramble=True, rng=rng)
    return np.asarray(engine.random_base2(max(0, math.ceil(math.log2(max(n, 1)))))[:n])


def dirichlet(mixture: Mixture, U: Array, rng: np.random.Generator, sparsity: float) -> Array:
    """Uniforms `n x k` -> bounded Dirichlet weights: shifted by `min`, redrawn above `max`, last resort projected."""
    lower, upper = mixture.lower, mixture.upper
    concentration = mixture.concentration * sparsity
    weights = _to_weights(U, lower, concentration)
    for _ in range(_DIRICHLET_ROUNDS):
        outside = np.any(weights > upper, axis=1)
        if not outside.any():
            break
        redrawn = rng.random((int(outside.sum()), U.shape[1]))
        weights[outside] = _to_weights(redrawn, lower, concentration)
    return weights


def _to_weights(U: Array, lower: Array, concentration: float) -> Array:
    """Dirichlet by normalised gammas, through their inverse distribution so that Sobol points stay even."""
    if concentration == 1.0:
        gammas = -np.log1p(-np.clip(U, _LEAST, 1.0 - 1e-16))
    else:
        from scipy.special import gammaincinv, gammaln

        gammas = np.maximum(gammaincinv(concentration, U), _LEAST)
        if (lost := gammas.max(axis=1) <= _LEAST).any():  # all alike, where they are smaller than a number may be
            # their logarithms: near 0 the distribution is x^a / gamma(a + 1)
            logs = (np.log(np.maximum(U[lost], _LEAST)) + gammaln(concentration + 1.0)) / concentration
            gammas[lost] = np.exp(logs - logs.max(axis=1, keepdims=True))
    free = 1.0 - lower.sum()
    return np.asarray(lower + free * gammas / gammas.sum(axis=1, keepdims=True))
