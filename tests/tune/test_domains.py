"""Every Ray domain, its translation, and the way back: whatever the core decodes must be valid for Ray."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from ray import tune
from ray.tune.impl.placeholder import create_resolvers_map, inject_placeholders
from ray.tune.search.sample import Domain
from ray.tune.search.variant_generator import generate_variants
from tune_spaces import DOMAINS, nested_space

from jobs_ray import JoBSOptimizer, mixture
from jobs_ray.space import SearchSpace, SpaceError
from jobs_ray.tune.domains import TuneSpace

UPPER_VALUES = {
    "randint": 3,
    "randint_two": 1,
    "qrandint": 100,
    "qrandint_one": 4,
    "qrandint_uneven": 20,
    "lograndint": 128,
    "qlograndint": 64,
    "quniform": 0.3,
    "quniform_coarse": 10.0,
    "qloguniform": 10.0,
    "uniform": 3.0,
    "loguniform": 1e-2,
}


def core_point(space: TuneSpace, u: float) -> dict[str, Any]:
    core = SearchSpace(space.core)
    return space.ray_config(core.decode(core.snap(np.full((1, core.dim), u))[0]))


def allowed(domain: Domain, value: Any) -> bool:
    """Stricter than Ray's `is_valid`: exclusive upper bounds and multiples of q count."""
    sampler = domain.get_sampler()
    step = getattr(sampler, "q", None)
    if isinstance(domain, tune.search.sample.Integer) and step in (None, 1) and value >= domain.upper:
        return False
    if step and not math.isclose(value / step, round(value / step), abs_tol=1e-9):
        return False
    return domain.is_valid(value)


@pytest.mark.parametrize("name", DOMAINS)
@given(u=st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 1.0, 0.5, 1.0 - 2**-53])))
@examples(60)
def test_every_decoded_value_is_valid_and_of_a_python_type(name: str, u: float) -> None:
    value = core_point(TuneSpace({"x": DOMAINS[name]}), u)["x"]
    assert allowed(DOMAINS[name], value), value
    passed_on = pickle.loads(pickle.dumps(value))  # a mixture's weights have a type of their own in the driver only
    assert type(passed_on).__module__ == "builtins"
    assert passed_on == value


@pytest.mark.parametrize("name", UPPER_VALUES)
def test_top_of_the_range_is_reached_and_not_passed(name: str) -> None:
    space = TuneSpace({"x": DOMAINS[name]})
    assert core_point(space, 1.0)["x"] == UPPER_VALUES[name]


@pytest.mark.parametrize("name", DOMAINS)
@given(seed=st.integers(0, 2**31 - 1))
@examples(25)
def test_what_ray_samples_comes_back_exactly(name: str, seed: int) -> None:
    domain = DOMAINS[name]
    value = domain.sample(random_state=np.random.default_rng(seed))
    if isinstance(value, float):
        value = float(f"{value:.9g}")  # the core keeps 12 digits of the range
    if name in {"randn", "qrandn"} and abs(value - 10.0 * (name == "randn")) > 2.5 * (1 + (name == "randn")):
        return  # outside the stated quantiles
    space = TuneSpace({"x": domain})
    core = SearchSpace(space.core)
    back = space.ray_config(core.decode(core.encode(space.core_config({"x": value}))))["x"]
    if name.startswith("mixture"):
        assert back == pytest.approx(value, abs=1e-12)
    else:
        assert back == pytest.approx(value, rel=1e-11) if isinstance(value, float) else back == value


@given(seed=st.integers(0, 10_000))
@examples(60)
def test_nested_space_decodes_to_whole_configurations_and_back(seed: int) -> None:
    space = TuneSpace(nested_space())
    core = SearchSpace(space.core)
    values = core.decode(core.sample(1, np.random.default_rng(seed))[0])
    config = space.ray_config(values)
    assert set(config) == set(nested_space())
    assert config["steps"] == 100
    assert config["layers"][1] == 7
    assert 1 <= config["layers"][0] < 4
    assert isinstance(config["layers"], list)
    assert isinstance(config["layers"][2], tuple)
    assert set(config["opt"]) == ({"name", "beta"} if config["opt"]["name"] == "adam" else {"name", "momentum"})
    again = space.core_config(config)
    assert set(again) == set(values)
    assert np.allclose(core.encode(again), core.encode(values), atol=1e-9)


def test_infinity_is_an_option_like_any_other() -> None:
    """`max_grad_norm`, say. No state could hold it by value."""
    space = TuneSpace({"norm": tune.choice([1.0, math.inf])})
    assert {core_point(space, u)["norm"] for u in (0.2, 0.8)} == {1.0, math.inf}
    assert space.ray_config(space.core_config({"norm": math.inf})) == {"norm": math.inf}
    optimizer = JoBSOptimizer(space.core, mode="min", max_t=4, seed=0)
    for trial_id in "abcd":
        optimizer.ask(trial_id)
    json.dumps(optimizer.state_dict(), allow_nan=False)


