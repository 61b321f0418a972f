"""A user's own BoTorch model and acquisition function: what they are given, and what happens when they fail."""

from __future__ import annotations

import logging
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement, qLogExpectedImprovement
from botorch.models import SingleTaskGP
from core_runs import SPACE, make, search

from jobs_ray import FINISHED, JoBSOptimizer, Phase, SearchSpace
from jobs_ray.models.hooks import Hooks

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_botorch_model.py"


def plain(train_X: Any, train_Y: Any, train_Yvar: Any) -> Any:
    return SingleTaskGP(train_X, train_Y, train_Yvar)


def improvement(model: Any, best_f: float, X_pending: Any) -> Any:
    return LogExpectedImprovement(model, best_f=best_f)


def test_the_hooks_are_given_what_the_search_knows_and_decide_what_is_asked() -> None:
    seen: list[tuple[Any, ...]] = []
    asked: list[tuple[float, Any]] = []

    def surrogate(train_X: Any, train_Y: Any, train_Yvar: Any) -> Any:
        seen.append((train_X, train_Y, train_Yvar))
        return plain(train_X, train_Y, train_Yvar)

    def acquisition(model: Any, best_f: float, X_pending: Any) -> Any:
        assert isinstance(model, SingleTaskGP)
        asked.append((best_f, X_pending))
        return qLogExpectedImprovement(model, best_f, X_pending=X_pending)

    optimizer = make(budget=5.0, surrogate=surrogate, acquisition=acquisition)
    asks = search(optimizer, workers=2)
    p = SearchSpace(SPACE).unit_features(np.array([t.x for t in optimizer.trials.values()])).shape[1]
    for X, Y, Yvar in seen:
        assert X.shape == (len(X), p)
        assert Y.shape == Yvar.shape == (len(X), 1)
        assert X.dtype == Y.dtype == Yvar.dtype == torch.double
        assert 0.0 <= float(X.min()) <= float(X.max()) <= 1.0
        assert abs(float(Y.mean())) < 1e-9
        assert float(Yvar.min()) >= 1e-5
    assert asked
    assert any(pending is not None and pending.shape[1] == p for _, pending in asked)
    assert optimizer.recommendation().confirmed  # type: ignore[union-attr]
    searched = [s.config for s in asks if s.phase is Phase.SEARCH]
    ours = [s.config for s in search(make(budget=5.0), workers=2) if s.phase is Phase.SEARCH]
    assert searched
    assert searched != ours


def raises(*args: Any) -> Any:
    raise RuntimeError("out of ideas")


def nan_model(train_X: Any, train_Y: Any, train_Yvar: Any) -> Any:
    class Nan(SingleTaskGP):  # type: ignore[misc]
        def posterior(self, X: Any, **kwargs: Any) -> Any:
            posterior = super().posterior(X, **kwargs)
            posterior.distribution.loc.mul_(float("nan"))
            return posterior

    return Nan(train_X, train_Y, train_Yvar)


class Wrong(LogExpectedImprovement):  # type: ignore[misc]
    def forward(self, X: Any) -> Any:
        return torch.zeros(3)


class NanAcquisition(LogExpectedImprovement):  # type: ignore[misc]
    def forward(self, X: Any) -> Any:
        return super().forward(X) * float("nan")


@pytest.mark.parametrize(
    ("hooks", "said"),
    [
        ({"surrogate": raises}, "out of ideas"),
        ({"surrogate": lambda X, Y, V: "no model"}, "expected a botorch Model"),
        ({"surrogate": nan_model}, "not finite"),
        ({"acquisition": raises}, "out of ideas"),
        ({"acquisition": lambda model, best_f, X_pending: 3}, "no AcquisitionFunction"),
        ({"acquisition": lambda model, best_f, X_pending: Wrong(model, best_f)}, "shape"),
        ({"acquisition": lambda model, best_f, X_pending: NanAcquisition(model, best_f)}, "NaN"),
    ],
    ids=["raises", "no model", "nan", "acquisition raises", "no function", "wrong shape", "acquisition nan"],
)
def test_a_hook_that_fails_is_said_once_and_the_search_goes_on(
    hooks: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = make(budget=4.0, **hooks)
    with caplog.at_level(logging.WARNING):
        asked = search(optimizer, workers=2)
    assert {s.phase for s in asked} >= {Phase.LEARN, Phase.SEARCH}
    assert optimizer.ask("more") is FINISHED
    assert optimizer.recommendation().confirmed  # type: ignore[union-attr]
    lines = [r.getMessage() for r in caplog.records if said in r.getMessage()]
    assert len(lines) == 1
    assert "space-filling" in lines[0]


def test_a_saved_state_names_its_hooks_and_restoring_without_them_says_so(caplog: pytest.LogCaptureFixture) -> None:
    optimizer = make(budget=4.0, surrogate=plain, acquisition=improvement)
    search(optimizer, most=12)
    state = optimizer.state_dict()
    assert state["hooks"] == {"surrogate": f"{__name__}.plain", "acquisition": f"{__name__}.improvement"}
    with caplog.at_level(logging.WARNING):
        make(budget=4.0, surrogate=plain, acquisition=improvement).load_state_dict(state)
        assert not caplog.records
        restored = make(budget=4.0, surrogate=plain)
        restored.load_state_dict(state)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "acquisition" in message
    assert f"{__name__}.improvement" in message
    search(restored, prefix="later")
    assert "hooks" not in make().state_dict()


def test_what_cannot_be_called_is_refused_when_built() -> None:
    with pytest.raises(TypeError, match="surrogate is 'gp'; expected a function of"):
        JoBSOptimizer(SPACE, mode="min", surrogate="gp")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="acquisition"):
        Hooks(acquisition=3)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::botorch.exceptions.warnings.OptimizationWarning")
def test_the_example_runs_and_recommends(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE))["main"](4.0)
    assert "confirmed=True" in capsys.readouterr().out
