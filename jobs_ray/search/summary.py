"""The search as plain data, in the user's sign: what the report, the command line and Tune's files show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jobs_ray.models.prediction import Prediction
from jobs_ray.search.budget import Budget
from jobs_ray.search.settings import Recommendation, Settings
from jobs_ray.space.template import copied
from jobs_ray.trials import Phase, Trial


def summarise(
    settings: Settings,
    trials: Iterable[Trial],
    *,
    max_t: float | None,
    phase: Phase,
    plan: Mapping[str, Any] | None,
    budget: Budget,
    quality: Mapping[str, Any] | None,
    recommendation: Recommendation | None,
    prediction: Callable[[str], Prediction | None],
) -> dict[str, Any]:
    """Phase, plan, budget, predictor, recommendation and every trial. `prediction`: of an unfinished trial, by id."""
    trials = list(trials)
    return {
        "mode": settings.mode,
        "phase": phase.value,
        "plan": None if plan is None else dict(plan),
        "budget": {
            "unit": settings.unit,
            "total": settings.budget,
            "spent": budget.spent,
            "committed": budget.committed,
            "by_phase": {p.value: sum(_charged(settings, t, max_t) for t in trials if t.phase is p) for p in Phase},
        },
        "predictor": None if quality is None else dict(quality),
        "recommendation": None if recommendation is None else dict(vars(recommendation)),
        "trials": [_trial(t, settings, max_t, None if t.completed else prediction(t.trial_id)) for t in trials],
    }


def _trial(trial: Trial, settings: Settings, max_t: float | None, predicted: Prediction | None) -> dict[str, Any]:
    sign = settings.sign
    return {
        "trial_id": trial.trial_id,
        "config": copied(trial.config),
        "phase": trial.phase.value,
        "status": trial.status.value,
        "steps": trial.grant,
        "curve": [[t, sign * value] for t, value in zip(trial.curve.t, trial.curve.value, strict=True)],
        "failed_at": list(trial.curve.failed_at),
        "prediction": predicted and {"mean": float(predicted.mean[0]), "stddev": float(predicted.stddev[0])},
        "final": None if trial.final is None else sign * trial.final,
        "charged": _charged(settings, trial, max_t),
        "promotes": trial.promotes,
        "resumed_from": trial.promotes if trial.start > 0 else None,
        "observed": not trial.charged,
    }


def _charged(settings: Settings, trial: Trial, max_t: float | None) -> float:
    """In the unit of the budget; in full runs without a max_t, whole trials."""
    if not trial.charged:
        return 0.0
    if settings.cost_unit is not None:
        return trial.meter.cost
    return trial.steps / max_t if max_t else float(trial.steps > 0)
