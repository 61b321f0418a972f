"""Ray Tune search spaces to and from the parameters of the core.

A Ray space is a tree: dicts, lists and tuples hold constants, domains, and choices whose options are again
trees. Here it becomes a flat dict of core parameters, named by their path (`lora/r`; `opt[1]/momentum` for a
parameter of option 1 of the choice `opt`, which exists only when that option is chosen).

    Ray domain                       core parameter
    uniform, loguniform              Real
    randint, lograndint              Integer up to upper - 1 (Ray's upper bound is exclusive)
    q* of a float or an integer      Integer k, for the value k * q (upper bound inclusive unless q = 1)
    randn, qrandn                    Real or Integer k, evenly between the 0.5 % and 99.5 % quantiles
    choice of distinct JSON scalars  Categorical
    choice of anything else          Categorical of the option's number, and the options' own parameters
    mixture                          Mixture

`sample_from` and `grid_search` are refused: the searcher could not know, or not choose, their values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ray.tune.search import sample as ray_sample

from jobs_ray.space import Categorical, Integer, Mixture, Parameter, Real, SearchSpace, SpaceError
from jobs_ray.space.base import is_scalar
from jobs_ray.tune import placeholders
from jobs_ray.tune.mixtures import MixtureDomain, mixture
from jobs_ray.tune.nodes import Choice, Constant, Leaf, Node, Tree, join

__all__ = ["NORMAL_QUANTILE", "TuneSpace", "mixture"]

NORMAL_QUANTILE = 0.995
_NORMAL_Z = 2.5758293035489004  # the standard normal's quantile of NORMAL_QUANTILE


class TuneSpace:
    """A Ray search space and its core parameters. Raises SpaceError for a domain that cannot be searched.

    `core`: `{path: parameter}` for SearchSpace; `ray_config` and `core_config` convert configurations.
    """

    def __init__(self, space: Mapping[str, Any]) -> None:
        if not isinstance(space, Mapping):
            raise SpaceError(
                f"the search space is a {type(space).__name__}; expected a dict of Ray Tune domains, as in "
                "{'lr': tune.loguniform(1e-5, 1e-2)} (define-by-run functions are not supported: "
                "put dependent parameters into the options of a tune.choice)"
            )
        self.source = space
        self._root = _translate(space, "")
        self.core: dict[str, Parameter] = {}
        for name, parameter in self._root.parameters():
            if name in self.core:
                raise SpaceError(f"parameter {name!r} is defined twice")
            self.core[name] = parameter
        if self.core:
            SearchSpace(self.core)  # checks every parameter now, not at the first suggestion

    def ray_config(self, core_config: Mapping[str, Any]) -> dict[str, Any]:
        """The nested configuration that a trainable gets: Python types, constants included."""
        config: dict[str, Any] = self._root.to_ray(core_config)
        return config

    def core_config(self, ray_config: Mapping[str, Any], *, lenient: bool = False) -> dict[str, Any]:
        """Flat `{path: value}` of a user's configuration. Raises SpaceError if it is not of this space.

        lenient: parameters may be missing, and weights of a mixture need not sum to 1.
        """
        return self._root.to_core(ray_config, "", lenient)


def _translate(node: Any, path: str) -> Node:
    if isinstance(node, Real | Integer | Categorical | Mixture):
        return Leaf(path, node)
    if isinstance(node, MixtureDomain):
        return Leaf(path, node.parameter)
    if isinstance(node, ray_sample.Domain):
        return _domain(node, path)
    if isinstance(node, Mapping):
        if set(node) == {"grid_search"}:
            raise SpaceError(f"parameter {path!r} is a grid_search; use tune.choice, the searcher chooses")
        keys = tuple(node)
        return Tree(dict, keys, tuple(_translate(node[key], join(path, key)) for key in keys))
    if isinstance(node, list | tuple):
        if len(node) == 2 and node[0] == placeholders.FUNCTION:
            raise _sample_from(path)
        children = tuple(_translate(item, join(path, i)) for i, item in enumerate(node))
        if all(isinstance(child, Constant) for child in children):
            return Constant(node)
        return Tree(type(node), tuple(range(len(node))), children)
    if type(node).__module__.startswith("optuna."):
        raise SpaceError(f"parameter {path!r} is an Optuna distribution; use the tune.* domain instead")
    return Constant(node)


def _domain(domain: Any, path: str) -> Node:
    sampler = domain.get_sampler()
    step = None
    if isinstance(sampler, ray_sample.Quantized):
        step, sampler = sampler.q, sampler.get_sampler()
    log = isinstance(sampler, ray_sample.LogUniform)
    if isinstance(domain, ray_sample.Categorical):
        return _choice(domain.categories, path)
    if isinstance(domain, ray_sample.Function):
        raise _sample_from(path)
    if isinstance(domain, ray_sample.Integer):
        # q = 1 is drawn as if unquantised: exclusive (ray.tune.search.sample.Quantized)
        high = domain.upper - 1 if step in (None, 1) else domain.upper
        return _number(path, domain.lower, high, int(step or 1), log, whole=True)
    if isinstance(domain, ray_sample.Float):
        low, high = domain.lower, domain.upper
        if isinstance(sampler, ray_sample.Normal):
            low, high = sampler.mean - _NORMAL_Z * sampler.sd, sampler.mean + _NORMAL_Z * sampler.sd
        return _number(path, low, high, step, log, whole=False)
    raise SpaceError(f"parameter {path!r} is a {type(domain).__name__}, a domain this searcher does not know")


def _number(path: str, low: float, high: float, step: float | None, log: bool, whole: bool) -> Node:
    if step is None:
        return Constant(float(low)) if low == high else Leaf(path, Real(float(low), float(high), log=log))
    first, last = _inwards(low / step, math.ceil), _inwards(high / step, math.floor)
    if last < first:
        raise SpaceError(f"parameter {path!r} has no value: no multiple of {step} lies in its range")
    if last == first:
        return Constant(first * step)
    kind: Callable[[Any], Any] = int if whole else float
    return Leaf(path, Integer(first, last, log=log and first > 0), kind(step), low, high)


def _choice(categories: list[Any], path: str) -> Node:
    options = [option.item() if isinstance(option, np.generic) else option for option in categories]
    if not options:
        raise SpaceError(f"parameter {path!r} is a choice of nothing; give it at least one option")
    # the others, infinity among them, which no state could hold, by their number
    if all(map(is_scalar, options)) and len({(type(option), option) for option in options}) == len(options):
        return Leaf(path, Categorical(options))
    return Choice(path, tuple(_translate(option, f"{path}[{i}]") for i, option in enumerate(options)))


def _inwards(scaled: float, rounding: Callable[[float], int]) -> int:
    """The grid index of a bound; a bound that is on the grid up to float noise stays."""
    nearest = round(scaled)
    return nearest if math.isclose(scaled, nearest, abs_tol=1e-9) else rounding(scaled)


def _sample_from(path: str) -> SpaceError:
    return SpaceError(
        f"parameter {path!r} is a sample_from: your function draws its values, they cannot be searched; "
        "use a tune.* domain, or put dependent parameters into the options of a tune.choice"
    )
