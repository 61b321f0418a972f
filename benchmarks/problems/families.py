"""The families of problems. Each is a function of a seeded generator and the number of the instance.

A family says what is hard about it in its first line. In odd instances nearly all that is wanted of a mixing law is one
domain, so that the optimum lies at or near a vertex; in even ones mostly inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.data import Array
from benchmarks.problems.language import language
from benchmarks.problems.layout import Choice, Layout, Number
from benchmarks.problems.shapes import LEVEL, SPREAD, Drawn, accuracies, losses, times
from benchmarks.problems.terms import Rng, bowls, features, linear, mix, mixing_law, products, standard

LORA = (
    Number("rank", 1, 128, log=True, integer=True),
    Number("lr", 1e-5, 1e-2, log=True),
    Number("layers", 1, 32, integer=True),
    Number("dropout", 0.0, 0.2),
    Choice("mlp", (False, True)),
    Choice("optimizer", ("adam", "lion", "sgd")),
)


def numbered(count: int) -> tuple[Number | Choice, ...]:
    """`count` model dimensions: of five, one is an integer, one on a log scale, one a choice of two or three."""
    kinds: list[Callable[[str], Number | Choice]] = [
        lambda name: Number(name, 0.0, 1.0),
        lambda name: Number(name, 1, 64, integer=True),
        lambda name: Number(name, 1e-4, 1.0, log=True),
        lambda name: Choice(name, ("a", "b", "c")),
        lambda name: Number(name, -1.0, 1.0),
    ]
    return tuple(kinds[i % 5](f"p{i:02d}") for i in range(count))


def joint(rng: Rng, instance: int, domains: int, model: tuple[Number | Choice, ...] = LORA, *, share: float = 0.75,
          **curves: Any) -> Drawn:  # fmt: skip
    """A mixing law x model dimensions with interactions; `share` of the sd is the mixture's."""
    layout = Layout(domains, model)
    law = mixing_law(layout, rng, vertex=instance % 2 == 1)
    score = mix(layout, [(share, law), (np.sqrt(1 - share**2), bowls(layout, rng))])
    return losses(layout, rng, score, **curves)


def corner(rng: Rng, instance: int) -> Drawn:
    """The optimum is a vertex of the simplex and a bound of every model dimension: known by construction."""
    layout = Layout(8, LORA[:4])
    good = int(rng.integers(8))
    worth = rng.uniform(0.5, 1.0, 8)
    worth[good] = 0.0
    ends, sizes = rng.integers(0, 2, 4), rng.uniform(0.5, 1.5, 4)

    def score(rows: Array) -> Array:
        mixture = np.sqrt(rows[:, :8]) @ worth + 2 * (1 - rows[:, good])
        slopes = np.abs(rows[:, 8:] - ends) * (1 + rows[:, [good]])
        return np.asarray(mixture + 0.5 * slopes @ sizes)

    known = np.concatenate([np.eye(8)[good], ends.astype(float)])
    return replace(losses(layout, rng, standard(score, layout)), known=known)


def crossing(rng: Rng, instance: int) -> Drawn:
    """Good configurations learn slowly: curves cross in the first third, early ranks say little."""
    return joint(rng, instance, 6, against=0.75, wild=0.2)


def deceptive(rng: Rng, instance: int) -> Drawn:
    """Early reports rank the configurations the wrong way round, until about half of a run."""
    return joint(rng, instance, 6, against=0.8, wild=0.3, slow=0.6)


def accuracy(rng: Rng, instance: int) -> Drawn:
    """Accuracy with a plateau at chance level and noise of sd .04 a report."""
    layout = Layout(6, LORA)
    law = mixing_law(layout, rng, vertex=instance % 2 == 1)
    return accuracies(layout, rng, mix(layout, [(0.75, law), (0.66, bowls(layout, rng))]))


def diverging(rng: Rng, instance: int) -> Drawn:
    """Too high a learning rate makes the loss climb, then NaN; best is just below, and where that is depends."""
    layout = Layout(5, LORA)
    lr = 5 + [d.name for d in LORA].index("lr")
    law = mixing_law(layout, rng, vertex=instance % 2 == 1)
    gain = rng.uniform(0.8, 1.2)
    raw = mix(layout, [(0.6, law), (0.5, bowls(layout, rng)), (gain * 0.6, lambda rows: -rows[:, lr])])
    edge = standard(linear(layout, rng), layout)
    base, u = losses(layout, rng, raw), times(25)

    def excess(rows: Array) -> Array:
        return np.asarray(rows[:, lr] - 0.65 - 0.06 * edge(rows))

    def final(rows: Array) -> Array:
        over = np.maximum(excess(rows), 0)
        value = base.final(rows) + 12 * over * np.maximum(1 - start(over), 0)
        return np.where(over > 0.2, np.nan, value)

    def start(over: Array) -> Array:
        return np.asarray(0.6 * np.exp(-8 * over))

    def curves(rows: Array) -> Array:
        over = np.maximum(excess(rows), 0)
        climb = 12 * over[:, None] * np.maximum(u - start(over)[:, None], 0)
        value = base.curves(rows) + climb
        return np.where((over[:, None] > 0.2) & (u > 2.5 * start(over)[:, None] + 0.05) | np.isnan(final(rows))[:, None]
                        & (u >= 1), np.nan, value)  # fmt: skip

    return replace(base, final=final, curves=curves)


