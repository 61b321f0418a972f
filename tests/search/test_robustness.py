"""What must not lead a search astray: regions that fail, several in flight, traces of a domain, odd observations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from core_runs import as_json, search

from jobs_ray import FINISHED, Categorical, Decision, Integer, JoBSOptimizer, Mixture, Phase, Real, Suggestion
from jobs_ray.models import cost as cost_model
from jobs_ray.models.scale import choose_scale
from jobs_ray.trials import TrialStatus

RUN = 24.0
SQUARE: Mapping[str, Any] = {"x": Real(0.0, 1.0), "y": Real(0.0, 1.0)}


def falling(final: float) -> list[tuple[float, float | None]]:
    """A whole curve down to about `final`."""
    return [(float(t), final + 1.5 * t**-0.6) for t in range(1, 25)]


def test_a_region_that_fails_is_left_alone() -> None:
    """Out of memory before the first report, and the best is next to it. Up to 31 of 46 short runs went there."""
    space = {"lr": Real(1e-5, 1e-1, log=True), "m": Mixture(["a", "b", "c"]), "r": Integer(1, 128, log=True)}
    failed = []
    for seed in range(2):
        optimizer, number = JoBSOptimizer(space, mode="min", max_t=RUN, budget=8, seed=seed), 0
        while isinstance(asked := optimizer.ask(f"t{number}"), Suggestion):
            r, lr, a = asked.config["r"], asked.config["lr"], asked.config["m"]["a"]
            final = 1.5 - 0.06 * math.log(r) + 0.3 * (a - 0.6) ** 2 + 0.05 * (math.log10(lr) + 3) ** 2
            if r > 48:
                optimizer.tell(f"t{number}", error=True)
            else:
                for t, value in falling(final):
                    if optimizer.report(f"t{number}", t, value) is Decision.STOP:
                        break
                optimizer.tell(f"t{number}")
            number += 1
        short = [t for t in optimizer.trials.values() if t.phase is Phase.SEARCH]
        failed.append(sum(t.status is TrialStatus.FAILED for t in short) / len(short))
    assert np.mean(failed) < 0.2


def test_several_in_flight_are_not_the_same_configuration() -> None:
    """All that is known rises towards a corner that is not: the first goes there, and what is believed of it is to be
    improved on. All eight went there, within a hundredth."""
    rng = np.random.default_rng(0)
    optimizer = JoBSOptimizer(SQUARE, mode="min", max_t=RUN, budget=30, seed=0)
    for number in range(40):
        x, y = rng.uniform(0.0, 0.5, 2).tolist()
        curve = falling(1.0 + (x - 0.9) ** 2 + (y - 0.9) ** 2)
        optimizer.add_observation({"x": x, "y": y}, curve if number < 12 else curve[:4], complete=number < 12)
    asked = [optimizer.ask(f"t{i}") for i in range(8)]
    points = np.array([[s.config["x"], s.config["y"]] for s in asked if isinstance(s, Suggestion) and not s.promotes])
    assert len(points) >= 6
    apart = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(len(points), 1)]
    assert (apart < 0.02).mean() < 0.2


def test_no_mixture_is_trained_twice_for_a_trace_of_a_domain() -> None:
    """With the best at a vertex (.9995, .0005, 0, 0) was new, and then cleaned into what had been asked before."""

    def loss(config: Mapping[str, Any], t: float) -> float:
        w = config["m"]
        return float(1.0 + 0.5 * w["b"] + 0.8 * w["c"] + 0.3 * w["d"] + 2.0 * t**-0.7)

    optimizer = JoBSOptimizer({"m": Mixture(["a", "b", "c", "d"])}, mode="min", max_t=RUN, budget=8, seed=0)
    asked = search(optimizer, curve=loss, end=RUN)
    new = [tuple(s.config["m"].values()) for s in asked if s.promotes is None]
    assert len(new) > 20
    assert len(set(new)) == len(new)


@pytest.mark.parametrize("end", [5.0, 10.0, 1e3])
def test_a_full_run_that_diverged_does_not_spoil_the_predictor(end: float) -> None:
    """It ends above its first report; the error of all other predictions grew by hundreds."""
    rng = np.random.default_rng(0)
    optimizer = JoBSOptimizer(SQUARE, mode="min", max_t=RUN, budget=30, seed=0)
    for number in range(10):
        curve = falling(1.0 + 0.2 * float(rng.uniform()))
        if number == 4:
            curve[18:] = [(t, end) for t, _ in curve[18:]]
        optimizer.add_observation({"x": float(rng.uniform()), "y": float(rng.uniform())}, curve, complete=True)
    short = optimizer.add_observation({"x": 0.4, "y": 0.6}, falling(1.1)[:4], complete=False)
    optimizer.ask("a")
    predicted = optimizer.prediction(short)
    assert predicted is not None
    assert predicted.mean[0] == pytest.approx(falling(1.1)[-1][1], abs=0.02)


def test_full_runs_that_overfit_are_learned_from() -> None:
    """They end above their first report, too; which do depends on the configuration, as the predictor is to know."""
    rng = np.random.default_rng(0)
    optimizer = JoBSOptimizer(SQUARE, mode="min", max_t=RUN, budget=30, seed=0)

    def curve(x: float) -> list[tuple[float, float | None]]:
        return [(float(t), 2.0 + 0.5 * math.exp(-t / 2) + 1.2 * (x - 0.4) * t / 25) for t in range(1, 25)]

    for x in rng.uniform(size=12).tolist():
        optimizer.add_observation({"x": x, "y": float(rng.uniform())}, curve(x), complete=True)
    short = optimizer.add_observation({"x": 0.9, "y": 0.5}, curve(0.9)[:4], complete=False)
    optimizer.ask("a")
    predicted = optimizer.prediction(short)
    assert predicted is not None
    assert predicted.mean[0] == pytest.approx(curve(0.9)[-1][1], abs=0.06)


def test_an_observation_of_two_reports_does_not_blind_the_predictor() -> None:
    """Its times were those at which runs were compared: short runs ended before, and nothing was seen of them."""
    rng = np.random.default_rng(0)
    optimizer = JoBSOptimizer(SQUARE, mode="min", max_t=RUN, budget=30, seed=0)
    coarse = falling(1.0)
    optimizer.add_observation({"x": 0.5, "y": 0.5}, [coarse[11], coarse[23]], complete=True)
    for _ in range(10):  # only the curve tells how good it is
        curve = falling(1.0 + 0.5 * float(rng.uniform()))
        optimizer.add_observation({"x": float(rng.uniform()), "y": float(rng.uniform())}, curve, complete=True)
    shorts = {
        final: optimizer.add_observation({"x": 0.3, "y": 0.3}, falling(final)[:4], complete=False)
        for final in (1.0, 1.5)
    }
    optimizer.ask("a")
    for final, name in shorts.items():
        predicted = optimizer.prediction(name)
        assert predicted is not None
        assert predicted.mean[0] == pytest.approx(falling(final)[-1][1], abs=0.05)


@pytest.mark.parametrize("unit", [1e-14, 1e-9, 1e9])
def test_the_unit_of_a_maximised_metric_does_not_matter(unit: float) -> None:
    def value(config: Mapping[str, Any], t: float) -> float:
        return float(unit * np.exp(-4 * (config["x"] - 0.8) ** 2 - 4 * (config["y"] - 0.2) ** 2) * (1 - 0.8 * t**-0.7))

    found = []
    for factor in (1.0 / unit, 1.0):
        optimizer = JoBSOptimizer(SQUARE, mode="max", max_t=RUN, budget=6, seed=0)
        search(optimizer, curve=lambda config, t, factor=factor: factor * value(config, t), end=RUN)  # type: ignore[misc]
        best = optimizer.recommendation()
        assert best is not None
        found.append(value(best.config, RUN) / unit)
    assert found[1] == pytest.approx(found[0], abs=0.02)


def test_a_report_at_zero_of_an_observation_is_ignored_as_one_of_a_trial_is() -> None:
    optimizer = JoBSOptimizer(SQUARE, mode="min", max_t=600.0, budget=8, seed=0)
    curve = [(float(t), 1.0 + 1.0 / (t + 1.0)) for t in range(600)]
    name = optimizer.add_observation({"x": 0.1, "y": 0.2}, curve, complete=True)
    assert optimizer.trials[name].curve.t[0] == 1.0
    with pytest.raises(ValueError, match="needs a report at t > 0"):
        optimizer.add_observation({"x": 0.1, "y": 0.2}, [(0, 0.9)], complete=True)


def test_the_space_is_the_optimisers_own() -> None:
    given: dict[str, Any] = {**SQUARE, "const": 3, "deep": {"z": Real(0.0, 1.0)}}
    optimizer = JoBSOptimizer(given, mode="min", max_t=RUN, budget=8, seed=0)
    given["const"] = 99
    del given["deep"]["z"]
    asked = optimizer.ask("a")
    assert isinstance(asked, Suggestion)
    assert asked.config["const"] == 3
    assert 0.0 <= asked.config["deep"]["z"] <= 1.0


def test_a_loss_of_exactly_zero_does_not_hide_the_others() -> None:
    """Of an error rate. Its logarithm lay 230 below that of the others, and the surrogate saw nothing else."""
    scale = choose_scale("auto", np.array([-0.2, -0.3, -0.5]))
    z = scale.forward(np.array([-0.2, -0.3, 0.0]))
    assert z[0] - z[1] == pytest.approx(math.log(1.5))
    assert 10.0 < z[2] - z[0] < 20.0
    small = choose_scale("auto", np.array([-2e-14, -3e-14])).forward(np.array([-2e-14, -3e-14]))
    assert small[0] - small[1] == pytest.approx(math.log(1.5))


def test_a_restored_search_in_costs_asks_for_what_it_would_have_asked_for() -> None:
    """The regression of costs knew what was running at the moment when it was fitted, which no state keeps."""
    space = {"x": Real(0.0, 1.0), "w": Integer(1, 64, log=True)}

    def make() -> JoBSOptimizer:
        return JoBSOptimizer(space, mode="min", max_t=RUN, budget=RUN * 20 * 8, seed=0, cost_unit="s")

    optimizer, compared = make(), 0
    for number in range(30):
        if number > 8:
            restored = make()
            restored.load_state_dict(as_json(optimizer.state_dict()))
            assert restored.propose() == optimizer.propose()
            compared += 1
        asked = optimizer.ask(f"t{number}")
        if asked is FINISHED or asked is None:
            break
        x, w = asked.config["x"], asked.config["w"]
        for t, value in falling(1 + (x - 0.3) ** 2 + 0.1 / w):
            cost = t * w * (1 + x) * (1 + 0.3 * math.sin(7 * number))
            if optimizer.report(f"t{number}", t, value, cost=cost) is Decision.STOP:
                break
        optimizer.tell(f"t{number}")
    assert compared > 4


def test_costs_are_seldom_fitted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit takes 50 ms; with many in flight an earlier one ends at nearly every ask."""
    fits: list[int] = []
    real = cost_model._fit
    monkeypatch.setattr(cost_model, "_fit", lambda space, trials: fits.append(len(trials)) or real(space, trials))
    space = {"x": Real(0.0, 1.0), "w": Integer(1, 64, log=True)}
    optimizer = JoBSOptimizer(space, mode="min", max_t=RUN, budget=RUN * 20 * 30, seed=0, cost_unit="s")
    rng, flying, asked = np.random.default_rng(0), list[tuple[str, Suggestion]](), 0
    while asked < 90 and (suggestion := optimizer.ask(f"t{asked}")) is not FINISHED:
        if isinstance(suggestion, Suggestion):
            flying.append((f"t{asked}", suggestion))
            asked += 1
        if len(flying) == 16 or not isinstance(suggestion, Suggestion):
            name, own = flying.pop(int(rng.integers(len(flying))))
            x, w = own.config["x"], own.config["w"]
            for t, value in falling(1 + (x - 0.3) ** 2 + 0.1 / w):
                if optimizer.report(name, t, value, cost=t * w * (1 + x)) is Decision.STOP:
                    break
            optimizer.tell(name)
    assert asked > 50
    assert 1 <= len(fits) <= 24


