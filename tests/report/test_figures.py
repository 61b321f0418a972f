"""What the figures of the search space say, on spaces as users write them; no Ray runs."""

from __future__ import annotations

import dataclasses
import json
import math
from html import unescape
from typing import Any

import numpy as np
import pytest
from ray import tune
from report_rows import drawn, made, predicted

from jobs_ray import mixture
from jobs_ray.report import figures_space, figures_trials, sensitivity
from jobs_ray.report.figure_style import SHARES, at, cut, label, labels
from jobs_ray.report.figures_columns import Column, columns, most_important
from jobs_ray.report.sensitivity import Effect, Interaction
from jobs_ray.space import Categorical, Integer, Mixture, Real, SearchSpace

LLAMA, MISTRAL = "meta-llama/Meta-Llama-3-8B-Instruct-v0.3-hf", "mistralai/Mistral-Nemo-8B-Instruct-v0.3-hf"


def panels(figure: Any) -> dict[str, list[Any]]:
    """x of all points, by the title of the panel; in the order of the panels."""
    titles = {axis.plotly_name.replace("xaxis", "x"): axis.title.text for axis in figure.select_xaxes()}
    found: dict[str, list[Any]] = {}
    for trace in figure.data:
        found.setdefault(titles[trace.xaxis or "x"], []).extend(trace.x)
    return found


# ---- importance


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("parameter", [Real(0, 1), Categorical([False, True])], ids=["real", "boolean"])
def test_parts_of_a_sum_are_equally_important(k: int, parameter: Any) -> None:
    space = SearchSpace({f"x{i}": parameter for i in range(k)})
    found = sensitivity.effects(space, lambda X: np.asarray(1e5 + X.sum(axis=1)))
    assert [effect.total for effect in found] == pytest.approx([1 / k] * k, abs=0.03)
    assert [effect.alone for effect in found] == pytest.approx([1 / k] * k, abs=0.05)


def test_what_is_everything_is_all_of_the_importance() -> None:
    space = SearchSpace({"flag": Categorical([False, True]), "x": Real(0, 1), "n": Integer(1, 9)})
    found = {effect.name: effect.total for effect in sensitivity.effects(space, lambda X: X[:, 0])}
    assert found == pytest.approx({"flag": 1.0, "x": 0.0, "n": 0.0}, abs=0.03)


def test_importance_of_a_product_and_of_a_mixture() -> None:
    space = SearchSpace({"x": Real(0, 1), "y": Real(0, 1), "m": Mixture(["a", "b", "c"])})
    product = {e.name: e for e in sensitivity.effects(space, lambda X: (X[:, 0] - 0.5) * (X[:, 1] - 0.5))}
    assert product["x"].total == pytest.approx(1.0, abs=0.05)  # but neither does anything alone
    assert product["x"].alone == pytest.approx(0.0, abs=0.05)
    of_a = {e.name: e.total for e in sensitivity.effects(space, lambda X: X[:, 2])}
    assert of_a == pytest.approx({"m": 1.0, "x": 0.0, "y": 0.0}, abs=0.03)


def test_a_choice_that_dominates_and_a_parameter_of_one_option() -> None:
    """The value is 1 under option a, and x (uniform) under b: x has 1/2 * 1/12 of the variance 1/4 * (1/4 + 1/6)."""
    space = SearchSpace({"c": Categorical(["a", "b"]), "x": Real(0, 1, when={"c": "b"})})
    surface = lambda X: np.where(X[:, 0] < 0.5, 1.0, X[:, 1])  # noqa: E731
    found = sensitivity.effects(space, surface)
    variance = (1 + 1 / 3) / 2 - 0.75**2
    assert [effect.name for effect in found] == ["c", "x"]
    assert found[1].total == pytest.approx(1 / 24 / variance, abs=0.03)
    assert found[0].total == pytest.approx((1 / 12 + 1 / 4) / 4 / variance, abs=0.05)


