"""The configurations of a generated problem: a mixture of k domains and m model dimensions, as rows of numbers.

    row     k weights (>= 0, sum 1), then m coordinates in [0, 1]      n x (k + m)

A coordinate is the value's place on its (log) scale: 0 the lower bound, 1 the upper one; the i-th of c choices is at
i / (c - 1). It is a Coding of its own: problems must not change when the core's encoding does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.data import Array, Config, Scope


@dataclass(frozen=True)
class Number:
    """A real or integer model dimension, bounds inclusive."""

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False

    def value(self, u: float) -> float | int:
        span = self.high - self.low
        raw = self.low * (self.high / self.low) ** u if self.log else self.low + u * span
        raw = min(max(raw, self.low), self.high)
        return round(raw) if self.integer else float(raw)

    def unit(self, value: Any) -> float:
        if self.log:
            return math.log(float(value) / self.low) / math.log(self.high / self.low)
        return (float(value) - self.low) / (self.high - self.low)

    def snap(self, u: Array) -> Array:
        """(n,) -> the nearest coordinates that a value has."""
        u = np.clip(u, 0.0, 1.0)
        if not self.integer:
            return u
        if self.log:
            ratio = math.log(self.high / self.low)
            return np.asarray(np.log(np.rint(self.low * np.exp(u * ratio)) / self.low) / ratio)
        return np.asarray(np.rint(u * (self.high - self.low)) / (self.high - self.low))

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        return self.snap(rng.random(n))

    def core(self) -> Any:
        from jobs_ray import Integer, Real

        if self.integer:
            return Integer(int(self.low), int(self.high), log=self.log)
        return Real(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """A categorical model dimension of at least two choices."""

    name: str
    choices: tuple[Any, ...]

    @property
    def last(self) -> int:
        return len(self.choices) - 1

    def value(self, u: float) -> Any:
        return self.choices[round(u * self.last)]

    def unit(self, value: Any) -> float:
        return self.choices.index(value) / self.last

    def snap(self, u: Array) -> Array:
        return np.asarray(np.rint(np.clip(u, 0, 1) * self.last) / self.last)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        return np.asarray(rng.integers(0, self.last + 1, n) / self.last)

    def core(self) -> Any:
        from jobs_ray import Categorical

        return Categorical(list(self.choices))


@dataclass(frozen=True)
class Layout:
    """`domains` weights (0: no mixture) and the model dimensions."""

    domains: int
    model: tuple[Number | Choice, ...] = ()

    @property
    def dim(self) -> int:
        return self.domains + len(self.model)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(f"domain-{i:02d}" for i in range(self.domains))

    def space(self, scope: Scope = "all") -> dict[str, Any]:
        """Core parameters. The side that is not searched has uniform weights, or the middle of each dimension.

        Raises:
            ValueError: nothing is left to search.
        """
        from jobs_ray import Mixture

        if (scope == "data" and not self.domains) or (scope == "model" and not self.model):
            raise ValueError(f"{scope} only: this problem has no {'mixture' if scope == 'data' else 'model dimension'}")
        out: dict[str, Any] = {}
        if self.domains:
            uniform = dict.fromkeys(self.names, 1 / self.domains)
            out["mixture"] = uniform if scope == "model" else Mixture(list(self.names))
        if self.model:
            out["model"] = {d.name: d.value(0.5) if scope == "data" else d.core() for d in self.model}
        return out

    def random(self, n: int, rng: np.random.Generator) -> Array:
        parts = [rng.dirichlet(np.ones(self.domains), n)] if self.domains else []
        return np.column_stack(parts + [dimension.draw(n, rng) for dimension in self.model])

    def to_config(self, row: Array) -> Config:
        out: Config = {}
        if self.domains:
            weights = np.maximum(row[: self.domains], 0)
            out["mixture"] = dict(zip(self.names, (weights / weights.sum()).tolist(), strict=True))
        if self.model:
            pairs = zip(self.model, row[self.domains :], strict=True)
            out["model"] = {dimension.name: dimension.value(float(u)) for dimension, u in pairs}
        return out

    def to_row(self, config: Mapping[str, Any]) -> Array:
        weights = [float(config["mixture"][name]) for name in self.names] if self.domains else []
        return np.array(weights + [d.unit(config["model"][d.name]) for d in self.model])

    def to_rows(self, configs: Sequence[Mapping[str, Any]]) -> Array:
        return np.array([self.to_row(c) for c in configs]).reshape(-1, self.dim)

    def snap(self, rows: Array) -> Array:
        """The nearest valid rows: coordinates that a value has, weights >= 0 that sum to 1."""
        out = rows.copy()
        if self.domains:
            weights = np.maximum(rows[:, : self.domains], 0)
            out[:, : self.domains] = weights / weights.sum(1, keepdims=True)
        for j, dimension in enumerate(self.model, self.domains):
            out[:, j] = dimension.snap(rows[:, j])
        return out

    def features(self, rows: Array) -> Array:
        """Square roots of the weights, coordinates, one-hot choices; each of about unit variance."""
        parts = []
        if k := self.domains:
            spread = math.sqrt(max(1 / k - _mean_root(k) ** 2, 1e-6))
            parts.append((np.sqrt(np.maximum(rows[:, :k], 0)) - _mean_root(k)) / spread)
        for j, dimension in enumerate(self.model, k):
            if isinstance(dimension, Choice) and dimension.last > 1:
                hot = np.rint(rows[:, [j]] * dimension.last) == np.arange(dimension.last + 1)
                parts.append(hot * math.sqrt(dimension.last + 1))
            else:
                half = 2.0 if isinstance(dimension, Choice) else math.sqrt(12)
                parts.append((rows[:, [j]] - 0.5) * half)
        return np.column_stack(parts)

    def moves(self, rows: Array, step: Array, rng: np.random.Generator) -> Array:
        """Weights pulled to or from a vertex or a Dirichlet draw, or shifted between two domains; a few dimensions."""
        out, (n, k, m) = rows.copy(), (len(rows), self.domains, len(self.model))
        if k > 1:
            kind = rng.random((n, 1))
            vertex = np.eye(k)[rng.integers(0, k, n)]
            target = np.where(kind < 0.4, vertex, rng.dirichlet(np.ones(k), n))
            pulled = out[:, :k] + np.where(rng.random((n, 1)) < 0.6, 1, -1) * step[:, None] * (target - out[:, :k])
            shift = step[:, None] * (vertex - np.eye(k)[rng.integers(0, k, n)])
            weights = np.maximum(np.where(kind < 0.7, pulled, out[:, :k] + shift), 0)
            still = rng.random((n, 1)) < (0.4 if m else 0.0)
            out[:, :k] = np.where(still, out[:, :k], weights / weights.sum(1, keepdims=True))
        if m:
            chosen = rng.random((n, m)) < rng.choice([1.0, 1.5, 3.0], (n, 1)) / m
            jump = out[:, k:] + 0.5 * step[:, None] * rng.normal(size=(n, m))
            for j, dimension in enumerate(self.model):
                if isinstance(dimension, Choice):
                    jump[:, j] = dimension.draw(n, rng)
                elif dimension.integer:  # or small steps would all round to nothing
                    jump[:, j] += rng.integers(-1, 2, n) / (dimension.high - dimension.low)
            out[:, k:] = np.where(chosen, jump, out[:, k:])
        return self.snap(out)


def _mean_root(k: int) -> float:
    """Mean of the square root of one of k weights that are uniform on the simplex: B(3/2, k - 1) / B(1, k - 1)."""
    return math.exp(math.lgamma(1.5) + math.lgamma(k) - math.lgamma(k + 0.5))
