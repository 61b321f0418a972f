"""The tree of a translated Ray search space: constants, parameters, containers, choices between trees.

Every node yields its core parameters and converts its part of a configuration: `to_ray` from the core's flat
`{name: value}`, `to_core` from the user's value (`path` is for messages; `lenient`: parameters may be missing, weights
of a mixture need not sum to 1).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jobs_ray.space import Categorical, Mixture, Parameter, SpaceError
from jobs_ray.space.base import as_python, is_number, naming
from jobs_ray.tune.weights import Weights

Named: TypeAlias = Iterator[tuple[str, Parameter]]


@dataclass(frozen=True)
class Constant:
    value: Any

    def parameters(self) -> Named:
        return iter(())

    def to_ray(self, values: Mapping[str, Any]) -> Any:
        return copy.deepcopy(self.value)

    def to_core(self, value: Any, path: str, lenient: bool = False) -> dict[str, Any]:
        if value is not self.value and not _equal(value, self.value):
            raise SpaceError(f"parameter {path!r} is {value!r}; expected the constant {self.value!r}")
        return {}


@dataclass(frozen=True)
class Leaf:
    """One parameter. `step`: the core holds a whole number k, Ray's value is k * step within [low, high]."""

    name: str
    parameter: Parameter
    step: float | None = None
    low: float = -math.inf
    high: float = math.inf

    def parameters(self) -> Named:
        yield self.name, self.parameter

    def to_ray(self, values: Mapping[str, Any]) -> Any:
        value = values[self.name]
        if isinstance(self.parameter, Mixture):
            return Weights(value)
        if self.step is None:
            return value
        if isinstance(self.step, int):
            return int(value) * self.step
        # 3 * 0.1 is 0.30000000000000004, above a bound of 0.3: clean, then clip
        return float(min(max(float(f"{value * self.step:.12g}"), self.low), self.high))

    def to_core(self, value: Any, path: str, lenient: bool = False) -> dict[str, Any]:
        value = as_python(value)
        if self.step is not None:
            value = _grid_index(value, self.step, path)
        if lenient and isinstance(self.parameter, Mixture):
            value = _normalised(value)
        with naming(path):
            self.parameter.encode(value)
        return {self.name: value}


@dataclass(frozen=True)
class Tree:
    """A dict, list or tuple; `keys` are its keys, or the indices."""

    kind: type
    keys: tuple[Any, ...]
    children: tuple[Node, ...]

    def parameters(self) -> Named:
        for child in self.children:
            yield from child.parameters()

    def to_ray(self, values: Mapping[str, Any]) -> Any:
        there = [(k, c.to_ray(values)) for k, c in zip(self.keys, self.children, strict=True) if not _absent(c, values)]
        return dict(there) if self.kind is dict else self.kind(item for _, item in there)

    def to_core(self, value: Any, path: str, lenient: bool = False) -> dict[str, Any]:
        wanted = Mapping if self.kind is dict else Sequence
        if not isinstance(value, wanted) or isinstance(value, str):
            raise SpaceError(f"parameter {path!r} is {value!r}; expected a {self.kind.__name__}")
        given = set(value) if isinstance(value, Mapping) else set(range(len(value)))
        if unknown := given - set(self.keys):
            raise SpaceError(f"parameter {join(path, min(unknown, key=str))!r} is not in the search space")
        found: dict[str, Any] = {}
        for key, child in zip(self.keys, self.children, strict=True):
            if key in given:
                found.update(child.to_core(value[key], join(path, key), lenient))
            elif not lenient and any(not p.when for _, p in child.parameters()):  # constants may be left out
                raise SpaceError(f"parameter {join(path, key)!r} is missing from {value!r}")
        return found


@dataclass(frozen=True)
class Choice:
    """A choice between trees; the core sees the option's number, as a string."""

    name: str
    options: tuple[Node, ...]

    def parameters(self) -> Named:
        yield self.name, Categorical([str(i) for i in range(len(self.options))])
        for i, option in enumerate(self.options):
            for name, parameter in option.parameters():
                # a parameter deeper down hangs on its own choice, which in turn hangs on this one
                yield name, parameter if parameter.when else _when(parameter, {self.name: str(i)})

    def to_ray(self, values: Mapping[str, Any]) -> Any:
        return self.options[int(values[self.name])].to_ray(values)

    def to_core(self, value: Any, path: str, lenient: bool = False) -> dict[str, Any]:
        for i, option in enumerate(self.options):
            try:
                return {self.name: str(i)} | option.to_core(value, path, lenient)
            except SpaceError:
                continue
        raise SpaceError(f"parameter {path!r} is {value!r}, which is none of its {len(self.options)} options")


def _absent(node: Node, values: Mapping[str, Any]) -> bool:
    """A parameter whose own `when` does not hold."""
    return isinstance(node, Leaf) and bool(node.parameter.when) and node.name not in values


Node: TypeAlias = Constant | Leaf | Tree | Choice


def _when(parameter: Parameter, when: dict[str, str]) -> Parameter:
    changed = copy.copy(parameter)
    object.__setattr__(changed, "when", when)
    return changed


def _normalised(weights: Any) -> Any:
    """Weights that sum to 1, from parts like 2 / 5 / 3; anything else as it is, for the parameter to refuse."""
    if not isinstance(weights, Mapping) or not all(is_number(weight) and weight >= 0 for weight in weights.values()):
        return weights
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()} if total > 0 else weights


def _grid_index(value: Any, step: float, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpaceError(f"parameter {path!r} is {value!r}; expected a number")
    index = round(value / step)
    if not math.isclose(index * step, value, rel_tol=1e-9, abs_tol=1e-9 * abs(step)):
        raise SpaceError(f"parameter {path!r} is {value!r}; expected a multiple of {step}")
    return index


def _equal(left: Any, right: Any) -> bool:
    """`==` as a plain bool, NaN equal to NaN; False where the objects cannot say (arrays)."""
    left, right = as_python(left), as_python(right)
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    try:
        both_nan = isinstance(left, float) and isinstance(right, float) and left != left and right != right
        return both_nan or bool(left == right)
    except ValueError:
        return False


def join(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)