def test_of_a_maximised_metric_the_best_is_the_largest_and_uncertain_values_count_less() -> None:
    """Naive: the model goes through what is hardly known, too."""
    space = {"m": mixture("a", "b"), "lr": tune.uniform(0, 1), "z": tune.uniform(0, 1)}
    report = made(space, lambda c: -((c["lr"] - 0.2 - 0.6 * c["m"]["a"]) ** 2), n=40, mode="max")
    surface = sensitivity.fit(report)
    assert surface is not None
    found = sensitivity.strongest_interaction(report, surface)
    assert found is not None
    assert found.parameter == "lr"
    middle = len(found.weights) // 2
    weight = found.weights[middle] if found.domain == "a" else 1 - found.weights[middle]
    assert found.values[found.best[middle]] == pytest.approx(0.2 + 0.6 * weight, abs=0.11)
    assert sensitivity._mismatch(report, found) > 0.01
    wild = dataclasses.replace(report.trials[0], trial_id="wild", final=None, predicted=predicted(50.0, 1e4))
    again = sensitivity.fit(dataclasses.replace(report, trials=(*report.trials, wild)))
    assert again is not None
    assert float(again(np.array([wild.x]))[0]) < 10


def test_of_a_sum_nothing_is_lost_by_tuning_elsewhere() -> None:
    report = made({"m": mixture("a", "b"), "u": tune.uniform(0, 1)}, lambda c: c["u"], n=8, mode="max")
    grid = np.linspace(0, 1, 21)
    best = [20] * 21
    found = Interaction("m", "a", "u", grid, list(grid), np.add.outer(grid, grid), best, report.trials[0])
    assert sensitivity._mismatch(report, found) == 0


# ---- spaces with parts that not every configuration has


def test_conditional_spaces_lists_and_keys_with_slashes_are_drawn() -> None:
    adam = {"name": "adam", "lr": tune.loguniform(1e-5, 1e-2)}
    report = made(
        {
            "opt": tune.choice([adam, {"name": "sgd", "momentum": tune.uniform(0, 1)}]),
            "lrs": [tune.loguniform(1e-5, 1e-2), tune.uniform(0, 1)],
            "data": {"a/b": tune.uniform(2, 3)},
        },
        lambda c: float(c["lrs"][1] + (c["opt"]["name"] == "adam")),
    )
    found = drawn(report)
    shown = panels(found["parameters"].figure)
    assert set(shown) == {"opt", "opt[0]/lr", "opt[1]/momentum", "lrs/0", "lrs/1", "data/a/b"}
    assert sorted(shown["lrs/0"]) == sorted(row.config["lrs"][0] for row in report.trials)
    mine = [row.config["opt"]["lr"] for row in report.trials if row.config["opt"]["name"] == "adam"]
    assert sorted(shown["opt[0]/lr"]) == sorted(mine)
    assert set(shown["opt"]) == {"option 0", "option 1"}  # naive: one category a trial
    axis = {axis.label: axis for axis in found["parallel"].figure.data[0].dimensions}["opt[0]/lr"]
    below = [x for x, row in zip(axis["values"], report.best_first(), strict=True) if "lr" not in row.config["opt"]]
    assert set(below) == {axis.tickvals[0]}
    assert axis.ticktext[0] == "(absent)"
    assert axis.range[0] == axis.tickvals[0] < min(set(axis["values"]) - set(below))


def test_a_mixture_inside_a_choice() -> None:
    mix = {"kind": "mix", "w": mixture("a", "b")}
    report = made(
        {"data": tune.choice([mix, {"kind": "one"}]), "lr": tune.loguniform(1e-5, 1e-2)},
        lambda c: (c["data"]["w"]["a"] - 0.2 - 0.6 * c["lr"] / 1e-2) ** 2 if "w" in c["data"] else 0.7,
    )
    weights = sorted(round(row.config["data"]["w"]["a"], 3) for row in report.trials if "w" in row.config["data"])
    found = drawn(report)
    shown = panels(found["parameters"].figure)
    assert sorted(shown["data[0]/w/a"]) == weights
    assert set(map(unescape, shown["data"])) == {"option 0", "{'kind': 'one'}"}
    dots = next(trace for trace in found["interaction"].figure.data if trace.name == "trials")
    assert len(dots.x) == len(weights)
    assert set(dots.x) <= {round(w, 3) for weight in weights for w in (weight, 1 - weight)}
    assert sorted(found["mixtures"].figure.data[0].y) == weights


