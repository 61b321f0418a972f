"""Trials that run but do not report: the search goes on without them, and `trial_timeout_s` ends them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs_ray.tune.session import Session

logger = logging.getLogger(__name__)


def note(session: Session) -> None:
    """Says which trials have been silent for unusually long, once each; no phase waits for them any more.

    What they may still train stays committed. Looks at most once a second.
    """
    if not session.pulse.due():
        return
    trials = session.core.trials
    for trial_id in session.pulse.slow(session.live):
        if trials[trial_id].silent:
            continue
        logger.warning(
            "trial %s has been silent for %.0f s, several times as long as is usual here: the search goes on without "
            "it%s",
            trial_id,
            session.pulse.silent_s(trial_id),
            "" if session.settings.trial_timeout_s else " (JoBSSearcher(trial_timeout_s=...) would end such trials)",
        )
        session.core.amend(trial_id, silent=True)
        session.ended += 1  # what is being computed in the background still waits for it


def overdue(session: Session, trial_id: str) -> bool:
    """Whether it has been silent for `trial_timeout_s`."""
    limit = session.settings.trial_timeout_s
    return limit is not None and trial_id in session.live and session.pulse.silent_s(trial_id) > limit
