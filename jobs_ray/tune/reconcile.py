"""After `kill -9`: Ray's saved trials and the searcher's saved state may be of two different moments.

Ray writes the trials first and the searcher after, and copies both to the storage in the background
(ray/tune/execution/experiment_state.py). Ray's trials are the truth: they are what will run. What they have trained is
in their result files.

    Ray has                                       the search
    a trial that we do not know                   adopts it: what was to be asked next, or a failed trial's new start
                                                  (`restart_errored` gives it a new id)
    no trial of an id that we think is running    forgets it, or, if it has reported, ends it as failed
    a trial waiting that we know as failed        lets it go on (`resume_errored`)
    reports that we have not seen                 records them
    a trial ended that we think is running        ends it; gives it up where it was in the midst of its run
    a trial waiting that has trained enough       ends it: it keeps its final
    a trial waiting that has ended for us         stops it at its next report; all that it reports is charged
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.result import DONE
from ray.tune.search.repeater import TRIAL_INDEX

from jobs_ray.search.optimizer import Suggestion
from jobs_ray.space import SpaceError
from jobs_ray.trials import TrialStatus
from jobs_ray.tune import checkpoints, history
from jobs_ray.tune.pulse import mark_of
from jobs_ray.tune.result_reader import as_number
from jobs_ray.tune.warmstart import own_config

if TYPE_CHECKING:
    from jobs_ray.tune.session import Session

logger = logging.getLogger(__name__)

_NOTHING = 1e-9  # of a full run: a grant that ends with the first report


def with_ray(
    session: Session, trials: Sequence[Any], unfinished: Collection[str] = (), *, full: bool, scheduled: bool
) -> None:
    """Makes the search agree with Ray's trials. full: nothing stops a trial early. scheduled: our scheduler does.

    unfinished: ids of trials that had not come to their end when Ray saved them, whatever it calls them now.
    """
    known = list(session.core.trials)
    # only the first of a Repeater's trials is one of ours
    theirs = {trial.trial_id: trial for trial in sorted(trials, key=_number) if not trial.config.get(TRIAL_INDEX)}
    for trial_id in reversed(known):
        if trial_id in session.live and trial_id not in theirs:
            _lost(session, trial_id, trials)
    failed = {name for name, trial in session.core.trials.items() if trial.status is TrialStatus.FAILED}
    again = [name for name in theirs if name in failed and not theirs[name].is_finished()]
    session.reopen(again)
    for trial_id in again:  # all that it has reported was seen; from here on it is news, also if it starts anew
        results = history.of_trial(theirs[trial_id])
        if results and (mark := mark_of(results[-1])) is not None:
            session.marks[trial_id] = mark
    starts_anew = failed - set(theirs)
    for trial_id, trial in theirs.items():
        new = trial_id not in known
        if new and not _adopt(session, trial, full, starts_anew):
            continue
        news, done = new, False
        if trial_id in session.live and trial_id not in failed:  # of those, all was seen
            results = history.of_trial(trial)
            for result in _unseen(session, trial_id, results):
                session.record(trial_id, result)
                news = True
            done = bool(results) and bool(results[-1].get(DONE))
        # Ray may save no `done` of a function that returns. One that did so after our state was saved has news for us,
        # most likely; a trial that Ray ended by itself has none: then nobody tells the search, and both are saved
        returned = news and not done and trial_id not in unfinished
        # of one that is new to us nothing but Ray's word says so, and Ray may have ended it (a time budget)
        end_if_ended(session, trial, in_order=done or returned, own_end=True if returned and not new else None)
        if scheduled and trial_id in session.live and _trained_enough(session, trial_id):
            session.end(trial_id, error=False)
        if trial_id not in session.live:
            if trial_id in session.anyway or not trial.is_finished():
                _trained_anyway(session, trial)
        elif new or trial_id in failed:
            _within_budget(session, trial)


def end_if_ended(session: Session, trial: Any, *, in_order: bool = False, own_end: bool | None = None) -> None:
    """Ends a trial that Ray calls finished: nobody tells a searcher of trials that it did not suggest itself.

    One that Ray ended in the midst of its run (`resume_unfinished=False`, a time budget) is given up: its last report
    is not `done`. in_order: it came to its end all the same. own_end: as `JoBSOptimizer.tell` takes it.
    """
    if not trial.is_finished():
        return
    error = trial.status == Trial.ERROR
    if trial.trial_id in session.live and not (error or in_order or (trial.last_result or {}).get(DONE)):
        session.core.amend(trial.trial_id, silent=True)  # so its last value is no final one
    session.end(trial.trial_id, error=error, own_end=own_end)


def _trained_anyway(session: Session, trial: Any) -> None:
    """Charges a trial that has ended for us, and that Ray trains again, for what it reported before a driver died."""
    results, charged = history.of_trial(trial), session.anyway.get(trial.trial_id)
    session.anyway[trial.trial_id] = charged or (mark_of(results[-1]) if results else None)
    for result in () if charged is None else _after(charged, results):
        session.record(trial.trial_id, result)


def _trained_enough(session: Session, trial_id: str) -> bool:
    """Ray's snapshot may be older than a trial's last report, which would be lost with the first one told again."""
    trial = session.core.trials[trial_id]
    return trial.grant is not None and trial.curve.last_t >= trial.grant and not trial.curve.ends_failed


def _lost(session: Session, trial_id: str, trials: Sequence[Any]) -> None:
    if trials:
        for result in _unseen(session, trial_id, history.of_id(trial_id, trials[0].storage)):
            session.record(trial_id, result)
    if session.core.trials[trial_id].steps:
        logger.info("trial %s is not among Ray's trials any more; it has failed", trial_id)
        session.end(trial_id, error=True)
    else:
        logger.info("trial %s was handed out after Ray's last snapshot; it is forgotten", trial_id)
        session.forget(trial_id)


def _adopt(session: Session, trial: Any, full: bool, starts_anew: set[str]) -> bool:
    """False for a trial of another space, which is left alone. `starts_anew`: failed trials that Ray has replaced."""
    try:
        config = own_config(session, trial.config)
    except SpaceError as error:
        logger.warning("trial %s is not of this search space (%s); it is left alone", trial.trial_id, error)
        return False
    core = session.core
    original = next((t for n in starts_anew if (t := core.trials[n]).config == config), None)
    if original is not None:
        starts_anew.discard(original.trial_id)
        resumes = original.promotes if original.start > 0 else None
        session.adopt(trial.trial_id, Suggestion(config, original.phase, original.grant, resumes))
        return True
    # the optimiser's decisions repeat: most likely this is what it would propose now
    proposal = core.propose(full=full)
    if not isinstance(proposal, Suggestion) or proposal.config != config:
        steps = _steps(session, trial, config, full)
        proposal = Suggestion(config, core.phase, steps, resume_from=_resumed(session, trial, config))
    elif not _has_checkpoint(session, trial):  # it began at 0, whatever a promotion would do now
        proposal = dataclasses.replace(proposal, resume_from=None)
    session.adopt(trial.trial_id, proposal)
    return True


def _resumed(session: Session, trial: Any, config: dict[str, Any]) -> str | None:
    """The short run that a trial of unknown purpose goes on from: what that trained is not charged twice."""
    short = _short_runs(session, config)
    return short[-1] if short and _has_checkpoint(session, trial) else None


def _has_checkpoint(session: Session, trial: Any) -> bool:
    """Whether a trial was given one to go on from."""
    key = session.settings.resume_key
    return key is not None and bool(trial.config.get(key))


def _short_runs(session: Session, config: dict[str, Any]) -> list[str]:
    """Of a configuration: what a trial with it may be the promotion of."""
    trials = session.core.trials.values()
    return [t.trial_id for t in trials if t.config == config and t.status is TrialStatus.STOPPED]


def _steps(session: Session, trial: Any, config: dict[str, Any], full: bool) -> float | None:
    """What a trial of unknown purpose was granted: as its config says, else as a short run, unless it went further."""
    key, plan = session.settings.steps_key, session.core.plan()
    told = None if key is None else as_number(trial.config.get(key))
    if told is not None or full or plan is None:
        return told
    reached = as_number((trial.last_result or {}).get(session.settings.time_attr)) or 0.0
    return float(plan["max_t"] if _short_runs(session, config) or reached > plan["short_t"] else plan["short_t"])


def _within_budget(session: Session, trial: Any) -> None:
    """Ray will run this trial, whatever is left of the budget: it may train what is left."""
    core = session.core
    money, max_t, costs, ours = core.budget, core.max_t, core.costs, core.trials[trial.trial_id]
    if money.total is None or max_t is None or costs is None:
        return
    grant = max_t if ours.grant is None else ours.grant
    found = checkpoints.of_trial([trial], trial.trial_id, session.settings.time_attr)
    start = max(found[1] if found else 0.0, ours.start)
    others = money.committed - costs.of(ours, ours.outstanding(max_t))
    most = start + max(money.total - others, 0.0) / costs.of(ours, 1.0)
    if most < grant:
        core.amend(trial.trial_id, grant=max(most, _NOTHING * max_t))


def _unseen(session: Session, trial_id: str, results: Sequence[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Its reports beyond those in the searcher's state: told again from the start they would be charged again."""
    mark = session.marks.get(trial_id)
    if mark is not None:
        return _after(mark, results)
    known = session.core.trials[trial_id].curve.last_t  # a state from before marks were kept

    def told(result: dict[str, Any]) -> bool:
        reading = session.reading(trial_id, result)
        return reading is None or reading[0] <= known

    return itertools.dropwhile(told, results)


def _after(mark: tuple[Any, ...], results: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The results after the one of this mark; none if that is not there."""
    seen = [i for i, result in enumerate(results) if mark_of(result) == mark]
    return results[seen[-1] + 1 :] if seen else ()


def _number(trial: Any) -> int:
    """Trials in the order they were asked for, as Ray counted them; a restore sorts them by their last result."""
    head = str(trial.experiment_tag or "").partition("_")[0]
    return int(head) if head.isdigit() else 0