def test_nothing_hangs_together_with_a_mixture_that_the_best_configuration_lacks() -> None:
    mix = {"kind": "mix", "w": mixture("a", "b")}
    space = {"data": tune.choice([mix, {"kind": "one"}]), "lr": tune.loguniform(1e-5, 1e-2)}
    report = made(space, lambda c: c["data"]["w"]["a"] if "w" in c["data"] else c["lr"] - 1)
    assert "interaction" not in drawn(report)


@pytest.mark.parametrize(("low", "high"), [(1000, 1010), (0.9, 1.0), (1e-3, 1.02e-3), (5e-5, 5.01e-5)])
def test_a_narrow_logarithmic_axis_reaches_its_ends(low: float, high: float) -> None:
    """Naive: it ends at the last tick of a text of its own, and hides what lies beyond."""
    values = (float(low), float(high), (low * high) ** 0.5)
    axis = figures_space._axis(Column("lr", "lr", values, log=True))
    assert axis["range"] == [min(axis["values"]), max(axis["values"])]
    assert len(set(axis["ticktext"])) == len(axis["ticktext"])
    assert axis["tickvals"][0] == min(axis["values"])


def test_a_quantised_parameter_is_in_the_users_numbers_everywhere() -> None:
    report = made(
        {"r": tune.qrandint(8, 128, 8), "m": mixture("a", "b")}, lambda c: (c["m"]["a"] - c["r"] / 128) ** 2, n=24
    )
    heat, line, dots = drawn(report)["interaction"].figure.data
    assert set(heat.y) == set(range(8, 129, 8))
    assert set(line.y) <= set(heat.y)
    assert set(dots.y) == {row.config["r"] for row in report.trials}


def test_where_a_configuration_holds_a_parameter() -> None:
    config = {"a": {"b/c": [1, {"d": 2}]}, "a/x": 3, "opt": {"lr": 4}, "k[0]": 5}
    found = [at(config, path) for path in ("a/b/c/0", "a/b/c/1/d", "a/x", "opt[1]/lr", "opt[0][2]/lr", "k[0]")]
    assert found == [1, 2, 3, 4, 4, 5]
    assert [at(config, path) for path in ("a/y", "opt/lr/x", "a/b/c/7", "op")] == [None] * 4


# ---- choices and their names


def test_who_chose_none_is_drawn() -> None:
    report = made(
        {"sched": tune.choice([None, "cosine"]), "drop": tune.choice([None, 0.1]), "x": tune.uniform(0, 1)},
        lambda c: c["x"] + (c["sched"] is not None),
    )
    found = drawn(report)
    figure = found["parameters"].figure
    shown = panels(figure)
    assert {name: len(points) for name, points in shown.items()} == dict.fromkeys(shown, len(report.trials))
    assert next(iter(shown)) == "sched"
    assert shown["sched"].count("None") == sum(row.config["sched"] is None for row in report.trials)
    assert set(shown["drop"]) == {"None", "0.1"}
    assert sorted(trace.name for trace in figure.data if trace.showlegend) == ["learn", "search"]
    axis = {axis.label: axis for axis in found["parallel"].figure.data[0].dimensions}["drop"]
    assert axis.ticktext == ("None", "0.1")
    assert set(axis["values"]) == {0, 1}


