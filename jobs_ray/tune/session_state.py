"""A session as plain JSON data, and back. What replaces our models is not part of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobs_ray.trials import StateError, TrialStatus
from jobs_ray.trials.records import save_trial
from jobs_ray.tune.codec import from_json, to_json
from jobs_ray.tune.result_reader import Resume
from jobs_ray.tune.session import Session
from jobs_ray.tune.settings import Replaced, Settings

_TRIALS = "<<trials>>"  # no JSON text of ours holds it by itself: it is looked for with its quotes and brackets


def to_text(session: Session) -> str:
    """JSON, for `from_state`. Of 10,000 trials it takes seconds, and of a thousand that run 70 ms, half of it for the
    configurations: so only what has changed since the last time is made anew.
    """
    core, saved = session.core, session.saved
    for name, trial in core.trials.items():
        saved[name] = save_trial(core.space, trial, saved.get(name))
    pieces = [saved[name].text for name in core.trials]
    data = {
        "settings": session.settings.to_json(),
        "metric": session.metric,
        "mode": session.mode,
        "num_samples": session.num_samples,
        "space": to_json(session.space.source),
        "optimizer": core.state_dict(trials=False) | {"trials": [_TRIALS]},
        "resumes": {i: [r.start, r.relative, r.cost, r.cost_goes_on] for i, r in session.reader.resumes.items()},
        "marks": {i: list(mark) for i, mark in session.marks.items()},
        "anyway": {i: mark and list(mark) for i, mark in session.anyway.items()},
        "checkpoints": {i: list(found) for i, found in session.train_checkpoints.items()},
    }
    head, _, tail = json.dumps(data, allow_nan=False).partition(f'"trials": ["{_TRIALS}"]')
    return f'{head}"trials": [{", ".join(pieces)}]{tail}'


def from_state(state: Mapping[str, Any], replaced: Replaced, *, trusted: bool = False) -> Session:
    """The session of a saved state. Raises StateError when it is damaged.

    trusted: the search goes on from its own state, so objects in the space that JSON cannot hold are unpickled, which
    runs code that the state names.
    """
    try:
        settings = Settings.from_json(state["settings"], trusted=trusted)
        space = settings.translate(from_json(state["space"], trusted=trusted))
        session = Session(settings, space, state["metric"], state["mode"], state["num_samples"], replaced)
        resumes = {i: Resume(*found) for i, found in state["resumes"].items()}
        session.reader.resumes.update(resumes)
        session.train_checkpoints.update({i: (path, t) for i, (path, t) in state["checkpoints"].items()})
        session.marks.update({i: tuple(mark) for i, mark in state.get("marks", {}).items()})
        session.anyway.update({i: mark and tuple(mark) for i, mark in state.get("anyway", {}).items()})
        optimizer = dict(state["optimizer"])
        if not trusted:
            optimizer.pop("hooks", None)  # a search that is only looked at misses no hook of the user's
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StateError(f"the saved state is damaged ({error!r}); restore an older copy of it") from error
    session.core.load_state_dict(optimizer)
    session.restored = True
    trials = session.core.trials
    session.went_down(trial_id for trial_id, trial in trials.items() if trial.running)
    if trusted:  # it will be saved: the first time, within Ray's loop, would take .4 s of 9,000 trials
        to_text(session)
    session.failures.any_good = any(not t.running and t.status is not TrialStatus.FAILED for t in trials.values())
    return session
