"""make("mixing_law5", 0) -> Problem: generate, find the optimum by heavy search, normalise the regret.

    regret = (final - optimum) / (median final of random configurations - optimum), capped at WORST

The optimum is the best of three independent searches and of the one known by construction, where there is one; how far
the three are apart is the check (`python -m benchmarks.problems` prints it).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.data import Array
from benchmarks.emulator import CACHE, keep
from benchmarks.problems.families import FAMILIES
from benchmarks.problems.layout import Layout
from benchmarks.problems.regmix import regmix
from benchmarks.problems.shapes import Drawn, times
from benchmarks.problems.slimpajama import slimpajama
from benchmarks.problems.terms import Term
from benchmarks.problems.varied import VARIED, seeded_as
from benchmarks.simulate import Problem

PUBLIC = {"regmix": regmix, "slimpajama": slimpajama}
"""Families made of runs that others have published."""

WORST = 3.0
"""Regret of a crash, and the most that any configuration has: one disaster must not decide a mean."""


@dataclass(frozen=True)
class Check:
    """How the optimum was found. gap: worst of the three searches less the best, normalised; known: the constructed
    optimum less the best search (negative: the search missed it); rank: Spearman of t = 8 %, 16 %, 50 % of a run with
    the final, among random configurations; best20: expected regret of the best of 20 random ones."""

    optimum: float
    median: float
    gap: float
    known: float | None
    rank: tuple[float, float, float]
    best20: float


@dataclass(frozen=True)
class Instance:
    problem: Problem
    drawn: Drawn
    check: Check
    best_row: Array


def names(*, varied: bool = False) -> list[str]:
    """Every family, with `regmix` and `slimpajama` (they need the public runs). `varied`: and those of `varied.py`."""
    return [*FAMILIES, *PUBLIC, *(VARIED if varied else ())]


def draw(family: str, instance: int, data: str | None = None) -> Drawn:
    """Raises ValueError for an unknown family."""
    rng = np.random.default_rng((zlib.crc32(seeded_as(family).encode()), instance))
    if family in PUBLIC:
        return PUBLIC[family](rng, instance, data)
    generated = FAMILIES | VARIED
    if family not in generated:
        raise ValueError(f"no family {family!r}: choose from {', '.join(names(varied=True))}")
    return generated[family](rng, instance)


@lru_cache(maxsize=64)
def make(family: str, instance: int, data: str | None = None) -> Instance:
    """The problem, with its optimum (kept in benchmarks/.cache, keyed by the functions' own values)."""
    drawn = draw(family, instance, data)
    saved = cached_search(drawn, f"{family}-{instance}")
    best = np.array(saved["row"])
    sign = 1.0 if drawn.metric == "eval_loss" else -1.0
    rows = drawn.layout.random(4096, np.random.default_rng(10_000))
    costs = np.where(np.isfinite(values := sign * drawn.final(rows)), values, np.inf)
    optimum, median = float(sign * drawn.final(best[None])[0]), float(np.median(costs))
    span = median - optimum

    def normalise(cost: Array) -> Array:
        if span <= 1e-12:
            return np.zeros(len(cost))
        return np.where(np.isfinite(cost), np.minimum((cost - optimum) / span, WORST), WORST)

    def regret(config: Any) -> float:
        return float(normalise(sign * drawn.final(drawn.layout.to_row(config)[None]))[0])

    def curve(config: Any) -> Array:
        row = drawn.layout.to_row(config)
        return np.asarray(drawn.curves(row[None])[0] + luck(drawn, row))

    known = None
    if drawn.known is not None:
        known = float(normalise(sign * drawn.final(drawn.known[None]))[0] - normalise(np.array([saved["found"]]))[0])
    gap = float(np.ptp(normalise(np.array(saved["three"]))))
    check = Check(
        optimum * sign, median * sign, gap, known, ranks(drawn, rows[:512]),
        float(normalise(costs[:4080]).reshape(-1, 20).min(1).mean()),
    )  # fmt: skip
    problem = Problem(
        f"{family}-{instance}",
        drawn.metric,
        curve,
        regret,
        drawn.noise,
        None,
        1.0,
        drawn.max_t,
        drawn.layout,
        None if drawn.rate is None else partial(_step_cost, drawn.rate, drawn.layout),
    )
    return Instance(problem, drawn, check, best)


def luck(drawn: Drawn, row: Array) -> Array:
    """What the training seed adds at each report, (max_t,): half of its variance from the start, half growing in time.

    A function of the configuration, as a seed for each configuration is (`lm.Task.seed_per_config`): training it once
    more would tell nothing new, its neighbours do.
    """
    if not drawn.luck:
        return np.zeros(drawn.max_t)
    start, end = np.random.default_rng(zlib.crc32(np.round(row, 6).tobytes())).standard_normal(2)
    return np.asarray(drawn.luck * (start + end * times(drawn.max_t)) / np.sqrt(2.0))


def _step_cost(rate: Term, layout: Layout, config: Any) -> float:
    return float(rate(layout.to_row(config)[None])[0])


def ranks(drawn: Drawn, rows: Array) -> tuple[float, float, float]:
    """Spearman of early reports with the final over configurations that do not crash; NaN where all are alike."""
    curves = drawn.curves(rows)
    curves = curves[np.isfinite(curves).all(1)]
    at = [max(1, round(share * drawn.max_t)) - 1 for share in (0.08, 0.16, 0.5)]
    if np.ptp(curves[:, -1]) == 0:
        return (np.nan, np.nan, np.nan)
    a, b, c = (float(spearmanr(curves[:, i], curves[:, -1])[0]) if np.ptp(curves[:, i]) > 0 else np.nan for i in at)
    return a, b, c


def cached_search(drawn: Drawn, name: str) -> dict[str, Any]:
    """row (d,) of the best configuration; found: its cost; three: the costs of the three searches."""
    rows = drawn.layout.random(64, np.random.default_rng(0))
    key = hashlib.sha256(np.round(drawn.curves(rows), 9).tobytes() + rows.tobytes()).hexdigest()[:16]
    path = CACHE / f"problem-{name}-{key}.json"
    if path.exists():
        saved: dict[str, Any] = json.loads(path.read_text())
        return saved
    sign = 1.0 if drawn.metric == "eval_loss" else -1.0
    found = [search_optimum(drawn, seed) for seed in range(3)]
    costs = [float(sign * drawn.final(row[None])[0]) for row in found]
    best, row = min(costs), found[int(np.argmin(costs))]
    if drawn.known is not None and sign * drawn.final(drawn.known[None])[0] <= best:
        row = drawn.known
    saved = {"row": row.tolist(), "found": best, "three": costs}
    keep(path, saved)
    return saved


def search_optimum(drawn: Drawn, seed: int, samples: int = 10_000, starts: int = 16) -> Array:
    """(d,) best of `samples` random rows, then local moves of the best `starts`, all at once, with shrinking steps.

    After two thirds of the rounds the worse half gives way to copies of the better.
    """
    layout, rng = drawn.layout, np.random.default_rng((seed, 11))
    sign = 1.0 if drawn.metric == "eval_loss" else -1.0

    def cost(rows: Array) -> Array:
        values = sign * drawn.final(rows)
        return np.where(np.isfinite(values), values, np.inf)

    rows = layout.random(samples, rng)
    values = cost(rows)
    order = np.argsort(values)[:starts]
    rows, values = rows[order], values[order]
    rounds = 300 + 25 * layout.dim
    for i in range(rounds):
        if i == 2 * rounds // 3:
            order = np.repeat(np.argsort(values)[: starts // 2], 2)
            rows, values = rows[order], values[order]
        step = 10 ** rng.uniform(-1 - 3 * i / rounds, -0.8 * i / rounds, 8 * starts)
        moved = layout.moves(np.repeat(rows, 8, axis=0), step, rng)
        new = cost(moved).reshape(starts, 8)
        at = new.argmin(1)
        better = new[np.arange(starts), at] < values
        rows = np.where(better[:, None], moved.reshape(starts, 8, -1)[np.arange(starts), at], rows)
        values = np.where(better, new[np.arange(starts), at], values)
    return np.asarray(rows[values.argmin()])
