"""Which configuration is next: a given point, a space-filling one, the best by expected improvement, or a promotion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from heapq import nlargest
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from jobs_ray.models.cost import Costs
from jobs_ray.models.fitting import FittedModels, ModelCache, fell_back, fit_models, fit_predictor
from jobs_ray.models.hooks import HookError, Hooks
from jobs_ray.models.prediction import Predictor
from jobs_ray.models.training_points import MAX_POINTS
from jobs_ray.search.acquisition import LEARN_SPARSITY, Score, Within, acquisition, maximise
from jobs_ray.search.budget import TOLERANCE
from jobs_ray.search.lookahead import Lookahead
from jobs_ray.search.promotion import promotable, safest
from jobs_ray.search.settings import Suggestion
from jobs_ray.space import Array, SearchSpace
from jobs_ray.trials import Phase, Trial, TrialStatus, TrialTable

_SEQUENCE = 64  # length of the space-filling sequence that starts a search
_TOO_DEAR = 1e9  # off the score of what the budget has not; a point asked before is better, it costs 1e6
_NOTHING = 1e-12
_GOOD = 8  # points known to be good whose neighbourhood is searched


@dataclass(frozen=True)
class Action:
    """Run `x` to `steps`, or promote the short run `promotes`."""

    phase: Phase
    steps: float | None
    x: tuple[float, ...] = ()
    promotes: str | None = None


RunKind: TypeAlias = tuple[Phase, float | None, bool]


def kind_of(run: Action | Suggestion) -> RunKind:
    """Its phase, its steps, and whether its configuration is new."""
    return run.phase, run.steps, run.promotes is None


@dataclass(frozen=True)
class CandidateGenerator:
    """Picks configurations for one ask. `costs`: where they differ by configuration, and are reported; else None.
    `ahead`: of the chain of proposals, if this is one of them; never where a model or an acquisition function is the
    user's, each of whose proposals is a whole computation. `peek`: only the kind of run is asked for, no point, and
    any short run that could be promoted will do."""

    space: SearchSpace
    predictor: Predictor
    hooks: Hooks
    points: Array
    candidates: Array | None
    seed: int
    max_t: float | None
    table: TrialTable
    asked: int
    cache: ModelCache
    quick: bool
    costs: Costs | None = None
    ahead: Lookahead | None = None
    peek: bool = False

    @cached_property
    def trials(self) -> list[Trial]:
        return self.cache.recall(self.table)

    @cached_property
    def used_up(self) -> bool:
        """Whether every candidate, and every point given, has been asked for."""
        return self.candidates is not None and not len(self._free) and not len(self._not_asked(self.points))

    @cached_property
    def _free(self) -> Array:
        """The candidates that nobody has asked for."""
        assert self.candidates is not None
        return self._not_asked(self.candidates)

    @cached_property
    def _asked(self) -> frozenset[tuple[float, ...]]:
        """Points of all trials; of those of elsewhere, where they came to nothing, nobody here has asked."""
        return frozenset(t.x for t in self.table.values() if t.charged or t.status is not TrialStatus.FAILED)

    def new(self, phase: Phase, steps: float | None, most: float = math.inf) -> Action | None:
        """A new configuration: a given point, a space-filling one in LEARN, else by expected improvement.

        most: what it may cost as predicted, in the unit of the budget. None: nothing is left at that price.
        """
        if self.used_up:
            lost = self._lost() if steps is None or steps == self.max_t else []
            again = (Action(phase, steps, x=x) for x in lost if self._within(np.array([x]), steps, most)[0])
            return next(again, None)
        if self.peek and self.costs is None:  # else some price may be too high
            return Action(phase, steps)
        within = partial(self._within, steps=steps, most=most)
        given = self._not_asked(self.points)
        x = next(iter(given[within(given)]), None) if len(given) else None
        if x is None and (self.candidates is None or len(self._free)):
            filling = phase is Phase.LEARN or self.quick or not any(t.curve.value for t in self.trials)
            x = self._space_filling(within) if filling else self._by_improvement(within)
        return None if x is None else Action(phase, steps, x=tuple(x.tolist()))

    def _within(self, X: Array, steps: float | None, most: float) -> NDArray[np.bool_]:
        """Which of `n x d` cost no more; all of them where every configuration costs the same."""
        if self.costs is None or len(X) == 0:
            return np.ones(len(X), dtype=bool)
        return np.asarray(self.costs.at(X, self.costs.max_t if steps is None else steps) <= most + TOLERANCE)

    def best_short(self, affordable: Callable[[Trial], bool]) -> Trial | None:
        """The stopped short run to promote: largest expected improvement over the confirmed, for its cost.

        Before the predictor stands the surrogate holds values of an early time, which no final compares with: the
        largest posterior mean then, which knows of noise and of neighbours that diverged later on. (By expected
        improvement over the finals the least known was promoted.)
        """
        found = (t for t in promotable(self.trials) if affordable(t))
        if self.peek:
            return next(found, None)
        rivals = safest(self.space, self.trials, list(found))
        if not rivals:
            return None
        by_value = max(rivals, key=lambda t: t.curve.value[-1])
        models = None if self.quick else self._models()
        if models is None or models.surrogate is None:  # the user's failed, and said so
            return by_value
        if self._has_predictor():
            rivals = nlargest(MAX_POINTS, rivals, key=lambda t: models.values[t.trial_id][0])
        try:
            promise = self._promise(models, rivals)
        except HookError as error:
            self.hooks.complain(error)
            return by_value
        return rivals[int(np.argmax(promise))]

    def _promise(self, models: FittedModels, rivals: Sequence[Trial]) -> Array:
        """What is compared to promote one of them: log EI over the best confirmed final, for the cost of the rest."""
        X, finals = np.array([t.x for t in rivals]), [t.final for t in self.trials if t.final is not None]
        if not finals or not self._has_predictor():
            return models.posterior(X)[0]
        incumbent = float(models.scale.forward(np.array([max(finals)]))[0])
        promise = acquisition(models, self.hooks, incumbent)(X)
        if self.costs is None:
            return promise
        rest = [self.costs.of(t, self.costs.max_t - t.curve.last_t) for t in rivals]
        return np.asarray(promise - np.log(np.maximum(rest, _NOTHING)))

    def _space_filling(self, within: Within) -> Array | None:
        """The first one that is within the price. A grid is filled as a space is, evenly, and not as a pool."""
        grid = self.candidates is not None and self.candidates is self.space.grid
        if self.candidates is not None and not grid:
            free, rng = self._free, self._rng()
            points = free[rng.permutation(len(free))] if self.costs else free[[rng.integers(len(free))]]
        elif self.asked < _SEQUENCE:  # one sequence for all asks, so that together they fill the space
            rng = np.random.default_rng([self.seed, 0])
            sparsity = 1.0 if self.asked % 2 == 0 else LEARN_SPARSITY
            points = self.space.without_traces(self.space.sample(_SEQUENCE, rng, sparsity=sparsity)[self.asked :])
        else:
            points = self.space.without_traces(self.space.sample(_SEQUENCE if self.costs else 1, self._rng()))
        new = self._not_asked(points)  # a finite space repeats itself
        points = new if len(new) else self._free if grid else points
        return next(iter(points[within(points)]), None)

    def _by_improvement(self, within: Within) -> Array | None:
        ahead = self.ahead
        if ahead is not None and ahead.filled:
            return ahead.take(within)
        models = self._models()
        if models.surrogate is None:
            return self._space_filling(within)
        try:
            score = self._for_its_cost(acquisition(models, self.hooks), within)
            if self.candidates is not None:
                found = score(self._free)
                x = np.asarray(self._free[int(np.argmax(found))])
                if ahead is not None:
                    ahead.note(self._free, found)
            else:
                X = np.array([t.x for t in self.table.values()])
                good = nlargest(_GOOD, self.trials, key=lambda t: models.values.get(t.trial_id, (-math.inf,))[0])
                note = None if ahead is None else ahead.note
                x = maximise(self.space, score, np.array([t.x for t in good]), X, self._rng(), note)
            if ahead is not None:
                ahead.fill(x)
        except HookError as error:
            self.hooks.complain(error)
            return self._space_filling(within)
        return x if within(x[None])[0] else None

    def _for_its_cost(self, score: Score, within: Within) -> Score:
        """Log EI less log cost: improvement per cost (Snoek et al. 2012), among what is within the price.

        A user's acquisition function may be on any scale, so it stays as it is. What pays on the family `costs` is the
        ledger in costs; the division is a tie there (C = 10, 6 instances x 5 seeds: regret .451 without costs, .286 so,
        .292 undivided, .292 with an exponent that falls with what is left; standard errors of the differences to the
        first .04), where the best is mostly the dearest.
        """
        costs = self.costs
        if costs is None:
            return score

        def per_cost(X: Array) -> Array:
            values = score(X)
            if self.hooks.acquisition is None:
                values = values - np.log(costs.at(X, 1.0))
            return np.where(within(X), values, values - _TOO_DEAR)

        return per_cost

    def _not_asked(self, points: Array) -> Array:
        return points[[tuple(point.tolist()) not in self._asked for point in points]]

    def _lost(self) -> list[tuple[float, ...]]:
        """Points of which one trial ended in an error (its node was lost, say), and none in a value: each is worth one
        more try."""
        failed = Counter(t.x for t in self.table.values() if t.status is TrialStatus.FAILED and not t.curve.ends_failed)
        back = fell_back(self.trials)
        known = {t.x for t in self.table.values() if t.running or t.final is not None or t.trial_id in back}
        ill = {t.x for t in self.table.values() if t.curve.ends_failed}
        return [x for x, times in failed.items() if times == 1 and x not in known | ill]

    def _has_predictor(self) -> bool:
        return fit_predictor(self.space, self.trials, self.predictor, self.max_t, self.cache) is not None

    def _models(self) -> FittedModels:
        if self.ahead is not None and self.ahead.models is not None:
            return self.ahead.models
        models = fit_models(self.space, self.trials, self.predictor, self.max_t, self.cache, self.hooks)
        if self.ahead is not None:
            self.ahead.models = models
        return models

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, 1 + self.asked])
