"""From final values to whole learning curves. u = t / max_t in (0, 1]; every function is n values -> n x T.

A loss curve is  final + amplitude * decay(u; power),  decay(1) = 0 and decay(1/25) about 1, whatever max_t is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.data import Array, Metric
from benchmarks.problems.layout import Layout
from benchmarks.problems.terms import Rng, Term, linear, standard, unrelated

LEVEL, SPREAD = 2.5, 0.15
"""Of losses: mean and sd of the finals of random configurations, about those of the real LoRA runs."""


@dataclass(frozen=True)
class Drawn:
    """A generated problem before its optimum is known. Rows n x d.

    final: noise-free final (n,); curves: noise-free n x max_t, last column = final. NaN: the training has crashed.
    noise: sd of a report. luck: sd of what the training seed of a configuration's run has added at its end.
    """

    layout: Layout
    metric: Metric
    final: Term
    curves: Callable[[Array], Array]
    noise: float
    max_t: int = 25
    rate: Term | None = None  # cost of a step (n,), 1 on average over random rows; None: all the same
    luck: float = 0.0
    known: Array | None = None  # a row (d,) that is the optimum by construction, where there is one


def times(max_t: int) -> Array:
    """u at the reports, (max_t,)."""
    return np.arange(1, max_t + 1) / max_t


def decay(u: Array, power: Array) -> Array:
    """(T,), (n,) -> n x T: a power law in time, 1 at u = .04 and 0 at u = 1."""
    p = -power[:, None]
    return np.asarray(((u + 0.02) ** p - 1.02**p) / (0.06**p - 1.02**p))


def losses(layout: Layout, rng: Rng, score: Term, *, max_t: int = 25, against: float = -0.3, wild: float = 0.15,
           slow: float = 0.0, noise: float = 0.005) -> Drawn:  # fmt: skip
    """Loss curves whose final is LEVEL + SPREAD * score (score: standardised, the lower the better).

    wild: sd of the amplitude (mean .8) over configurations.
    against: correlation of the amplitude with *good* finals. Positive: good configurations start slowly, so curves
        cross; high with a large `wild`: early reports mislead.
    slow: share of the decay that is linear in time instead of a power law: what comes late.
    """
    own, bend = unrelated(linear(layout, rng), score, layout), standard(linear(layout, rng), layout)
    u = times(max_t)

    def final(rows: Array) -> Array:
        return LEVEL + SPREAD * score(rows)

    def curves(rows: Array) -> Array:
        value = score(rows)
        amplitude = 0.8 + wild * (-against * value + np.sqrt(1 - against**2) * own(rows))
        power = 0.5 * np.exp(0.25 * bend(rows))
        shape = (1 - slow) * decay(u, power) + slow * (1 - u)
        return np.asarray(LEVEL + SPREAD * value[:, None] + np.maximum(amplitude, 0.05)[:, None] * shape)

    return Drawn(layout, "eval_loss", final, curves, noise, max_t)


def accuracies(layout: Layout, rng: Rng, score: Term, *, chance: float = 0.25, top: float = 0.82,
               noise: float = 0.04) -> Drawn:  # fmt: skip
    """Accuracy from `chance` up, after a plateau whose length has nothing to do with the final value.

    The worst configurations never leave the plateau; near the top the metric flattens.
    """
    onset, width = unrelated(linear(layout, rng), score, layout), standard(linear(layout, rng), layout)
    u = times(25)

    def final(rows: Array) -> Array:
        raw = 1 / (1 + np.exp(1.2 * score(rows) + 0.2))
        return chance + (top - chance) * np.maximum(raw - 0.12, 0) / 0.88

    def curves(rows: Array) -> Array:
        start = 0.35 + 0.15 * np.tanh(onset(rows))[:, None]
        speed = (0.08 * np.exp(0.3 * width(rows)))[:, None]
        rise = 1 / (1 + np.exp(-(u - start) / speed))
        rise = (rise - rise[:, :1]) / (rise[:, -1:] - rise[:, :1])
        return np.asarray(chance + (final(rows) - chance)[:, None] * rise)

    return Drawn(layout, "performance", final, curves, noise)
