"""`cost_attr` on a real Ray: a budget in what the trials report, and a key that none of them reports."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from tune_trainables import STEPS, Class

from jobs_ray import JoBSScheduler, JoBSSearcher
from jobs_ray.tune.result_reader import Reader, Resume
from jobs_ray.tune.results import load_session

SPACE = {"x": tune.uniform(0.0, 1.0), "size": tune.uniform(1.0, 4.0)}
MEAN = 2.5 * STEPS  # tokens of a full run of a middling size


class Costly(Class):
    """A step of size s costs s tokens; each trial counts its own."""

    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        self.tokens = 0.0

    def step(self) -> dict[str, Any]:
        result = super().step()
        self.tokens += self.config["size"]
        return result | {"tokens": self.tokens}


@pytest.mark.slow
def test_the_budget_is_what_the_trials_report(fit: Callable[..., tune.ResultGrid], tmp_path: Path, capfd: Any) -> None:
    searcher = JoBSSearcher(max_t=STEPS, budget=3.0 * MEAN, cost_attr="tokens", seed=0)
    results = fit(Costly, SPACE, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=2, reuse_actors=True)
    assert not results.errors
    tokens = sum(result.metrics["tokens"] for result in results)
    report = searcher.report()
    assert report["budget"]["unit"] == "tokens"
    assert report["budget"]["spent"] == pytest.approx(tokens)
    assert 1.8 * MEAN < tokens <= 3.3 * MEAN
    found = searcher.recommendation()
    assert found is not None
    assert found.confirmed
    restored = load_session(tmp_path / "run")
    assert restored.core.budget.spent == pytest.approx(tokens)
    assert restored.settings.cost_attr == "tokens"
    assert f"of {3.0 * MEAN:g} tokens spent" in capfd.readouterr().out


@pytest.mark.slow
def test_a_key_that_nobody_reports_is_said_and_spends_eight_short_runs(
    fit: Callable[..., tune.ResultGrid], caplog: pytest.LogCaptureFixture
) -> None:
    searcher = JoBSSearcher(max_t=STEPS, budget=100.0, cost_attr="dollar", seed=0)
    with caplog.at_level(logging.WARNING, "jobs_ray"):
        results = fit(
            Costly, SPACE, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=4, reuse_actors=True
        )
    assert len(results) == 8
    said = [record.getMessage() for record in caplog.records if "'dollar'" in record.getMessage()]
    assert len(said) == 1
    assert "only 'loss', 'score', 'step', 'tokens'" in said[0]
    assert "set cost_attr" in said[0]


@pytest.mark.parametrize(
    ("name", "readings", "own"),
    [
        ("tokens", (5.0, 10.0), (5.0, 10.0)),  # its counter starts again
        ("tokens", (15.0, 20.0), (5.0, 10.0)),  # the checkpoint held it
        ("time_total_s", (15.0, 20.0), (15.0, 20.0)),  # Ray's own starts again with each trial
    ],
)
def test_a_promotion_costs_what_it_adds_whatever_its_counter_does(
    name: str, readings: tuple[float, ...], own: tuple[float, ...]
) -> None:
    """The short run took two steps of 5."""
    reader = Reader("loss", "step", name, {"a": Resume(2.0, cost=10.0)})
    found = tuple(reader.cost("a", t, {name: reading}) for t, reading in zip((3.0, 4.0), readings, strict=True))
    assert found == own


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cost_attr": ""}, "cost_attr is ''"),
        ({"cost_attr": "tokens", "max_t": None}, "cost_attr='tokens' needs max_t"),
        ({"cost_attr": "tokens", "budget": 0.0}, "an amount of 'tokens' above 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JoBSSearcher(**({"max_t": 5, "budget": 2.0} | settings))


def test_a_small_budget_of_a_large_unit_is_none_too_small() -> None:
    assert JoBSSearcher(max_t=5, budget=0.5, cost_attr="gpu_days", num_full=3).settings.budget == 0.5
