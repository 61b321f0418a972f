"""A Ray search space as plain JSON data, so that a saved searcher can be restored into a blank one.

Containers, domains and the core's parameters become `{"$": kind, ...}`; JSON scalars stay themselves. What JSON cannot
hold (constant objects) is pickled, for a `restore` inside Ray, whose own experiment state is a pickle, too. Whoever
only reads a folder runs no code from it, and gets a `NotRead` in the place of such an object.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray import cloudpickle
from ray.tune.search import sample

from jobs_ray.space import Categorical, Integer, Mixture, Real
from jobs_ray.tune.mixtures import MixtureDomain

_SAMPLERS = {"uniform": sample.Uniform, "loguniform": sample.LogUniform, "normal": sample.Normal}
_CORE = {kind.__name__: kind for kind in (Real, Integer, Categorical, Mixture)}


class NotRead:
    """Stands for an object that is only saved as a pickle."""

    def __repr__(self) -> str:
        return "<object, not read>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NotRead)  # so that a point to evaluate fits the space that it was saved with

    def __hash__(self) -> int:
        return hash(NotRead)


def to_json(node: Any) -> Any:
    """Plain JSON data of a space, or of a user's configuration."""
    if isinstance(node, np.generic):
        node = node.item()
    if isinstance(node, float) and not math.isfinite(node):  # randn's bounds; strict JSON has no infinities
        return {"$": "number", "text": repr(float(node))}
    if node is None or isinstance(node, str | bool | int | float):
        return node
    if isinstance(node, Mapping):
        return {"$": "dict", "items": [[to_json(key), to_json(value)] for key, value in node.items()]}
    if type(node) in (list, tuple):
        return {"$": type(node).__name__, "items": [to_json(item) for item in node]}
    if isinstance(node, MixtureDomain):
        mixture = node.parameter
        return {
            "$": "mixture",
            "names": list(mixture.names),
            "min": to_json(mixture.min),
            "max": to_json(mixture.max),
            "concentration": mixture.concentration,
        }
    if type(node) is sample.Categorical and not node.is_grid():
        return {"$": "choice", "items": [to_json(option) for option in node.categories]}
    if isinstance(node, Real | Integer | Categorical | Mixture):
        fields = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
        if fields["when"] is not None:
            fields["when"] = {k: list(v) if isinstance(v, set | frozenset) else v for k, v in fields["when"].items()}
        return {"$": "parameter", "kind": type(node).__name__, "fields": {k: to_json(v) for k, v in fields.items()}}
    if type(node) in (sample.Float, sample.Integer):
        bounds = {"lower": to_json(node.lower), "upper": to_json(node.upper)}
        return {"$": type(node).__name__} | bounds | _sampler(node)
    return {"$": "pickle", "data": base64.b64encode(cloudpickle.dumps(node)).decode("ascii")}


def from_json(data: Any, *, trusted: bool = False) -> Any:
    """The inverse of `to_json`; `trusted`: pickled objects are unpickled, which runs whatever code they name.

    Raises KeyError, TypeError, ValueError or RecursionError on data that it did not write.
    """
    if not isinstance(data, Mapping):
        return data
    kind = data["$"]
    if kind == "number":
        return float(data["text"])
    if kind == "dict":
        return {from_json(k, trusted=trusted): from_json(v, trusted=trusted) for k, v in data["items"]}
    if kind in ("list", "tuple"):
        items = [from_json(item, trusted=trusted) for item in data["items"]]
        return items if kind == "list" else tuple(items)
    if kind == "mixture":
        low, high = from_json(data["min"]), from_json(data["max"])
        return MixtureDomain(Mixture(data["names"], min=low, max=high, concentration=data["concentration"]))
    if kind == "choice":
        return sample.Categorical([from_json(option, trusted=trusted) for option in data["items"]]).uniform()
    if kind == "parameter":
        return _CORE[data["kind"]](**{k: from_json(v, trusted=trusted) for k, v in data["fields"].items()})
    if kind in ("Float", "Integer"):
        domain = getattr(sample, kind)(from_json(data["lower"]), from_json(data["upper"]))
        name = data["sampler"]
        if name not in _SAMPLERS:
            raise ValueError(f"{name!r} is not a sampler that this version knows")
        domain = domain.normal(data["mean"], data["sd"]) if name == "normal" else getattr(domain, name)()
        return domain if data["q"] is None else domain.quantized(data["q"])
    if kind == "pickle":
        return cloudpickle.loads(base64.b64decode(data["data"])) if trusted else NotRead()
    raise ValueError(f"{kind!r} is not a kind of domain that this version knows")


def _sampler(domain: Any) -> dict[str, Any]:
    sampler, q = domain.get_sampler(), None
    if isinstance(sampler, sample.Quantized):
        sampler, q = sampler.get_sampler(), sampler.q
    name = next(name for name, kind in _SAMPLERS.items() if isinstance(sampler, kind))
    normal = {"mean": sampler.mean, "sd": sampler.sd} if name == "normal" else {}
    return {"sampler": name, "q": q} | normal
