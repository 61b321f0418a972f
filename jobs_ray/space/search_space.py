"""SearchSpace: nested configurations to and from `n x d` points of the unit cube.

    notation   meaning                                          shape
    d          columns: the sum of the parameters' widths       -
    X          points, one row a configuration                  n x d, double in [0, 1]
    features   what the Gaussian processes see                  n x p

A parameter that is inactive (its `when` does not hold) is *imputed*: its columns hold one fixed value, so two
configurations that train the same model are the same point and the surrogate is not misled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs_ray.space.base import as_python, naming
from jobs_ray.space.parameters import Array, Categorical, Integer, Mixture, Parameter, Real, SpaceError
from jobs_ray.space.sampling import dirichlet, sobol
from jobs_ray.space.template import build, copied, first_duplicate, get, is_parameter, leaves, parents

__all__ = ["Block", "Categorical", "Integer", "Mixture", "Parameter", "Real", "SearchSpace", "SpaceError"]

_GRID = 1024  # a space of at most so many configurations is a list of them, each of which is looked at


@dataclass(frozen=True)
class Block:
    """One parameter, its path, its columns of `X`, and what it hangs on."""

    name: str
    parameter: Parameter
    columns: slice
    parents: tuple[tuple[int, frozenset[int]], ...]  # (block number of a Categorical, indices that activate)


class SearchSpace:
    """The space of configurations: a (nested) dict of parameters and constants.

    Raises SpaceError, one sentence that names the parameter, when the space cannot be searched.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._template = params = copied(params)  # the caller's may change
        found = [(path, leaf) for path, leaf in leaves(params, ()) if is_parameter(leaf)]
        names = ["/".join(path) for path, _ in found]
        if len(set(names)) < len(names):
            raise SpaceError(f"parameter {first_duplicate(names)!r} is defined twice")
        if not found:
            raise SpaceError("the space has no parameters; give it at least one Real, Integer, ...")
        start = 0
        blocks: list[Block] = []
        for name, (_, parameter) in zip(names, found, strict=True):
            with naming(name):
                parameter.check()
                active_when = tuple(parents(parameter.when, names, found))
            blocks.append(Block(name, parameter, slice(start, start + parameter.width), active_when))
            start += parameter.width
        self.blocks = tuple(blocks)
        self.dim = start
        self._order = _parents_first(self.blocks)
        self._paths = tuple(path for path, _ in found)
        self._neutral = np.concatenate([_neutral(block.parameter) for block in blocks])

    def encode(self, config: Mapping[str, Any]) -> Array:
        """`config` (nested dict) -> `(d,)`. Raises SpaceError on a missing, foreign or out-of-range value."""
        x = self._neutral.copy()
        for number in self._order:
            block = self.blocks[number]
            if self.active(x[None])[0, number]:
                with naming(block.name):
                    x[block.columns] = block.parameter.encode(get(config, self._paths[number]))
        return x

    def decode(self, x: Array) -> dict[str, Any]:
        """`(d,)` -> nested dict of Python types; constants included, inactive parameters absent."""
        return self.build(self._values(x))

    def values(self, config: Mapping[str, Any], x: Sequence[float] | None = None) -> dict[str, Any]:
        """The active parameters of `config` as plain data, by path: what must be stored to rebuild it.

        Mixtures come out summing to 1, numpy's scalars as Python's, numbers as numbers ("1e-4" is what YAML makes of
        it); everything else verbatim. `x`: `encode(config)`, for who has it.
        """
        row = self.encode(config) if x is None else np.array(x)
        chosen = zip(self.blocks, self._paths, self.active(row[None])[0], strict=True)
        return {b.name: _plain(b.parameter, row[b.columns], get(config, path)) for b, path, on in chosen if on}

    def build(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The nested configuration of `values` (by path), with the constants of the space; containers are new."""
        built: dict[str, Any] = build(self._template, (), values)
        return built

    def active(self, X: Array) -> NDArray[np.bool_]:
        """`n x d` -> `n x len(blocks)`: which parameters exist at each point."""
        result = np.ones((len(X), len(self.blocks)), dtype=bool)
        for number in self._order:
            for parent, allowed in self.blocks[number].parents:
                block = self.blocks[parent]
                count = len(block.parameter.choices)  # type: ignore[union-attr]
                index = np.clip(np.floor(X[:, block.columns.start] * count), 0, count - 1).astype(int)
                result[:, number] &= result[:, parent] & np.isin(index, list(allowed))
        return result

    def snap(self, X: Array) -> Array:
        """The nearest valid points: bin centres, the bounded simplex, imputed inactive columns. `n x d`."""
        result = np.empty_like(X)
        for block in self.blocks:
            result[:, block.columns] = block.parameter.snap(X[:, block.columns])
        if any(block.parents for block in self.blocks):
            active = self.active(result)
            for number, block in enumerate(self.blocks):
                result[~active[:, number], block.columns] = self._neutral[block.columns]
        return result

    def without_traces(self, X: Array) -> Array:
        """Points `n x d` with no weight of a mixture between 0 and a thousandth, as far as its bounds admit."""
        result = self.snap(X)  # a projection onto the bounds leaves traces, too
        for block in self.blocks:
            if isinstance(block.parameter, Mixture):
                result[:, block.columns] = block.parameter.without_traces(result[:, block.columns])
        return self.snap(result)

    def features(self, X: Array) -> Array:
        """`n x d` -> `n x p`: square roots of mixture weights, one-hot choices, unit (log) numbers.

        Standardised by their spread over the space, so that every number, every choice and every domain of a
        mixture counts alike before any data is seen.
        """
        centre, spread = self._standard
        return (self.unit_features(X) - centre) / spread

    def unit_features(self, X: Array) -> Array:
        """The same before they are standardised: `n x p` in `[0, 1]`, as BoTorch's own models expect inputs."""
        return np.hstack([b.parameter.features(X[:, b.columns]) for b in self.blocks])

    @cached_property
    def _standard(self) -> tuple[Array, Array]:
        """Centre and spread of each feature: of a fixed sample, so bounds and conditions are accounted for."""
        F = self.unit_features(self.sample(1024, np.random.default_rng(0)))
        spread: list[float] = []
        for block in self.blocks:
            width = block.parameter.features(np.zeros((1, block.parameter.width))).shape[1]
            columns = F[:, len(spread) : len(spread) + width]
            if isinstance(block.parameter, Categorical):  # its one-hot columns count together as one
                spread.extend([float(np.sqrt(columns.var(axis=0).sum()))] * width)
            else:
                spread.extend(columns.std(axis=0).tolist())
        return F.mean(axis=0), np.where(np.array(spread) > 1e-9, spread, 1.0)

    def sample(self, n: int, rng: np.random.Generator, *, sparsity: float = 1.0) -> Array:
        """`n x d` valid points: scrambled Sobol for the box, Dirichlet on the simplex within its bounds.

        `sparsity` multiplies the concentration of the Dirichlet: below 1, more weight on fewer domains.
        """
        return self.snap(self.distributed(sobol(n, self.dim, rng), rng, sparsity=sparsity))

    def distributed(self, U: Array, rng: np.random.Generator, *, sparsity: float = 1.0) -> Array:
        """Uniform numbers `n x d`, each mixture's made weights of its Dirichlet; not snapped."""
        X = U.copy()
        for block in self.blocks:
            if isinstance(block.parameter, Mixture):
                X[:, block.columns] = dirichlet(block.parameter, U[:, block.columns], rng, sparsity)
        return X

    @cached_property
    def grid(self) -> Array | None:
        """Every point of a small finite space, `n x d`, each once; None: its parameters combine in more than 1,024
        ways, or are not all choices and whole numbers."""
        levels = [found for block in self.blocks if (found := _levels(block.parameter)) is not None]
        if len(levels) < len(self.blocks) or math.prod(len(level) for level in levels) > _GRID:
            return None
        X = self.snap(np.array([np.concatenate(point) for point in product(*levels)]))
        return np.unique([self.encode(self.decode(x)) for x in X], axis=0)  # as trials have it, to the last bit

    def _values(self, x: Array) -> dict[str, Any]:
        active = self.active(x[None])[0]
        return {b.name: b.parameter.decode(x[b.columns]) for b, on in zip(self.blocks, active, strict=True) if on}


def _plain(parameter: Parameter, x: Array, value: Any) -> Any:
    if isinstance(parameter, Mixture):
        return parameter.decode(x)
    value = as_python(value)
    if isinstance(parameter, Integer) and type(value) is not int:  # 8.0, or "8" of a configuration file
        return int(min(max(int(float(value)), parameter.lower), parameter.upper))
    if isinstance(parameter, Real) and type(value) not in (int, float):
        return float(value)
    return value


def _parents_first(blocks: tuple[Block, ...]) -> list[int]:
    order: list[int] = []
    while len(order) < len(blocks):
        ready = [i for i, b in enumerate(blocks) if i not in order and all(p in order for p, _ in b.parents)]
        if not ready:
            stuck = next(b.name for i, b in enumerate(blocks) if i not in order)
            raise SpaceError(f"parameter {stuck!r} depends on itself through its `when`")
        order.extend(ready)
    return order


def _levels(parameter: Parameter) -> list[list[float]] | None:
    """The columns of each of its values; None: they are too many."""
    if isinstance(parameter, Categorical):
        return [parameter.encode(choice) for choice in parameter.choices]
    if isinstance(parameter, Integer) and parameter.upper - parameter.lower < _GRID:
        return [parameter.encode(value) for value in range(int(parameter.lower), int(parameter.upper) + 1)]
    fixed = parameter.fixed if isinstance(parameter, Mixture) else None
    return None if fixed is None else [fixed.tolist()]


def _neutral(parameter: Parameter) -> Array:
    """The value that stands for "absent": the middle of the block."""
    middle = np.full((1, parameter.width), 1.0 / parameter.width if isinstance(parameter, Mixture) else 0.5)
    return np.asarray(parameter.snap(middle)[0])
