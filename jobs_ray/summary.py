"""The optimiser as plain data, in the user's sign: what the report, the command line and Tune's files show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs_ray.trials import Phase, Trial

if TYPE_CHECKING:
    from jobs_ray.optimizer import JoBSOptimizer


def summarise(optimizer: JoBSOptimizer) -> dict[str, Any]:
    """Phase, plan, budget, predictor, recommendation and every trial. Fits nothing that is not fitted already."""
    settings, trials, max_t = optimizer.settings, list(optimizer.trials.values()), optimizer.max_t
    money, best = optimizer.budget, optimizer.recommendation()
    return {
        "mode": settings.mode,
        "phase": optimizer.phase.value,
        "plan": optimizer.plan(),
        "budget": {
            "total": settings.budget,
            "spent": money.spent,
            "committed": money.committed,
            "by_phase": {p.value: sum(_charged(t, max_t) for t in trials if t.phase is p) for p in Phase},
        },
        "predictor": optimizer.predictor_quality(),
        "recommendation": None if best is None else dict(vars(best)),
        "trials": [_trial(optimizer, trial, max_t) for trial in trials],
    }


def _trial(optimizer: JoBSOptimizer, trial: Trial, max_t: float | None) -> dict[str, Any]:
    sign = optimizer.settings.sign
    predicted = None if trial.completed else optimizer.prediction(trial.trial_id)
    return {
        "trial_id": trial.trial_id,
        "config": dict(trial.config),
        "phase": trial.phase.value,
        "status": trial.status.value,
        "steps": trial.grant,
        "curve": [[t, sign * value] for t, value in zip(trial.curve.t, trial.curve.value, strict=True)],
        "failed_at": list(trial.curve.failed_at),
        "prediction": predicted and {"mean": float(predicted.mean[0]), "stddev": float(predicted.stddev[0])},
        "final": None if trial.final is None else sign * trial.final,
        "charged": _charged(trial, max_t),
        "promotes": trial.promotes,
        "resumed_from": trial.promotes if trial.start > 0 else None,
        "observed": not trial.charged,
    }


def _charged(trial: Trial, max_t: float | None) -> float:
    """Full-run equivalents; without a max_t, whole trials."""
    if not trial.charged:
        return 0.0
    return trial.steps / max_t if max_t else float(trial.steps > 0)
