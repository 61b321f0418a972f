"""A space must survive JSON: the same parameters, and the same decoded configurations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tune_spaces import DOMAINS, nested_space

from jobs_ray.space import Categorical, Integer, Mixture, Real, SearchSpace
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
    assert from_json(json.loads(json.dumps(to_json(space), allow_nan=False)), trusted=True) == space


def test_objects_are_not_unpickled_unless_trusted() -> None:
    back = from_json(json.loads(json.dumps(to_json({"thing": Thing(), "x": 1}))))
    assert repr(back) == "{'thing': <object, not read>, 'x': 1}"


def test_parameters_of_the_core_and_numpy_scalars_need_no_pickle() -> None:
    space = {
        "method": Categorical(["full", "lora"]),
        "r": Integer(1, 128, log=True, when={"method": {"lora"}}),
        "lr": Real(1e-5, 1e-2, log=True),
        "mixture": Mixture(["a", "b"], max={"a": 0.5}),
        "fixed": np.int64(3),
    }
    text = json.dumps(to_json(space), allow_nan=False)
    assert "pickle" not in text
    back = from_json(json.loads(text))
    assert back["fixed"] == 3
    x = SearchSpace({k: space[k] for k in space}).sample(8, np.random.default_rng(0))
    assert SearchSpace(back).decode(x[0]) == SearchSpace(space).decode(x[0])


def test_a_sampler_is_a_name_that_is_known() -> None:
    data = to_json(DOMAINS["uniform"])
    with pytest.raises(ValueError, match="'cast' is not a sampler"):
        from_json(data | {"sampler": "cast"})


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="'hyper' is not a kind"):
        from_json({"$": "hyper"})
