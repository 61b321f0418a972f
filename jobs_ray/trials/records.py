"""The optimiser's state to and from plain JSON. Constants of the space are not stored: they need not be JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from jobs_ray.space import SearchSpace
from jobs_ray.space.base import is_number
from jobs_ray.trials.curve import LearningCurve
from jobs_ray.trials.meter import Meter
from jobs_ray.trials.state import StateError, unwrap, wrap
from jobs_ray.trials.table import TrialTable
from jobs_ray.trials.trials import Phase, Trial, TrialStatus


class SavedTrial(NamedTuple):
    """A trial's JSON text as saved last; its configuration as plain data while it runs, which is half the work."""

    trial: Trial
    text: str
    values: dict[str, Any] | None


def to_state(
    space: SearchSpace, settings: Mapping[str, Any], asked: int, table: TrialTable, *, trials: bool = True
) -> dict[str, Any]:
    """Everything a decision depends on, as plain data. `settings`: plain data already. `trials=False`: without."""
    return wrap(
        {
            "settings": dict(settings),
            "space": [block.name for block in space.blocks],
            "asked": asked,
            "reached": table.reached,
            "trials": [trial_to_json(space, trial) for trial in table.values()] if trials else [],
        }
    )


def from_state(space: SearchSpace, state: Mapping[str, Any]) -> tuple[dict[str, Any], int, TrialTable]:
    """The inverse of `to_state`. Raises StateError when `state` is damaged, of another version or another space."""
    data = unwrap(state)
    try:
        names = [block.name for block in space.blocks]
        if data["space"] != names:
            raise StateError(f"the state is of a space with parameters {data['space']}, this one has {names}")
        # states from before these were kept: with max_t set, what had ended was taken to have ended by itself
        own_end = data["settings"].get("max_t") is not None
        before = {"own_end": own_end, "silent": False, "checkpoint_t": None, "meter": None, "thinned": False}
        records = [trial_from_json(space, before | record) for record in data["trials"]]
        trials = TrialTable(records, _finite(data.get("reached", 0.0)))
        asked = data["asked"]
        if not isinstance(asked, int) or asked < 0 or len(trials) < len(records):
            raise StateError("the state is damaged: its ask-counter or its trial ids")
        strangers = {trial.promotes for trial in records} - set(trials) - {None}
        if strangers:
            raise StateError(f"the state is damaged: it promotes the unknown trials {sorted(map(str, strangers))}")
        return dict(data["settings"]), asked, trials
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"the state is damaged or of another search space: {error!r}") from None


def trial_to_json(space: SearchSpace, trial: Trial, values: dict[str, Any] | None = None) -> dict[str, Any]:
    """One trial; its configuration as `{path: value}` of the active parameters: `values`, for who has them."""
    meter = trial.meter
    return {
        "id": trial.trial_id,
        "values": space.values(trial.config, trial.x) if values is None else values,
        "phase": trial.phase.value,
        "grant": trial.grant,
        "status": trial.status.value,
        "t": list(trial.curve.t),
        "value": list(trial.curve.value),
        "failed_at": list(trial.curve.failed_at),
        "thinned": trial.curve.thinned,
        "start": trial.start,
        "wasted": trial.wasted,
        "promotes": trial.promotes,
        "own_end": trial.own_end,
        "silent": trial.silent,
        "checkpoint_t": trial.checkpoint_t,
        # [times, readings, base, paid]; None in searches that count in full runs
        "meter": None if meter == Meter() else [list(meter.t), list(meter.reading), meter.base, meter.paid],
        "charged": trial.charged,
    }


def save_trial(space: SearchSpace, trial: Trial, last: SavedTrial | None) -> SavedTrial:
    """As it was saved last, where nothing has changed."""
    if last is not None and last.trial is trial:
        return last
    # an id may be another trial's since
    values = last.values if last is not None and last.trial.config is trial.config else None
    values = space.values(trial.config, trial.x) if values is None else values
    text = json.dumps(trial_to_json(space, trial, values), allow_nan=False)
    return SavedTrial(trial, text, values if trial.running else None)


def trial_from_json(space: SearchSpace, data: dict[str, Any]) -> Trial:
    """The inverse of `trial_to_json`. Raises KeyError, TypeError or ValueError when `data` does not fit."""
    config = space.build(data["values"])
    t, value, failed_at = (tuple(map(_finite, data[key])) for key in ("t", "value", "failed_at"))
    return Trial(
        trial_id=str(data["id"]),
        config=config,
        x=tuple(space.encode(config).tolist()),
        phase=Phase(data["phase"]),
        grant=None if data["grant"] is None else _finite(data["grant"]),
        status=TrialStatus(data["status"]),
        curve=LearningCurve(t, value, failed_at, bool(data["thinned"])),
        start=_finite(data["start"]),
        wasted=_finite(data["wasted"]),
        promotes=data["promotes"],
        charged=bool(data["charged"]),
        own_end=bool(data["own_end"]),
        silent=bool(data["silent"]),
        checkpoint_t=None if data["checkpoint_t"] is None else _finite(data["checkpoint_t"]),
        meter=_meter(data["meter"]),
    )


def _meter(data: list[Any] | None) -> Meter:
    if data is None:
        return Meter()
    t, reading, base, paid = data
    return Meter(tuple(map(_finite, t)), tuple(map(_finite, reading)), _finite(base), _finite(paid))


def _finite(value: Any) -> float:
    if not is_number(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value)
