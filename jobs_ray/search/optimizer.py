"""JoBSOptimizer: ask / report / tell, with no Ray in it.

LEARN starts with random short runs and promotes the best of them to a full run.
SEARCH asks for short runs by expected improvement over the surrogate of confirmed and predicted finals. CONFIRM
promotes the most promising short run to a full one; the two take turns, since the predictor learns from full runs and
does so best where it matters, and only a confirmed configuration is recommended. After Chen et al. 2026,
arXiv 2602.08351.

A decision is a function of (settings, trials, seed, ask-counter): `propose` changes nothing, `accept` adds a trial.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jobs_ray.models.cost import Costs
from jobs_ray.models.fitting import ModelCache, predict
from jobs_ray.models.hooks import Hooks
from jobs_ray.models.prediction import Prediction, Predictor
from jobs_ray.models.predictor import ScalingLawPredictor
from jobs_ray.search.budget import Budget, promotion_cost
from jobs_ray.search.generator import Action, RunKind, kind_of
from jobs_ray.search.lookahead import Lookahead
from jobs_ray.search.policy import Policy, ending, observed
from jobs_ray.search.progress import horizon, search_progress, validated
from jobs_ray.search.promotion import promoted_by
from jobs_ray.search.reported import amount, number
from jobs_ray.search.settings import FINISHED, Answer, Decision, Recommendation, Settings, Suggestion, _Finished
from jobs_ray.search.summary import summarise
from jobs_ray.space import SearchSpace
from jobs_ray.trials import LearningCurve, Phase, Trial, TrialTable
from jobs_ray.trials.records import from_state, to_state

if TYPE_CHECKING:
    from jobs_ray.models.hooks import AcquisitionHook, SurrogateHook

__all__ = ["FINISHED", "Decision", "JoBSOptimizer", "Phase", "Recommendation", "Suggestion"]


class JoBSOptimizer:
    """The search as plain ask / report / tell. Not thread-safe: `fork` gives another thread its own copy.

    Args:
        space: nested dict of Real, Integer, Categorical, Mixture and constants.
        mode: "min" or "max" of the reported value.
        max_t: length of a full run in units of the reported `t`; None: learned from the first completed trials.
        budget: in full-run equivalents, or in `cost_unit`; None: no limit but `num_trials`.
        num_trials: how many trials there will be, when a caller limits them.
        short_t: length of a short run, or "auto".
        num_full: the paper's two-phase shape with so many full runs first, or "auto": adaptive.
        num_confirm: promotions after LEARN, or "auto".
        points_to_evaluate: configurations to try first.
        candidates: when given, only these configurations are ever asked for. None is asked for twice (see `Policy`).
        predictor: replaces the predictor of final values.
        surrogate, acquisition: the user's own BoTorch model and acquisition function (see models/hooks.py).
        resume: a promotion resumes its short run (the caller has its checkpoint) and is charged the rest only.
        extend: a running short run that already looks best may go on to the end on the spot.
        seed: None draws one; it is kept in the state.
        cost_unit: name of what `report(cost=...)` counts (seconds, tokens, dollars): budget, plan and acquisition
            (improvement for its predicted cost) are in it, where some configurations cost more a step. Needs `max_t`.
            Nothing is started that costs more than is left, as predicted; what was mispredicted is overspent.

    Raises:
        SpaceError: the space or a point to evaluate cannot be used.
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        space: Mapping[str, Any],
        *,
        mode: Literal["min", "max"],
        max_t: float | None = None,
        budget: float | None = None,
        num_trials: int | None = None,
        short_t: float | Literal["auto"] = "auto",
        num_full: int | Literal["auto"] = "auto",
        num_confirm: int | Literal["auto"] = "auto",
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        candidates: Sequence[Mapping[str, Any]] | None = None,
        predictor: Predictor | None = None,
        surrogate: SurrogateHook | None = None,
        acquisition: AcquisitionHook | None = None,
        resume: bool = False,
        extend: bool = True,
        seed: int | None = None,
        cost_unit: str | None = None,
    ) -> None:
        self.space = SearchSpace(space)
        seed = secrets.randbits(32) if seed is None else seed
        self.settings = Settings(
            mode, max_t, budget, num_trials, short_t, num_full, num_confirm, resume, extend, seed, cost_unit
        )
        self._policy = Policy(
            self.space,
            ScalingLawPredictor() if predictor is None else predictor,
            Hooks(surrogate, acquisition),
            np.array([self.space.encode(point) for point in points_to_evaluate or ()]).reshape(-1, self.space.dim),
            self.space.grid if candidates is None else np.array([self.space.encode(c) for c in candidates]),
        )
        self._given = {
            tuple(self.space.encode(c).tolist()): self._own(c)
            for c in (*(points_to_evaluate or ()), *(candidates or ()))
        }
        self._trials = TrialTable()
        self._asked = 0
        self._cache = ModelCache()

    # -- asking ---------------------------------------------------------------------------------------------------

    def ask(self, trial_id: str, *, full: bool = False) -> Answer:
        """The next configuration for the trial `trial_id`; None: wait for a trial in flight; or FINISHED.

        `full=True`: nobody can stop this trial early, so it is a full run. ValueError: the id was asked with before.
        """
        suggestion = self.propose(full=full)
        if isinstance(suggestion, Suggestion):
            self.accept(trial_id, suggestion)
        return suggestion

    def propose(self, *, full: bool = False, quick: bool = False, ahead: Lookahead | None = None) -> Answer:
        """What `ask` would answer, changing nothing. `quick=True`: no model, a space-filling point at once.

        ahead: one for a chain of proposals, each accepted before the next; all after the first are found at once.
        """
        known = self.settings, self._trials, self._asked, self._known(fit=not quick)
        action = self._policy.decide(*known, full=full, quick=quick, ahead=ahead)
        if action is None or isinstance(action, _Finished):
            return action
        if action.promotes is not None:
            source = self._trials[action.promotes]
            resume_from = source.trial_id if self.settings.resume and source.resume_before(action.steps) else None
            return Suggestion(self._own(source.config), action.phase, action.steps, resume_from, action.promotes)
        given = self._given.get(action.x)
        config = self.space.decode(np.array(action.x)) if given is None else self._own(given)
        return Suggestion(config, action.phase, action.steps)

    def next_kind(self, *, full: bool = False) -> RunKind | None:
        """Phase, steps, and whether the configuration is new, of what `propose` would suggest; None: nothing now."""
        known = self.settings, self._trials, self._asked, self._known(fit=False)
        action = self._policy.decide(*known, full=full, quick=True, peek=True)
        return kind_of(action) if isinstance(action, Action) else None

    def accept(self, trial_id: str, suggestion: Suggestion) -> None:
        """Register `suggestion` as the running trial `trial_id`. Also for a suggestion made elsewhere."""
        if trial_id in self._trials:
            raise ValueError(f"trial {trial_id!r} was asked for before; every ask needs an id of its own")
        config = self._own(suggestion.config)
        x = tuple(self.space.encode(config).tolist())
        promotes = promoted_by(self._trials, x, suggestion, self.max_t)
        source = self._trials.get(suggestion.resume_from) if suggestion.resume_from else None
        start = source.resume_t if source else 0.0
        curve = source.curve.up_to(start) if source else LearningCurve()
        phase, steps = suggestion.phase, suggestion.steps
        self._trials.put(Trial(trial_id, config, x, phase, steps, curve=curve, start=start, promotes=promotes))
        self._asked += 1

    def note_checkpoint(self, trial_id: str, t: float) -> bool:
        """The newest checkpoint of the short run `trial_id` stands at `t` (0: there is none). To be told before
        `accept` takes a suggestion that resumes it: False when the budget does not have what the promotion costs then.
        That suggestion must not be accepted; `propose` has another answer now.
        """
        self._trials.note_checkpoint(trial_id, t)
        costs = self.costs
        return costs is None or self.budget.affords(promotion_cost(self._trials[trial_id], self.settings.resume, costs))

    def forget(self, trial_id: str) -> None:
        """Remove a trial that never reported, as if it had not been asked for."""
        trial = self._trials.get(trial_id)
        if trial is not None and trial.steps == 0 and trial.running:
            if next(self._trials.newest(), None) is trial:
                self._asked -= 1
            self._trials.remove(trial_id)

    def reopen(self, trial_ids: Collection[str]) -> None:
        """Ended trials that the caller runs again after all: they go on, and are charged what they train."""
        self._trials = self._trials.reopened(frozenset(trial_ids))

    def amend(self, trial_id: str, **changes: Any) -> None:
        """Changes a running trial: its `grant`, or `silent=True`: no phase waits for it until it reports again."""
        self._trials.put(replace(self._trials[trial_id], **changes))

    # -- observing ------------------------------------------------------------------------------------------------

    def report(
        self,
        trial_id: str,
        t: float,
        value: float | None,
        cost: float | None = None,
        *,
        restarted: bool = False,
        fit: bool = True,
    ) -> Decision:
        """One evaluation at `t` (> 0). NaN, infinite or None: a failed observation. Never raises on a bad value.

        Idempotent by `(trial_id, t)`; unknown trials and times that are no positive number are ignored.
        cost: of this trial so far (a promotion: without its short run's), as a counter that may start again with it.
        `restarted=True`: the first report since the trial was started anew, charged even at a `t` reported before; all
        that is done with reports of ended trials, without it nothing.
        `fit=False`: answered at once, by the models as last fitted (by a fork's `propose`, say).
        """
        trial = self._trials.get(trial_id)
        at = number(t)
        if trial is None or at is None or at <= 0:
            return Decision.CONTINUE
        source = self._trials[trial.promotes].curve if trial.promotes and trial.start > 0 else None
        if not trial.running:
            if restarted:
                self._trials.charge(trial.trained_again(at, source, amount(cost)))
            return Decision.STOP
        trial = trial.report(at, self._maximised(value), source, restarted=restarted, cost=amount(cost))
        self._trials.put(trial)
        self._trials.demote(self.settings.max_t)
        stop, grant = self._policy.after_report(self.settings, trial, self._trials, self._known(fit))
        if grant != trial.grant:
            confirms = grant is not None and self.max_t is not None and grant >= self.max_t
            self._trials.put(replace(trial, grant=grant, phase=Phase.CONFIRM if confirms else trial.phase))
        return Decision.STOP if stop else Decision.CONTINUE

    def tell(self, trial_id: str, error: bool = False, *, own_end: bool | None = None) -> None:
        """The trial has ended, for whatever reason. Harmless for unknown ids and when told twice.

        own_end: by itself, so its last value is final; False: perhaps cut short by others, so it is final only while
        no trial has trained longer; None: not known, taken for True with `max_t` set and for False without.
        """
        trial = self._trials.get(trial_id)
        if trial is None or not trial.running:
            return
        own = self.settings.max_t is not None if own_end is None else own_end
        self._trials.put(replace(trial, status=ending(self.settings, trial, self.max_t, error), own_end=own))
        self._trials.demote(self.settings.max_t)

    def add_observation(
        self,
        config: Mapping[str, Any],
        curve: Sequence[tuple[float, float | None]],
        *,
        complete: bool,
        trial_id: str | None = None,
    ) -> str:
        """Warm start: a run made elsewhere, not charged. `complete`: its last value is a final one. Returns its id."""
        if trial_id is None:
            trial_id = next(n for i in count() if (n := f"observed-{i}") not in self._trials)
        if trial_id in self._trials:
            raise ValueError(f"trial {trial_id!r} is known already; give the observation another id")
        config = self._own(config)
        x = tuple(self.space.encode(config).tolist())
        trial = Trial(trial_id, config, x, Phase.LEARN, None, charged=False, own_end=True)
        reports = [(float(t), self._maximised(value)) for t, value in curve]
        self._trials.put(observed(trial, reports, complete=complete))
        return trial_id

    # -- answers --------------------------------------------------------------------------------------------------

    @property
    def trials(self) -> Mapping[str, Trial]:
        """Every trial by id, in the order asked, as it stands; values maximised. A view: it grows with the search."""
        return MappingProxyType(self._trials)

    @property
    def max_t(self) -> float | None:
        """Length of a full run: as set, or the longest completed trial so far."""
        return horizon(self.settings, self._trials)

    @property
    def costs(self) -> Costs | None:
        """What a run costs as predicted, by the models as last fitted; None while there is nothing to go by."""
        return self._policy.costs(self.settings, self._trials, self._known(fit=False))

    @property
    def budget(self) -> Budget:
        """In full-run equivalents, or in `cost_unit`."""
        return self._policy.budget(self.settings, self._trials, self._cache)

    @property
    def budget_spent(self) -> float:
        """`budget.spent`, at once."""
        return self._trials.costs().spent if self.settings.cost_unit else self._trials.spent(self.max_t)

    @property
    def phase(self) -> Phase:
        """Phase of the latest trial."""
        return next((trial.phase for trial in self._trials.newest()), Phase.LEARN)

    def prediction(self, trial_id: str, *, fit: bool = True) -> Prediction | None:
        """Predicted final of a trial, in the user's sign, by the predictor as last fitted; None without one.

        `fit=False`: from the longest prefix of its curve for which nothing has to be fitted; None without one.
        """
        trial, predictor = self._trials.get(trial_id), self._cache.predictor
        if trial is None or predictor is None or not trial.curve.value:
            return None
        found = predict(self.space, [trial], predictor, self._known(fit)).get(trial_id)
        return found and Prediction(np.array([self.settings.sign * found[0]]), np.array([found[1]]))

    def recommendation(self) -> Recommendation | None:
        """The best confirmed configuration; before any is confirmed the most promising one; None without values."""
        found = self._policy.recommend(self.settings, self._trials, self._cache)
        if found is None:
            return None
        trial, mean, stddev = found
        config = self._own(trial.config)
        mean, t = self.settings.sign * mean, trial.curve.t[-1]
        return Recommendation(config, mean, stddev, trial.final is not None, trial.trial_id, t)

    def plan(self, *, fit: bool = True) -> dict[str, Any] | None:
        """The split of the budget as it stands, plain data; None while the length of a full run is unknown.

        `fit=False`: by the models as last fitted.
        """
        policy, max_t, costs, known = self._policy, self.max_t, self.costs, self._known(fit)
        if max_t is None or costs is None:
            return None
        now = search_progress(policy.space, policy.predictor, self.settings, self._trials, max_t, costs, known)
        return {"max_t": now.max_t, "short_t": now.short_t, **vars(now.plan)}

    def predictor_quality(self, *, fit: bool = True) -> dict[str, Any] | None:
        """Leave-one-out accuracy of the predictor as last fitted, at short_t; None without one.

        `fit=False`: None, too, where that would take a fit.
        """
        plan, predictor = self.plan(fit=fit), self._cache.predictor
        quality = validated(predictor, plan["short_t"], not fit) if plan and predictor else None
        return None if quality is None else dict(vars(quality))

    def summary(self) -> dict[str, Any]:
        """Plain data: phase, plan, budget by phase, every trial, the predictor's own accuracy, the recommendation."""
        plan, quality, best = self.plan(), self.predictor_quality(), self.recommendation()
        return summarise(
            self.settings, self._trials.values(), max_t=self.max_t, phase=self.phase, plan=plan, budget=self.budget,
            quality=quality, recommendation=best, prediction=self.prediction,
        )  # fmt: skip

    # -- state ----------------------------------------------------------------------------------------------------

    def state_dict(self, *, trials: bool = True) -> dict[str, Any]:
        """Plain JSON data. The space, points given and what replaces our models are not part of it; hooks are named."""
        state = to_state(self.space, self.settings.as_json(), self._asked, self._trials, trials=trials)
        names = self._policy.hooks.names()
        return state | {"hooks": names} if names else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`: its settings win. Raises StateError and changes nothing when it does not fit."""
        settings, asked, trials = from_state(self.space, state)
        self._policy.hooks.compare(state.get("hooks"))
        self.settings, self._asked, self._trials = Settings.from_json(settings), asked, trials
        self._trials.demote(self.settings.max_t)
        self._cache = ModelCache()

    def fork(self) -> JoBSOptimizer:
        """A cheap independent copy: records are shared (they are frozen), containers are not."""
        twin = copy.copy(self)
        twin._trials, twin._cache = self._trials.copy(), self._cache.copy()
        return twin

    def adopt_cache(self, fork: JoBSOptimizer) -> None:
        """Take over what `fork` has fitted; it only saves time."""
        self._cache = fork._cache.copy()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _maximised(self, value: float | None) -> float | None:
        found = number(value)
        return None if found is None else self.settings.sign * found

    def _known(self, fit: bool) -> ModelCache:
        return self._cache if fit else self._cache.frozen()

    def _own(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A copy that shares no container with anybody; constants of the space are the space's."""
        return self.space.build(self.space.values(config))
