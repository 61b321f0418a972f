"""After `kill -9`: Ray's saved trials and the searcher's saved state may be of two different moments.

Ray writes the trials first and the searcher after, and copies both to the storage in the background
(ray/tune/execution/experiment_state.py). Ray's trials are the truth: they are what will run.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.air.constants import EXPR_RESULT_FILE
from ray.tune.experiment import Trial
from ray.tune.search.repeater import TRIAL_INDEX
from ray.tune.utils import flatten_dict

from jobs_ray.search.optimizer import Suggestion
from jobs_ray.space import SpaceError
from jobs_ray.tune.warmstart import own_config

if TYPE_CHECKING:
    from jobs_ray.tune.session import Session

logger = logging.getLogger(__name__)


def with_ray(session: Session, trials: Sequence[Any], full: bool) -> None:
    """Forgets trials that Ray does not know, adopts those that only Ray knows, ends those that ended."""
    known = list(session.core.trials)
    # only the first of a Repeater's trials is one of ours
    theirs = {trial.trial_id: trial for trial in trials if not trial.config.get(TRIAL_INDEX)}
    for trial_id in reversed(known):
        if trial_id in session.live and trial_id not in theirs:
            logger.info("trial %s was handed out after Ray's last snapshot; it is forgotten", trial_id)
            session.forget(trial_id)
    for trial_id, trial in theirs.items():
        if trial_id not in known and not _adopt(session, trial, full):
            continue
        if trial_id in session.live and trial.is_finished():
            for result in _unseen(session, trial):
                session.record(trial_id, result)
            session.end(trial_id, error=trial.status == Trial.ERROR)


def _adopt(session: Session, trial: Any, full: bool) -> bool:
    """False for a trial of another space, which is left alone."""
    try:
        config = own_config(session, trial.config)
    except SpaceError as error:
        logger.warning("trial %s is not of this search space (%s); it is left alone", trial.trial_id, error)
        return False
    # the optimiser's decisions repeat: most likely this is what it would propose now
    proposal = session.core.propose(full=full)
    if not isinstance(proposal, Suggestion) or proposal.config != config:
        proposal = Suggestion(config=config, phase=session.core.phase, steps=None)
    session.adopt(trial.trial_id, proposal)
    return True


def _unseen(session: Session, trial: Any) -> Iterator[dict[str, Any]]:
    """Its reports beyond those in the searcher's state: told again from the start they would be charged again."""
    known = session.core.trials[trial.trial_id].curve.last_t

    def told(result: dict[str, Any]) -> bool:
        reading = session.reading(trial.trial_id, result)
        return reading is None or reading[0] <= known

    return itertools.dropwhile(told, _results(trial))


def _results(trial: Any) -> list[dict[str, Any]]:
    """All reports of a trial that ended: from its result file, or at least the last one."""
    path = Path(trial.storage.trial_fs_path, EXPR_RESULT_FILE)
    try:
        with trial.storage.storage_filesystem.open_input_stream(path.as_posix()) as file:
            lines = file.readall().decode("utf-8").splitlines()
        return [flatten_dict(json.loads(line)) for line in lines]
    except (OSError, ValueError):  # not synced yet, or cut short by the kill
        return [flatten_dict(trial.last_result)] if trial.last_result else []
