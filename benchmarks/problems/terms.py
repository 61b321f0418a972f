"""Building blocks of the generated problems: random functions of rows, n x (k + m) -> (n,).

`standard` brings each to mean 0 and sd 1 over random configurations, so that families differ in kind, not in scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.data import Array
from benchmarks.problems.layout import Choice, Layout

Term = Callable[[Array], Array]
Rng = np.random.Generator

SAMPLE = 2048  # random configurations that a scale is measured on


def standard(term: Term, layout: Layout) -> Term:
    """The term with mean 0 and sd 1 over random configurations."""
    values = term(layout.random(SAMPLE, np.random.default_rng(0)))
    mean, sd = float(values.mean()), float(values.std())
    if not sd > 1e-9:
        raise ValueError("a term that is constant over random configurations cannot be standardised")
    return lambda rows: (term(rows) - mean) / sd


def unrelated(term: Term, score: Term, layout: Layout) -> Term:
    """The term, standardised, with its correlation with `score` (standardised) over random configurations removed."""
    rows = layout.random(SAMPLE, np.random.default_rng(0))
    slope = float(np.mean(term(rows) * score(rows)))
    return standard(lambda rows: term(rows) - slope * score(rows), layout)


def mix(layout: Layout, parts: list[tuple[float, Term]]) -> Term:
    """sum of share x standardised part, standardised again; the parts' variances are share^2."""
    scaled = [(share, standard(part, layout)) for share, part in parts]
    return standard(lambda rows: np.asarray(sum(share * part(rows) for share, part in scaled)), layout)


def mixing_law(layout: Layout, rng: Rng, *, vertex: bool, interaction: float = 0.6) -> Term:
    """Data mixing law (Ye et al. 2024): sum_i q_i k_i exp(sum_j t_ij r_j + a_i . (z - 1/2)).

    L_i is the loss on validation domain i, q its share in what is wanted. t_ii < 0: a domain helps itself most.
    vertex: nearly all of q on one domain, so that the optimum lies at or near a vertex; else it lies inside.
    interaction: scale of a_i, by which a model dimension changes what a domain is worth.
    """
    k, m = layout.domains, len(layout.model)
    T = rng.normal(-0.3, 0.5, (k, k))
    T[np.diag_indices(k)] = -rng.uniform(2.0, 5.0, k)
    size = rng.uniform(0.5, 2.0, k)
    q = rng.dirichlet(np.full(k, 3.0))
    if vertex:
        q = 0.1 * q + 0.9 * np.eye(k)[rng.integers(k)]
    A = interaction * rng.normal(size=(k, m)) * (rng.random((k, m)) < min(1.0, 3 / max(m, 1)))

    def term(rows: Array) -> Array:
        return np.asarray(np.exp(rows[:, :k] @ T.T + (rows[:, k:] - 0.5) @ A.T) @ (q * size))

    return term


def bowls(layout: Layout, rng: Rng, *, decay: float = 3.0, coupling: float = 0.5, monotone: float = 0.3) -> Term:
    """Model dimensions: a bowl or a slope each, the bowl's bottom shifted by the mixture and by another dimension.

    decay: importance falls as exp(-rank / decay) in a random order of the dimensions.
    coupling: scale of the shifts. monotone: share of dimensions whose optimum lies at a bound.
    """
    k, m = layout.domains, len(layout.model)
    weight = rng.permutation(np.exp(-np.arange(m) / decay))
    bottom, partner = rng.uniform(0.1, 0.9, m), rng.integers(0, m, m)
    slope = np.where(rng.random(m) < monotone, rng.choice([-1.0, 1.0], m), 0.0)
    by_partner = coupling * rng.normal(size=m) * (partner != np.arange(m))
    by_mixture = coupling * rng.normal(size=(k, m)) * (rng.random((k, m)) < min(1.0, 3 / max(k, 1)))
    levels = [rng.normal(size=d.last + 1) if isinstance(d, Choice) else None for d in layout.model]

    def term(rows: Array) -> Array:
        W, Z = rows[:, :k] - 1 / max(k, 1), rows[:, k:]
        shift = W @ by_mixture + (Z[:, partner] - 0.5) * by_partner
        total = np.zeros(len(rows))
        for j, level in enumerate(levels):
            if level is not None:
                own = 0.5 * level[np.rint(Z[:, j] * (len(level) - 1)).astype(int)] * (1 + 2 * shift[:, j])
            elif slope[j]:
                own = slope[j] * Z[:, j] * (1 + shift[:, j])
            else:
                own = 4 * (Z[:, j] - bottom[j] - shift[:, j]) ** 2
            total += weight[j] * own
        return total

    return term


def products(layout: Layout, rng: Rng, *, count: int = 12, order: int = 3) -> Term:
    """Centred factors multiplied in pairs and triples: nearly nothing is a sum of functions of one dimension."""
    groups = []
    for _ in range(count):
        chosen = rng.choice(layout.dim, size=min(int(rng.integers(2, order + 1)), layout.dim), replace=False)
        groups.append(
            (rng.normal(), chosen, rng.uniform(0, 2 * np.pi, len(chosen)), rng.uniform(1.5, 3.5, len(chosen)))
        )
    sample = features(layout, layout.random(SAMPLE, np.random.default_rng(1)))
    means = [np.sin(speed * sample[:, chosen] + phase).mean(0) for _, chosen, phase, speed in groups]

    def term(rows: Array) -> Array:
        F = features(layout, rows)
        total = np.zeros(len(rows))
        for (size, chosen, phase, speed), mean in zip(groups, means, strict=True):
            total += size * np.prod(np.sin(speed * F[:, chosen] + phase) - mean, axis=1)
        return total

    return term


def linear(layout: Layout, rng: Rng) -> Term:
    """A random direction, a little bent: what shapes the curves, independent of the final values."""
    direction = rng.normal(size=layout.dim)

    def term(rows: Array) -> Array:
        return np.asarray(np.tanh(0.7 * (features(layout, rows) - 0.5) * 3.5 @ direction / np.sqrt(layout.dim)))

    return term


def features(layout: Layout, rows: Array) -> Array:
    """n x d, all of about the spread of a uniform coordinate: sqrt(weight x k) / 2 for the weights."""
    k = layout.domains
    return np.column_stack([np.sqrt(np.maximum(rows[:, :k], 0) * k) / 2, rows[:, k:]])
