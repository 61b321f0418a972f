"""SearchSpace: exact round trips, valid samples, conditional parameters, and spaces that are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from core_runs import as_json
from core_spaces import mixtures, spaces
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.optimize import minimize

from jobs_ray.space import Categorical, Integer, Mixture, Real, SearchSpace, SpaceError
from jobs_ray.space.mixture import project_to_simplex

FEW = examples(50)


def round_trip(parameter: Any, value: Any) -> Any:
    space = SearchSpace({"p": parameter})
    return space.decode(space.encode({"p": value}))["p"]


def rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")


# -- encode and decode ------------------------------------------------------------------------------------------------


@FEW
@given(
    lower=st.floats(-1e6, 1e6).map(lambda v: round(rounded(v, 12), 9)),  # beside a bound of 1e-300 there is no exact 0
    width=st.floats(1e-3, 1e6),
    share=st.floats(0.0, 1.0),
)
def test_a_real_comes_back_exactly(lower: float, width: float, share: float) -> None:
    upper = lower + width
    digits = 11 - math.floor(math.log10(max(abs(lower), abs(upper))))
    value = min(max(round(lower + share * width, digits), lower), upper)
    assert round_trip(Real(lower, upper), value) == value


@FEW
@given(lower=st.floats(1e-9, 1.0), factor=st.floats(1.001, 1e12), share=st.floats(0.0, 1.0))
def test_a_logarithmic_real_comes_back_exactly(lower: float, factor: float, share: float) -> None:
    lower, upper = rounded(lower, 12), rounded(lower * factor, 12)  # as people write them
    value = min(max(rounded(lower * factor**share, 12), lower), upper)
    assert round_trip(Real(lower, upper, log=True), value) == value


@FEW
@given(lower=st.floats(1e-9, 1e3), factor=st.floats(1.001, 1e6), log=st.booleans())
def test_the_bounds_of_a_real_come_back_with_all_their_digits(lower: float, factor: float, log: bool) -> None:
    upper = lower * factor
    assert round_trip(Real(lower, upper, log=log), lower) == lower
    assert round_trip(Real(lower, upper, log=log), upper) == upper


@FEW
@given(lower=st.integers(-1000, 1000), width=st.integers(1, 10**9), log=st.booleans(), data=st.data())
def test_an_integer_comes_back(lower: int, width: int, log: bool, data: st.DataObject) -> None:
    lower = abs(lower) + 1 if log else lower
    value = data.draw(st.integers(lower, lower + width))
    back = round_trip(Integer(lower, lower + width, log=log), value)
    assert back == value
    assert type(back) is int


@pytest.mark.parametrize("log", [False, True])
def test_every_small_integer_has_a_bin_of_its_own(log: bool) -> None:
    space = SearchSpace({"n": Integer(1, 9, log=log)})
    decoded = [space.decode(np.array([x]))["n"] for x in np.linspace(0.0, 1.0, 400)]
    assert decoded == sorted(decoded)
    assert set(decoded) == set(range(1, 10))
    if not log:
        assert max(decoded.count(v) for v in range(1, 10)) <= min(decoded.count(v) for v in range(1, 10)) + 2


def test_a_logarithmic_integer_is_uniform_in_its_logarithm() -> None:
    space = SearchSpace({"n": Integer(1, 1024, log=True)})
    values = np.array([space.decode(x)["n"] for x in space.sample(1024, np.random.default_rng(0))])
    assert 0.4 < np.mean(values <= 32) < 0.6


def test_choices_that_are_equal_but_of_other_types_stay_apart() -> None:
    choices = [True, 1, "1", 0.5, None, False, 0]
    for choice in choices:
        back = round_trip(Categorical(choices), choice)
        assert back == choice
        assert type(back) is type(choice)


@FEW
@given(parameter=mixtures(), seed=st.integers(0, 1000))
def test_a_mixture_comes_back_and_stays_on_its_simplex(parameter: Mixture, seed: int) -> None:
    space = SearchSpace({"p": parameter})
    for row in space.sample(8, np.random.default_rng(seed)):
        weights = space.decode(row)["p"]
        assert list(weights) == list(parameter.names)
        values = np.array(list(weights.values()))
        assert abs(math.fsum(values) - 1.0) <= 1e-9
        assert np.all(values >= parameter.lower)
        assert np.all(values <= parameter.upper)
        assert round_trip(parameter, weights) == pytest.approx(weights, abs=1e-12)


@FEW
@given(parameter=mixtures(), seed=st.integers(0, 1000))
def test_traces_are_dropped_within_the_bounds(parameter: Mixture, seed: int) -> None:
    space = SearchSpace({"p": parameter, "x": Real(0.0, 1.0)})
    rows = space.sample(8, np.random.default_rng(seed), sparsity=0.1)
    before = rows.copy()
    cleaned = space.without_traces(rows)
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(space.without_traces(cleaned), cleaned)
    for row, clean in zip(rows, cleaned, strict=True):
        weights = clean[space.blocks[0].columns]
        assert abs(math.fsum(weights) - 1.0) <= 1e-9
        assert np.all(weights >= parameter.lower)
        assert np.all(weights <= parameter.upper)
        assert clean[-1] == row[-1]
        assert np.abs(clean - row).max() < 0.01


def test_no_trace_comes_of_the_bounds() -> None:
    """Naive: traces first, the bounds after them, whose projection leaves new ones."""
    names = ["a", "b", "c", "d", "e", "f"]
    space = SearchSpace({"m": Mixture(names, max=0.5, min={"b": 0.1})})
    rng = np.random.default_rng(0)
    X = rng.dirichlet([0.1] * 6, 200)
    X[:, 0] += 0.3
    cleaned = space.without_traces(X)
    traced = ((cleaned > 0.0) & (cleaned < 1e-3)).any(axis=1)
    assert traced.sum() < 0.05 * len(X)
    assert np.all(cleaned[traced].max(axis=1) > 0.4995)  # without it the largest would be above its bound
    np.testing.assert_array_equal(space.snap(cleaned), cleaned)


def test_a_trace_is_kept_where_a_minimum_or_a_maximum_needs_it() -> None:
    free, bound, full = (
        SearchSpace({"m": parameter}).without_traces(np.array([[2e-12, 4e-4, 1.0 - 4e-4 - 2e-12]]))[0].tolist()
        for parameter in (
            Mixture(["a", "b", "c"]),
            Mixture(["a", "b", "c"], min={"b": 2e-4}),
            Mixture(["a", "b", "c"], max={"c": 1.0 - 4e-4 - 2e-12}),
        )
    )
    assert free == [0.0, 0.0, 1.0]
    assert bound[0] == 0.0
    assert bound[1] == pytest.approx(4e-4)
    assert full == [2e-12, 4e-4, 1.0 - 4e-4 - 2e-12]


def test_weights_given_with_rounded_digits_are_accepted_and_brought_to_the_simplex() -> None:
    back = round_trip(Mixture(["a", "b", "c"]), {"a": 0.3333333, "b": 0.3333333, "c": 0.3333333})
    assert sum(back.values()) == pytest.approx(1.0, abs=1e-12)


@FEW
@given(space=spaces(), seed=st.integers(0, 1000))
def test_samples_are_valid_plain_and_stable(space: dict[str, Any], seed: int) -> None:
    """Decoding a sample, encoding it and decoding again changes nothing; sampling is a function of the generator."""
    searched = SearchSpace(space)
    X = searched.sample(5, np.random.default_rng(seed))
    assert X.shape == (5, searched.dim)
    assert np.all((X >= 0.0) & (X <= 1.0))
    assert np.array_equal(X, searched.sample(5, np.random.default_rng(seed)))
    np.testing.assert_allclose(searched.snap(X), X, atol=1e-12)
    for row in X:
        config = searched.decode(row)
        assert as_json(config) == config
        x = searched.encode(config)
        assert np.array_equal(searched.encode(searched.decode(x)), x)
        assert searched.decode(x) == config
        rebuilt = searched.build(searched.values(config))
        assert rebuilt == config


def test_arbitrary_points_are_snapped_into_the_space() -> None:
    space = SearchSpace({"m": Mixture(["a", "b", "c"], min=0.1), "n": Integer(1, 4), "c": Categorical("xyz")})
    X = space.snap(np.random.default_rng(0).random((50, space.dim)))
    np.testing.assert_allclose(X[:, :3].sum(axis=1), 1.0, atol=1e-12)
    assert X[:, :3].min() >= 0.1
    assert len(np.unique(X[:, 3])) == 4
    assert len(np.unique(X[:, 4])) == 3


# -- mixtures ---------------------------------------------------------------------------------------------------------


@FEW
@given(parameter=mixtures(), point=st.lists(st.floats(-1.0, 2.0), min_size=5, max_size=5))
def test_the_projection_is_the_nearest_point_of_the_bounded_simplex(parameter: Mixture, point: list[float]) -> None:
    """Optimality: no move of weight from one domain to another, within the bounds, comes nearer."""
    x = np.array([point[: parameter.width]])
    w = project_to_simplex(x, parameter.lower, parameter.upper)[0]
    assert abs(w.sum() - 1.0) <= 1e-9
    pull = x[0] - w  # the gradient, up to its sign
    gives, takes = w > parameter.lower + 1e-9, w < parameter.upper - 1e-9
    if gives.any() and takes.any():
        assert pull[takes].max() <= pull[gives].min() + 1e-6


def test_the_projection_agrees_with_a_general_solver() -> None:
    lower, upper, x = np.array([0.1, 0.0, 0.2]), np.array([0.5, 0.6, 0.9]), np.array([0.9, -0.2, 0.4])
    solved = minimize(
        lambda w: float(((w - x) ** 2).sum()),
        np.full(3, 1 / 3),
        bounds=list(zip(lower, upper, strict=True)),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0},
    )
    np.testing.assert_allclose(project_to_simplex(x[None], lower, upper)[0], solved.x, atol=1e-6)


@pytest.mark.parametrize("concentration", [1e-5, 0.001, 0.2, 1.0, 5.0])
def test_weights_follow_the_dirichlet_of_the_concentration(concentration: float) -> None:
    """Mean 1/k and variance (k - 1) / (k^2 (k c + 1)) of a symmetric Dirichlet."""
    k = 4
    space = SearchSpace({"m": Mixture(list("abcd"), concentration=concentration)})
    W = space.sample(2048, np.random.default_rng(0))
    np.testing.assert_allclose(W.mean(axis=0), 1 / k, atol=0.02)
    np.testing.assert_allclose(W.var(axis=0), (k - 1) / (k**2 * (k * concentration + 1)), rtol=0.15)


def test_samples_fill_the_box() -> None:
    """Every one of 16 equal intervals of every number holds exactly one of 16 Sobol points."""
    space = SearchSpace({"a": Real(0, 1), "b": Real(1e-4, 1, log=True), "c": Real(-3, 3)})
    X = space.sample(16, np.random.default_rng(3))
    for column in X.T:
        assert sorted(np.floor(column * 16).astype(int)) == list(range(16))


def test_a_mixture_with_one_valid_point_and_one_of_a_single_domain() -> None:
    space = SearchSpace({"fixed": Mixture(["a", "b"], min={"a": 0.25, "b": 0.75}), "one": Mixture(["z"])})
    for row in space.sample(4, np.random.default_rng(0)):
        assert space.decode(row) == {"fixed": {"a": 0.25, "b": 0.75}, "one": {"z": 1.0}}


# -- conditional parameters -------------------------------------------------------------------------------------------

CONDITIONAL = {
    "method": Categorical(["full", "lora"]),
    "lora": {"r": Integer(1, 64, log=True, when={"method": "lora"}), "drop": Real(0, 0.5, when={"method": ("lora",)})},
    "mix": Mixture(["a", "b"], when={"method": "lora"}),
    "lr": Real(1e-5, 1e-2, log=True),
}


def test_inactive_parameters_are_absent_and_imputed() -> None:
    space = SearchSpace(CONDITIONAL)
    full = space.decode(space.encode({"method": "full", "lr": 1e-3}))
    assert full["method"] == "full"
    assert "mix" not in full
    assert not full.get("lora")
    lora = {"method": "lora", "lora": {"r": 8, "drop": 0.25}, "mix": {"a": 0.5, "b": 0.5}, "lr": 1e-3}
    assert space.decode(space.encode(lora)) == lora


def test_two_configurations_that_train_the_same_model_are_one_point() -> None:
    """Otherwise the columns of an inactive parameter would be noise to the surrogate."""
    space = SearchSpace(CONDITIONAL)
    X = np.random.default_rng(0).random((40, space.dim))
    snapped = space.snap(X)
    full = ~space.active(snapped)[:, [b.name for b in space.blocks].index("mix")]
    assert 5 < full.sum() < 35
    names = [block.name for block in space.blocks]
    kept = [space.blocks[names.index(name)].columns.start for name in ("method", "lr")]
    others = [c for c in range(space.dim) if c not in kept]
    assert len(np.unique(snapped[full][:, others], axis=0)) == 1
    ignored = {"method": "full", "lr": 1e-3, "lora": {"r": 64, "drop": 0.5}, "mix": {"a": 1.0, "b": 0.0}}
    assert np.array_equal(space.encode(ignored), space.encode({"method": "full", "lr": 1e-3}))


def test_a_grandchild_is_active_only_with_its_parent() -> None:
    space = SearchSpace(
        {
            "deep": Real(0, 1, when={"kind": "b"}),
            "kind": Categorical(["a", "b"], when={"method": "lora"}),
            "method": Categorical(["full", "lora"]),
        }
    )
    assert space.decode(space.encode({"method": "full", "kind": "b", "deep": 0.5})) == {"method": "full"}
    config = {"method": "lora", "kind": "b", "deep": 0.5}
    assert space.decode(space.encode(config)) == config


# -- features ---------------------------------------------------------------------------------------------------------


def test_features_are_standardised_and_see_no_order_among_choices() -> None:
    space = SearchSpace({"c": Categorical(["x", "y", "z"]), "m": Mixture(list("abcd")), "r": Real(1e-5, 1, log=True)})
    F = space.features(space.sample(1024, np.random.default_rng(1)))
    np.testing.assert_allclose(F.mean(axis=0), 0.0, atol=0.1)
    np.testing.assert_allclose(F[:, 3:].std(axis=0), 1.0, atol=0.1)
    assert F[:, :3].var(axis=0).sum() == pytest.approx(1.0, abs=0.1)
    at = {c: space.features(space.encode({"c": c, "m": dict.fromkeys("abcd", 0.25), "r": 0.1})[None])[0] for c in "xyz"}
    distances = [np.linalg.norm(at[a] - at[b]) for a, b in ("xy", "yz", "xz")]
    assert distances[0] == pytest.approx(distances[1]) == pytest.approx(distances[2])


def test_distance_of_mixtures_tells_none_from_a_little() -> None:
    """Square roots of weights: from 0 to .02 is farther than from .5 to .52."""
    space = SearchSpace({"m": Mixture(["a", "b"])})

    def feature(a: float) -> Any:
        return space.features(space.encode({"m": {"a": a, "b": 1 - a}})[None])[0]

    assert np.linalg.norm(feature(0.02) - feature(0.0)) > 3 * np.linalg.norm(feature(0.52) - feature(0.5))


# -- what is refused --------------------------------------------------------------------------------------------------

BAD_SPACES: dict[str, dict[str, Any]] = {
    "lower above upper": {"bad": Real(2, 1)},
    "lower equals upper": {"bad": Real(1, 1)},
    "integer lower equals upper": {"bad": Integer(3, 3)},
    "log of zero": {"bad": Real(0, 1, log=True)},
    "log of a negative integer": {"bad": Integer(-1, 5, log=True)},
    "nan": {"bad": Real(0, math.nan)},
    "infinite": {"bad": Real(0, math.inf)},
    "infinite integer": {"bad": Integer(0, math.inf)},  # type: ignore[arg-type]
    "nan integer": {"bad": Integer(0, math.nan)},  # type: ignore[arg-type]
    "text as a bound": {"bad": Real("0", 1)},  # type: ignore[arg-type]
    "range that overflows": {"bad": Real(-1.5e308, 1.5e308)},
    "fractional integer": {"bad": Integer(0.5, 3)},  # type: ignore[arg-type]
    "no choices": {"bad": Categorical([])},
    "duplicate choices": {"bad": Categorical(["a", "a"])},
    "choice that is no scalar": {"bad": Categorical([[1]])},  # type: ignore[list-item]
    "empty mixture": {"bad": Mixture([])},
    "duplicate domains": {"bad": Mixture(["a", "a"])},
    "domain that is no string": {"bad": Mixture([1, 2])},  # type: ignore[list-item]
    "min sums above 1": {"bad": Mixture(["a", "b"], min=0.6)},
    "max sums below 1": {"bad": Mixture(["a", "b"], max=0.4)},
    "min above max": {"bad": Mixture(["a", "b"], min={"a": 0.5}, max={"a": 0.4})},
    "negative min": {"bad": Mixture(["a", "b"], min=-0.1)},
    "unknown domain": {"bad": Mixture(["a", "b"], max={"c": 0.4})},
    "concentration": {"bad": Mixture(["a", "b"], concentration=0.0)},
    "grid": {"bad": {"grid_search": [1, 2]}},
    "in a list": {"bad": [Real(0, 1)]},
    "in a dict in a list": {"bad": [{"lr": Real(0, 1)}]},
    "nan as a choice": {"bad": Categorical([math.nan])},
    "infinity as a choice": {"bad": Categorical([1.0, math.inf])},
    "one logarithm": {"bad": Real(1e10, 1e10 + 4e-6, log=True)},
    "a list of bounds": {"bad": Mixture(["a", "b"], min=[0.1, 0.2])},  # type: ignore[arg-type]
    "condition on nothing": {"bad": Real(0, 1, when={"other": 1})},
    "condition on a number": {"x": Real(0, 1), "bad": Real(0, 1, when={"x": 1})},
    "condition on an unknown value": {"x": Categorical(["a"]), "bad": Real(0, 1, when={"x": "b"})},
    "condition on itself": {"bad": Categorical(["a", "b"], when={"bad": "a"})},
    "defined twice": {"bad": Real(0, 1), "nest": {"x": Real(0, 1)}, "nest/x": Real(0, 1)},
}


@pytest.mark.parametrize("what", BAD_SPACES)
def test_a_bad_space_is_refused_with_a_sentence_that_names_the_parameter(what: str) -> None:
    with pytest.raises(SpaceError) as refused:
        SearchSpace(BAD_SPACES[what])
    assert ("nest/x" if what == "defined twice" else "bad") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_space_without_parameters_is_refused() -> None:
    with pytest.raises(SpaceError, match="no parameters"):
        SearchSpace({"epochs": 3, "nested": {}})


def test_a_circle_of_conditions_is_refused() -> None:
    circle = {"p": Categorical("ab", when={"q": "a"}), "q": Categorical("ab", when={"p": "a"})}
    with pytest.raises(SpaceError, match=r"'[pq]'.*depends on itself"):
        SearchSpace(circle)


BAD_CONFIGS: dict[str, dict[str, Any]] = {
    "missing": {"m": {"a": 0.5, "b": 0.5}, "n": 1, "c": "x"},
    "above": {"m": {"a": 0.5, "b": 0.5}, "n": 1, "c": "x", "r": 1.5},
    "nan": {"m": {"a": 0.5, "b": 0.5}, "n": 1, "c": "x", "r": math.nan},
    "not a number": {"m": {"a": 0.5, "b": 0.5}, "n": 1, "c": "x", "r": "high"},
    "fraction": {"m": {"a": 0.5, "b": 0.5}, "n": 1.5, "c": "x", "r": 0.5},
    "infinite integer": {"m": {"a": 0.5, "b": 0.5}, "n": math.inf, "c": "x", "r": 0.5},
    "foreign choice": {"m": {"a": 0.5, "b": 0.5}, "n": 1, "c": "y", "r": 0.5},
    "sum": {"m": {"a": 0.5, "b": 0.6}, "n": 1, "c": "x", "r": 0.5},
    "foreign domain": {"m": {"a": 0.5, "z": 0.5}, "n": 1, "c": "x", "r": 0.5},
    "weight above its max": {"m": {"a": 0.9, "b": 0.1}, "n": 1, "c": "x", "r": 0.5},
    "weights are a list": {"m": [0.5, 0.5], "n": 1, "c": "x", "r": 0.5},
}
WRONG = {"missing": "r", "above": "r", "nan": "r", "not a number": "r", "fraction": "n", "infinite integer": "n"} | {
    "foreign choice": "c", "sum": "m", "foreign domain": "m", "weight above its max": "m", "weights are a list": "m",
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_bad_configuration_is_refused_with_the_name_of_the_parameter(what: str) -> None:
    space = SearchSpace(
        {"m": Mixture(["a", "b"], max=0.8), "n": Integer(0, 2), "c": Categorical(["x"]), "r": Real(0, 1)}
    )
    with pytest.raises(SpaceError, match=f"'{WRONG[what]}'"):
        space.encode(BAD_CONFIGS[what])


# -- nesting and constants --------------------------------------------------------------------------------------------


def test_constants_are_kept_and_belong_to_one_configuration_only() -> None:
    space = SearchSpace({"a": {"x": Real(0, 1), "tags": ["t"], "none": None}, "empty": {}})
    first, second = space.decode(np.array([0.5])), space.decode(np.array([0.5]))
    assert first == {"a": {"x": 0.5, "tags": ["t"], "none": None}, "empty": {}}
    first["a"]["tags"].append("changed")
    assert second["a"]["tags"] == ["t"]
    assert space.decode(np.array([0.5]))["a"]["tags"] == ["t"]


def test_a_key_that_is_no_string_is_refused() -> None:
    with pytest.raises(SpaceError, match="layers"):
        SearchSpace({"layers": {0: Real(0, 1)}})


def test_numpy_values_are_taken_and_python_ones_given_back() -> None:
    space = SearchSpace({"n": Integer(0, 5), "r": Real(0, 1), "c": Categorical([1, 2])})
    config = {"n": np.int64(3), "r": np.float32(0.5), "c": np.int64(2)}
    back = space.decode(space.encode(config))
    assert back == {"n": 3, "r": 0.5, "c": 2}
    assert [type(v) for v in back.values()] == [int, float, int]


def test_numbers_reach_the_trainable_as_numbers() -> None:
    """As written in a YAML file, or as whole floats."""
    space = SearchSpace({"lr": Real(1e-5, 1e-1, log=True), "n": Integer(0, 10), "m": Integer(0, 10)})
    values = space.values({"lr": "1e-4", "n": 8.0, "m": "3"})
    assert values == {"lr": 1e-4, "n": 8, "m": 3}
    assert [type(v) for v in values.values()] == [float, int, int]


def test_a_choice_may_be_a_huge_whole_number() -> None:
    space = SearchSpace({"seed": Categorical([10**400, 1])})
    assert space.decode(space.encode({"seed": 10**400})) == {"seed": 10**400}


def test_bounds_may_be_of_numpy_or_text() -> None:
    assert SearchSpace({"m": Mixture(["a", "b"], min="0.25")}).blocks  # type: ignore[arg-type]
    space = SearchSpace({"m": Mixture(["a", "b"], min=np.float32(0.25), max={"a": np.float32(0.5)})})  # type: ignore[arg-type]
    weights = space.sample(64, np.random.default_rng(0))
    assert weights.min() >= 0.25
    assert weights[:, 0].max() <= 0.5


def test_the_largest_integers_are_in_their_range() -> None:
    space = SearchSpace({"seed": Integer(0, 2**63 - 1)})
    for value in (0, 2**63 - 1):
        assert space.decode(space.encode({"seed": value})) == {"seed": value}


def test_what_the_caller_changes_afterwards_changes_no_space() -> None:
    bounds, layers = {"a": 0.1}, [1, {"k": 2}]
    space = SearchSpace({"m": Mixture(["a", "b"], min=bounds), "layers": layers})
    before = space.decode(np.array([0.1, 0.9]))
    bounds["a"] = 0.95
    layers.append(3)
    layers[1]["k"] = 4  # type: ignore[index]
    assert space.decode(np.array([0.1, 0.9])) == before


@pytest.mark.parametrize(
    ("parameter", "weights"),
    [
        (Mixture(["a", "b"], min={"a": 0.3, "b": 0.7}), {"a": 0.3, "b": 0.7}),
        (Mixture(["a", "b", "c"], max={"a": 0.2, "b": 0.7, "c": 0.1}), {"a": 0.2, "b": 0.7, "c": 0.1}),
        (Mixture(["a", "b"], min={"a": 0.3}, max={"a": 0.3}), {"a": 0.3, "b": 0.7}),
        (Mixture(["a", "b", "c"], min={"a": 0.5}, max={"b": 0.3, "c": 0.2, "a": 0.5}), {"a": 0.5, "b": 0.3, "c": 0.2}),
    ],
)
def test_a_mixture_without_a_choice_is_one_point(parameter: Mixture, weights: dict[str, float]) -> None:
    space = SearchSpace({"m": parameter, "c": Categorical("ab")})
    rows = {tuple(x) for x in space.sample(64, np.random.default_rng(0))[:, : parameter.width].tolist()}
    assert len(rows) == 1
    assert space.grid is not None
    assert len(space.grid) == 2
    assert space.decode(space.grid[0])["m"] == weights


# -- small finite spaces ----------------------------------------------------------------------------------------------


@FEW
@given(space=spaces())
def test_the_grid_is_every_configuration_once(space: dict[str, Any]) -> None:
    it = SearchSpace(space)
    grid = it.grid
    if grid is None:
        assert (
            any(isinstance(b.parameter, Real | Mixture) for b in it.blocks) or math.prod(map(count, it.blocks)) > 1024
        )
        return
    rows = {tuple(x) for x in grid.tolist()}
    assert len(rows) == len(grid)
    assert {tuple(it.encode(it.decode(x)).tolist()) for x in it.sample(512, np.random.default_rng(0))} <= rows
    assert {tuple(it.encode(it.decode(x)).tolist()) for x in grid} == rows


def count(block: Any) -> float:
    parameter = block.parameter
    if isinstance(parameter, Real | Mixture):
        return 1 if isinstance(parameter, Mixture) and parameter.fixed is not None else math.inf
    return len(parameter.choices) if isinstance(parameter, Categorical) else parameter.upper - parameter.lower + 1


def test_an_inactive_parameter_does_not_multiply_the_grid() -> None:
    space = {"method": Categorical(["full", "lora"]), "r": Integer(1, 4, log=True, when={"method": "lora"})}
    grid = SearchSpace(space).grid
    assert grid is not None
    assert len(grid) == 1 + 4


@pytest.mark.parametrize("parameter", [Real(0.0, 1.0), Mixture(["a", "b"]), Integer(0, 10**12), Integer(0, 1024)])
def test_what_is_infinite_or_large_has_no_grid(parameter: Any) -> None:
    assert SearchSpace({"c": Categorical("ab"), "p": parameter}).grid is None