class Tensor:
    """As torch's of several elements."""

    def __float__(self) -> float:
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")


def test_a_value_that_is_no_number_is_a_failed_observation_and_one_too_small_to_square_is_zero() -> None:
    optimizer = JoBSOptimizer(SQUARE, mode="max", max_t=RUN, budget=4, seed=0)
    optimizer.ask("a")
    for t, value in enumerate([1e-165, -1e-200, 1e-99, Tensor(), math.nan, 1e100], start=1):
        optimizer.report("a", t, value)  # type: ignore[arg-type]
    curve = optimizer.trials["a"].curve
    assert curve.value == (0.0, 0.0, 1e-99)
    assert curve.failed_at[0] == 4.0


def test_a_search_in_a_tiny_unit_is_the_same_search() -> None:
    def asked(unit: float) -> list[Any]:
        optimizer = JoBSOptimizer(SQUARE, mode="max", max_t=RUN, budget=4, seed=0)
        return search(optimizer, curve=lambda config, t: unit * (config["x"] - config["y"]) * (1 - t**-0.7), end=RUN)

    assert asked(2.0**-300) == asked(1.0)


def test_a_summary_may_be_changed() -> None:
    space = {"lora": {"r": Integer(1, 64)}, "layers": [1, 2]}
    optimizer = JoBSOptimizer(space, mode="min", max_t=RUN, budget=4, seed=0)
    optimizer.ask("a")
    before = as_json(optimizer.state_dict())
    row = optimizer.summary()["trials"][0]["config"]
    row["lora"]["r"] = "changed"
    row["layers"].append(3)
    assert optimizer.state_dict() == before
    assert optimizer.summary()["trials"][0]["config"] == optimizer.trials["a"].config


def test_an_id_that_would_come_back_as_another_is_refused() -> None:
    """JSON has strings for keys: a restored search would wait for ever for the trial 0."""
    optimizer = JoBSOptimizer(SQUARE, mode="min", max_t=RUN, budget=4, seed=0)
    with pytest.raises(ValueError, match="expected a string, '0'"):
        optimizer.ask(0)  # type: ignore[arg-type]
    assert not optimizer.trials


def test_a_configuration_of_a_space_without_a_choice_is_promoted_once() -> None:
    space = {"m": Mixture(["a", "b"], min={"a": 0.3, "b": 0.7}), "c": Categorical(list("abcd"))}
    optimizer = JoBSOptimizer(space, mode="min", max_t=RUN, budget=5, seed=0)
    asked = search(optimizer, curve=lambda config, t: 1.0 + "abcd".index(config["c"]) / t, end=RUN)
    assert len({(s.config["c"], s.steps) for s in asked}) == len(asked)