@pytest.mark.parametrize("option", [math.nan, math.inf, np.float64(math.nan), np.bool_(True)])
def test_an_option_that_was_read_anew_is_the_same_option(option: Any) -> None:
    """NaN is not NaN, but the trial that has it is of this space."""
    space = TuneSpace({"n": tune.choice([1.0, option, {"k": math.inf}])})
    chosen = space.core_config({"n": option})
    again = pickle.loads(pickle.dumps(option))
    assert space.core_config({"n": again}) == chosen != space.core_config({"n": 1.0})


def test_both_levels_of_nested_choices_are_reached() -> None:
    space = TuneSpace(nested_space())
    core = SearchSpace(space.core)
    X = core.sample(64, np.random.default_rng(0))
    seen = [space.ray_config(core.decode(x))["opt"] for x in X]
    names = {option["name"] for option in seen}
    momenta = {type(option["momentum"]) for option in seen if option["name"] == "sgd"}
    assert names == {"adam", "sgd"}
    assert momenta == {dict, type(None)}


def test_constants_are_copied_into_every_configuration() -> None:
    space = TuneSpace({"fixed": {"inner": [1, 2]}, "x": tune.uniform(0.0, 1.0)})
    first = core_point(space, 0.5)
    first["fixed"]["inner"].append(3)
    assert core_point(space, 0.5)["fixed"] == {"inner": [1, 2]}


def test_objects_that_ray_replaced_by_placeholders_stay_as_they_are() -> None:
    class Model:
        pass

    config = inject_placeholders({"m": tune.choice([Model(), "plain"])}, create_resolvers_map())
    values = {core_point(TuneSpace(config), u)["m"] for u in (0.1, 0.9)}
    assert "plain" in values
    assert any(isinstance(value, tuple) and value[0] == "__ref_ph" for value in values)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"x": tune.sample_from(lambda c: 1)}, r"parameter 'x' is a sample_from.*tune\.choice"),
        (
            inject_placeholders({"a": {"x": tune.sample_from(lambda: 1)}}, create_resolvers_map()),
            r"parameter 'a/x' is a sample_from",
        ),
        ({"x": tune.grid_search([1, 2])}, r"parameter 'x' is a grid_search; use tune\.choice"),
        ({"x": tune.choice([])}, "'x' is a choice of nothing"),
        ({"x": tune.qrandint(1, 3, 10)}, "'x' has no value: no multiple of 10"),
        ({"a/b": tune.uniform(0, 1), "a": {"b": tune.uniform(0, 1)}}, "'a/b' is defined twice"),
        (lambda trial: None, "define-by-run functions are not supported"),
        ([("x", 1)], "expected a dict of Ray Tune domains"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(space: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        TuneSpace(space)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"x": 2.0, "k": 10}, r"'x' is 2\.0; expected a number in"),
        ({"x": 0.5, "k": 15}, "'k' is 15; expected a multiple of 10"),
        ({"x": 0.5}, "'k' is missing"),
        ({"x": 0.5, "k": 10, "y": 1}, "'y' is not in the search space"),
        ({"x": 0.5, "k": 10, "c": 4}, "'c' is 4; expected the constant 3"),
        ({"x": 0.5, "k": "ten"}, "'k' is 'ten'; expected a number"),
    ],
)
def test_a_foreign_configuration_is_refused_by_name(config: dict[str, Any], message: str) -> None:
    space = TuneSpace({"x": tune.uniform(0.0, 1.0), "k": tune.qrandint(0, 100, 10), "c": 3})
    with pytest.raises(SpaceError, match=message):
        space.core_config(config)


def test_mixture_is_a_ray_domain() -> None:
    domain = mixture("code", "prose", min=0.1)
    weights = domain.sample(random_state=3)
    assert domain.is_valid(weights)
    assert domain.sample(random_state=3) == weights
    assert domain.is_valid(domain.sample(random_state=np.random.RandomState(3)))
    assert len(domain.sample(size=4, random_state=1)) == 4
    assert not domain.is_valid({"code": 0.05, "prose": 0.95})
    assert not domain.is_valid({"code": 0.5, "maths": 0.5})
    assert not domain.is_valid([0.5, 0.5])
    assert domain.domain_str == "mixture(code, prose, min=0.1)"


def test_mixture_with_impossible_bounds_is_refused_at_once() -> None:
    with pytest.raises(SpaceError, match=r"no valid weights: min sums to 1\.2"):
        mixture("a", "b", min=0.6)


def test_mixture_under_rays_own_sampling() -> None:
    space = {"mixture": mixture("a", "b"), "deep": {"m": mixture("c", "d", "e")}}
    configs = []
    rng = np.random.RandomState(0)
    for _ in range(3):
        [(_, spec)] = list(generate_variants({"config": space}, random_state=rng))
        configs.append(spec["config"])
    assert all(space["mixture"].is_valid(config["mixture"]) for config in configs)
    assert all(space["deep"]["m"].is_valid(config["deep"]["m"]) for config in configs)
    assert len({config["mixture"]["a"] for config in configs}) == 3


def test_a_mixture_of_one_domain_or_of_a_list_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"got one list; give the names one by one: mixture\(\*names\)"):
        mixture(["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="has one domain, whose weight is always 1; name at least two"):
        mixture("a")