def cliff(rng: Rng, instance: int) -> Drawn:
    """The loss improves towards a cliff, behind which (a third of the space) it is four sd worse."""
    layout = Layout(5, LORA)
    law = mixing_law(layout, rng, vertex=instance % 2 == 1)
    direction = np.abs(rng.normal(size=layout.dim)) * (rng.random(layout.dim) < 0.4)
    direction[5:7] += 0.5  # always of rank and learning rate, too
    towards = standard(lambda rows: features(layout, rows) @ direction, layout)
    score = mix(layout, [(0.6, law), (0.5, bowls(layout, rng)), (0.6, lambda rows: -towards(rows))])
    edge = float(rng.uniform(0.2, 0.6))
    base = losses(layout, rng, score)

    def penalty(rows: Array) -> Array:
        return np.where(towards(rows) > edge, 4 * SPREAD, 0.0)

    return replace(
        base, final=lambda rows: base.final(rows) + penalty(rows),
        curves=lambda rows: base.curves(rows) + penalty(rows)[:, None],
    )  # fmt: skip


def constant(rng: Rng, instance: int) -> Drawn:
    """The metric never changes: nothing to find, nothing may break."""
    return Drawn(
        Layout(3, LORA), "eval_loss", lambda rows: np.full(len(rows), LEVEL),
        lambda rows: np.full((len(rows), 25), LEVEL), 0.0,
    )  # fmt: skip


def model_only(rng: Rng, instance: int) -> Drawn:
    """No mixture: seven model dimensions with strong couplings."""
    layout = Layout(0, (*LORA, Number("warmup", 0.0, 0.3)))
    score = mix(layout, [(0.85, bowls(layout, rng, coupling=0.8)), (0.5, products(layout, rng, count=5))])
    return losses(layout, rng, score)


def data_only(rng: Rng, instance: int) -> Drawn:
    """Nothing but a mixture of 12 domains."""
    layout = Layout(12)
    return losses(layout, rng, standard(mixing_law(layout, rng, vertex=instance % 2 == 1), layout))


def wide(rng: Rng, instance: int, domains: int, dimensions: int) -> Drawn:
    """Many dimensions, of which a fifth or so matter."""
    layout = Layout(domains, numbered(dimensions))
    law = mixing_law(layout, rng, vertex=instance % 2 == 1)
    model = bowls(layout, rng, decay=dimensions / 5)
    return losses(layout, rng, mix(layout, [(0.7, law), (0.7, model)]))


def non_additive(rng: Rng, instance: int) -> Drawn:
    """Products of two and three dimensions, a fifth of the variance in main effects: an additive kernel sees little."""
    layout = Layout(4, LORA[:4])
    score = mix(layout, [(0.85, products(layout, rng)), (0.5, bowls(layout, rng))])
    return losses(layout, rng, score)


def costs(rng: Rng, instance: int) -> Drawn:
    """A step costs up to six times as much at the highest rank and depth as at the lowest, and, all else equal, these
    train better: the rate is rank^.2 x layers^.25, its mean over random configurations 1.
    """
    layout, names = Layout(5, LORA), [d.name for d in LORA]
    rank, layers = (5 + names.index(name) for name in ("rank", "layers"))

    def log_rate(rows: Array) -> Array:
        depth = 1 + 31 * rows[:, layers]
        return np.asarray(0.2 * rows[:, rank] * np.log(128) + 0.25 * np.log(depth))

    mean = float(np.exp(log_rate(layout.random(4096, np.random.default_rng(3)))).mean())
    better, law = standard(log_rate, layout), mixing_law(layout, rng, vertex=instance % 2 == 1)
    score = mix(layout, [(0.7, law), (0.6, bowls(layout, rng)), (0.35, lambda rows: -better(rows))])
    return replace(losses(layout, rng, score), rate=lambda rows: np.exp(log_rate(rows)) / mean)


def noisy(rng: Rng, instance: int) -> Drawn:
    """A mixing law with reports whose noise is a quarter (even) or half (odd instances) of the finals' spread."""
    return joint(rng, instance // 2, 5, noise=SPREAD * (0.5 if instance % 2 else 0.25))


def seeds(rng: Rng, instance: int) -> Drawn:
    """A mixing law where the training seed moves a run's end by half (even) or once (odd instances) the finals' spread.

    Two seeds of the demo's small language model end .1 to .45 apart, as far as configurations do.
    """
    return replace(joint(rng, instance // 2, 4), luck=SPREAD * (1.0 if instance % 2 else 0.5))


FAMILIES: dict[str, Callable[[Rng, int], Drawn]] = {
    "mixing_law3": lambda rng, i: joint(rng, i, 3),
    "mixing_law5": lambda rng, i: joint(rng, i, 5),
    "mixing_law12": lambda rng, i: joint(rng, i, 12),
    "mixing_law30": lambda rng, i: joint(rng, i, 30),
    "corner": corner,
    "crossing": crossing,
    "accuracy": accuracy,
    "diverging": diverging,
    "model_only": model_only,
    "data_only": data_only,
    "dims20": lambda rng, i: wide(rng, i, 6, 14),
    "dims40": lambda rng, i: wide(rng, i, 10, 30),
    "dims80": lambda rng, i: wide(rng, i, 20, 60),
    "cliff": cliff,
    "constant": constant,
    "deceptive": deceptive,
    "non_additive": non_additive,
    "noisy": noisy,
    "seeds": seeds,
    "language": language,
    "costs": costs,
    "reports5": lambda rng, i: joint(rng, i, 5, max_t=5),
    "reports60": lambda rng, i: joint(rng, i, 5, max_t=60),
    "reports200": lambda rng, i: joint(rng, i, 5, max_t=200),
}