def test_a_group_that_is_not_in_the_first_panel_is_in_the_legend() -> None:
    report = made({"x": tune.uniform(0, 1)}, lambda c: c["x"], n=8)
    first = Column("first", "first", tuple(1.0 if i < 4 else None for i in range(8)))
    second = Column("second", "second", (1.0,) * 8)
    figure = figures_space.against_parameters(report, report.trials, [first, second])
    assert sorted(trace.name for trace in figure.data if trace.showlegend) == ["learn", "search"]


def test_names_that_end_alike_stay_different() -> None:
    assert labels([LLAMA, MISTRAL], 20) == ["meta-lla...-v0.3-hf", "mistrala...-v0.3-hf"]
    assert labels(["short", LLAMA], 20) == ["short", label(LLAMA, 20)]
    alike = cut([f"{'x' * 30}{i}{'y' * 30}" for i in range(12)] + ["same", "same"], 12)
    assert len(set(alike)) == 14
    space = {
        "model": tune.choice([LLAMA, MISTRAL]),
        "encoder": {"attention": {"dropout_probability": tune.uniform(0, 0.5)}},
        "decoder": {"attention": {"dropout_probability": tune.uniform(0, 0.5)}},
    }
    found = drawn(made(space, lambda c: c["encoder"]["attention"]["dropout_probability"] + (c["model"] == LLAMA)))
    assert len(set(found["importance"].figure.data[0].y)) == 3
    shown = panels(found["parameters"].figure)
    assert len(shown) == 3
    assert len(set(shown["model"])) == 2
    axis = found["parallel"].figure.data[0].dimensions[0]
    assert len(set(axis.ticktext)) == 2
    assert set(axis["values"]) == {0, 1}


def test_ticks_of_parallel_axes_are_not_escaped() -> None:
    """plotly sets them as text; escaped, and cut once more, they read `...;v&#x27;]`."""
    options = [["q", "v"], ["q", "k"], []]
    found = drawn(made({"mods": tune.choice(options), "x": tune.uniform(0, 1)}, lambda c: c["x"]))
    assert found["parallel"].figure.data[0].dimensions[0].ticktext == tuple(map(str, options))


# ---- what is shown first, and what is left out


def test_domains_with_slashes_have_the_rank_of_their_mixture() -> None:
    report = made(
        {"lr": tune.uniform(0, 1), "mix": mixture("openai/gsm8k", "b/c/d")}, lambda c: c["mix"]["openai/gsm8k"]
    )
    found = drawn(report)["parameters"]
    assert found.note.endswith("Most important first.")
    assert list(panels(found.figure)) == ["mix/openai/gsm8k", "mix/b/c/d", "lr"]


def test_of_many_parameters_the_most_important_are_shown_and_it_says_so() -> None:
    domains = [f"d{i}" for i in range(30)]
    report = made(
        {"m": mixture(*domains), **{f"x{i}": tune.uniform(0, 1) for i in range(15)}}, lambda c: c["x14"], n=32
    )
    found = drawn(report)
    shown = panels(found["parameters"].figure)
    assert len(shown) == figures_space.PANELS
    assert "x14" in shown
    assert "Shown: the 24 most important parameters and weights of 45 (every" in found["parameters"].note
    axes = [axis.label for axis in found["parallel"].figure.data[0].dimensions]
    assert len(axes) == figures_space.AXES + 1
    assert "x14" in axes
    assert "Shown: the 13 most important parameters and weights of 45 (every" in found["parallel"].note


def test_without_a_model_the_first_parameters_are_shown_and_it_says_so() -> None:
    """Naive: the 24 most important, where nothing is known of importance."""
    found = drawn(made({f"p{i}": tune.uniform(0, 1) for i in range(30)}, lambda c: c["p29"], n=5))
    assert list(panels(found["parameters"].figure)) == [f"p{i}" for i in range(figures_space.PANELS)]
    assert "Shown: the first 24 parameters of 30." in found["parameters"].note
    assert "Shown: the first 13 parameters of 30." in found["parallel"].note


