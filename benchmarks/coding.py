"""How rivals see the configurations of a problem: as rows of numbers, drawn at random, moved, and encoded for a GP.

Nothing of the core's own encoding is used, so that a rival does not change when the core does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from benchmarks import data
from benchmarks.data import ALPHA, DROPOUT, FIRST, FLAGS, LAYERS, RANK, Array, Config, Scope
from benchmarks.emulator import moves


class Coding(Protocol):
    """Rows are n x d for some d of the problem's own; features n x p."""

    def space(self, scope: Scope = "all") -> dict[str, Any]:
        """The search space as core parameters; `data` and `model` fix the other side at its default."""
        ...

    def random(self, n: int, rng: np.random.Generator) -> Array:
        """n x d random configurations: Dirichlet(1) weights, the rest uniform on its (log) scale."""
        ...

    def to_config(self, row: Array) -> Config: ...

    def to_rows(self, configs: Sequence[Mapping[str, Any]]) -> Array: ...

    def features(self, rows: Array) -> Array:
        """n x d -> n x p, each of about unit variance over random configurations."""
        ...

    def moves(self, rows: Array, step: Array, rng: np.random.Generator) -> Array:
        """One random valid neighbour a row; step (n,) in (0, 1] is its size."""
        ...


class TableCoding:
    """The space of the real tables (data.py): rows n x 19, features n x 19."""

    def space(self, scope: Scope = "all") -> dict[str, Any]:
        return data.search_space(scope)

    def random(self, n: int, rng: np.random.Generator) -> Array:
        """As the source drew its own: see `data.random_rows`."""
        return data.random_rows(n, rng)

    def to_config(self, row: Array) -> Config:
        return data.to_config(row)

    def to_rows(self, configs: Sequence[Mapping[str, Any]]) -> Array:
        return data.to_rows(configs)

    def features(self, rows: Array) -> Array:
        """Square roots of the mixture weights, log2 of rank and alpha, the rest as it is."""
        return np.column_stack([
            np.sqrt(rows[:, :9]) / 0.15, 2 * rows[:, FLAGS] - 1, 2 * rows[:, FIRST] - 1, (rows[:, LAYERS] - 16.5) / 9.2,
            (rows[:, DROPOUT] - 0.05) / 0.029, np.log2(rows[:, RANK]) / 1.4, np.log2(rows[:, ALPHA]) / 1.4,
        ])  # fmt: skip

    def moves(self, rows: Array, step: Array, rng: np.random.Generator) -> Array:
        return moves(rows, step, rng)
