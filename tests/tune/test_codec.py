"""A space must survive JSON: the same parameters, and the same decoded configurations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tune_spaces import DOMAINS, nested_space

from jobs_ray.space import SearchSpace
from jobs_ray.tune.codec import from_json, to_json
from jobs_ray.tune.domains import TuneSpace


class Thing:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("space", [{name: domain} for name, domain in DOMAINS.items()] + [nested_space()])
def test_space_comes_back_from_json(space: dict[str, Any]) -> None:
    back = from_json(json.loads(json.dumps(to_json(space), allow_nan=False)))
    before, after = TuneSpace(space), TuneSpace(back)
    assert before.core == after.core
    core = SearchSpace(before.core)
    for x in core.sample(8, np.random.default_rng(0)):
        values = core.decode(x)
        assert repr(before.ray_config(values)) == repr(after.ray_config(values))


def test_objects_and_key_types_come_back() -> None:
    space = {"thing": Thing(), "pair": (1, [2.0, None]), "far": -float("inf"), 3: {"x": True}}
    assert from_json(json.loads(json.dumps(to_json(space), allow_nan=False))) == space


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="'hyper' is not a kind"):
        from_json({"$": "hyper"})
