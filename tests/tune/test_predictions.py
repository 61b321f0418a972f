"""Predictions shown to people, within an allowance of Ray's time."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs_ray.models.prediction import Prediction
from jobs_ray.tune.predictions import SHARE, Predictions

COST_S = 0.3


class Core:
    """Predicts the number of times that it was asked, and takes its time for it."""

    def __init__(self) -> None:
        self.asked = 0

    def prediction(self, trial_id: str, *, fit: bool) -> Prediction | None:
        assert not fit
        self.asked += 1
        until = time.thread_time() + COST_S
        while time.thread_time() < until:
            pass
        return None if trial_id == "unknown" else Prediction(np.array([float(self.asked)]), np.array([0.5]))


def session(clock: list[float]) -> Any:
    return SimpleNamespace(core=Core(), pulse=SimpleNamespace(now=lambda: clock[0]))


def test_what_is_used_up_comes_back_with_time_and_the_last_prediction_stands_meanwhile() -> None:
    clock = [100.0]
    run, predictions = session(clock), Predictions()
    found = [predictions.of(run, "a") for _ in range(10)]
    asked = run.core.asked
    assert asked == pytest.approx(1.0 / COST_S, abs=1.0)  # a second is saved up at the start
    assert found[:asked] == [(float(i + 1), 0.5) for i in range(asked)]
    assert found[asked:] == [(float(asked), 0.5)] * (10 - asked)
    assert predictions.of(run, "b") is None  # there is no last one
    clock[0] += (COST_S + 0.3) / SHARE
    assert predictions.of(run, "b") == (asked + 1.0, 0.5)
    assert predictions.known == {"a": (float(asked), 0.5), "b": (asked + 1.0, 0.5)}


def test_no_prediction_any_more_is_none() -> None:
    run, predictions = session([0.0]), Predictions()
    predictions.known["unknown"] = (1.0, 1.0)
    assert predictions.of(run, "unknown") is None
    assert predictions.known == {}