def test_bars_of_mixtures_are_counted_as_parameters() -> None:
    found = drawn(made({f"p{i}": tune.uniform(0, 1) for i in range(26)}, lambda c: c["p3"]))
    assert "Shown: the 24 most important parameters of 26." in found["importance"].note


def test_second_weights_give_way_to_other_parameters_and_of_a_mixture_those_that_hardly_vary() -> None:
    still, moving = ((0.5, 0.5), (0.0, 1.0))
    found = [Column("m/a", "m", still, "a"), Column("m/b", "m", moving, "b"), Column("x", "x", moving)]
    effects = [Effect("m", 0.9, 0.9), Effect("x", 0.1, 0.1)]
    assert [column.name for column in most_important(found, effects, 3)] == ["m/a", "m/b", "x"]
    assert [column.name for column in most_important(found, effects, 2)] == ["m/b", "x"]
    assert [column.name for column in most_important(found, effects, 1)] == ["m/b"]  # of nine tenths of the variance


# ---- colours, and texts from elsewhere


@pytest.mark.parametrize("mode", ["min", "max"])
def test_axes_colours_and_marks_of_the_space(mode: str) -> None:
    report = made(
        {"lr": tune.loguniform(1e-5, 1e-1), "m": mixture("a", "b"), "u": tune.uniform(0, 1)},
        lambda c: (c["m"]["a"] + math.log10(c["lr"]) / 4 + 0.75) ** 2 + 0.01 * c["u"],
        n=24,
    )
    first = report.best_first()[0]
    assert first.final is not None
    open_ = dataclasses.replace(first, final=None, predicted=predicted(first.final))
    rows = tuple(open_ if row is first else row for row in report.trials)
    found = drawn(dataclasses.replace(report, trials=rows, mode=mode))
    shown = found["parameters"].figure
    kinds = {axis.title.text: axis.type for axis in shown.select_xaxes()}
    assert (kinds["lr"], kinds["u"]) == ("log", None)
    symbols = [symbol for trace in shown.data if trace.xaxis in (None, "x") for symbol in trace.marker.symbol]
    assert (symbols.count("circle-open"), symbols.count("circle")) == (1, 23)
    assert sum("*" in rank for rank in found["mixtures"].figure.data[0].x) == 23
    assert found["parallel"].figure.data[0].line.reversescale is (mode == "min")
    assert found["interaction"].figure.data[0].reversescale is (mode == "min")
    assert found["interaction"].figure.layout.yaxis.type == "log"


def test_thirty_domains_have_thirty_colours() -> None:
    report = made({"m": mixture(*[f"d{i}" for i in range(30)])}, lambda c: c["m"]["d0"], n=8)
    colours = [trace.marker.color for trace in drawn(report)["mixtures"].figure.data]
    assert len(set(colours)) == len(set(SHARES)) == 30


def test_the_unit_of_a_cost_is_neither_markup_nor_a_field() -> None:
    plain = made({"x": tune.uniform(0, 1)}, lambda c: c["x"])
    report = dataclasses.replace(plain, budget={**plain.budget, "unit": "dollars <b> %{z}"})
    for figure in (figures_trials.progress(report), figures_trials.budget(report)):
        templates = [trace.hovertemplate for trace in figure.data if trace.hovertemplate]
        assert templates
        assert all("&lt;b&gt; %&#123;z}" in template for template in templates)
        assert not any("<b>" in template or "%{z}" in template for template in templates)


def test_a_foreign_row_outside_the_space_is_left_out() -> None:
    report = made({"x": tune.uniform(0, 1), "c": tune.choice(["a", "b"])}, lambda c: c["x"], n=4)
    rows = (dataclasses.replace(report.trials[0], x=()), *report.trials[1:])
    assert [column.values[0] for column in columns(report, rows)] == [None, None]
    axes = json.loads(figures_space.parallel(report, rows, columns(report, rows)).to_json())["data"][0]["dimensions"]
    assert all(axis["ticktext"][0] == "(absent)" for axis in axes[:2])
