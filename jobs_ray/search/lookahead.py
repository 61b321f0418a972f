"""What to suggest after a suggestion, at once: chosen from the candidates that its maximiser has looked at.

Each is the best of them by log expected improvement as if those before it had come out at their posterior mean, which
is what a whole new computation would ask, too; but no model is fitted and no candidate is new. So a suggestion takes
milliseconds, for whoever must have several at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from jobs_ray.models.fitting import FittedModels
from jobs_ray.search.acquisition import Within, log_improvement
from jobs_ray.space import Array

if TYPE_CHECKING:
    from jobs_ray.models.joint import JointPosterior

_OF_A_ROUND = 64
"""Candidates of each round of the maximiser: those of the last ones lie around one point, and are worth nothing once it
is taken."""


@dataclass
class Lookahead:
    """For one chain of proposals: the first new configuration fills it, the others are taken from it.

    models: of the first proposal, for all of them.
    """

    models: FittedModels | None = None
    _rounds: list[tuple[Array, Array]] = field(default_factory=list)
    _chosen: Array | None = None
    _points: Array | None = None
    _offset: Array = field(default_factory=lambda: np.zeros(0))
    _joint: JointPosterior | None = None
    _best: float = 0.0

    @property
    def filled(self) -> bool:
        """Whether there is something to take."""
        return self._chosen is not None

    def note(self, X: Array, score: Array) -> None:
        """Candidates `n x d` of one round, and their scores `(n,)`."""
        top = np.argsort(-score, kind="stable")[:_OF_A_ROUND]
        self._rounds.append((X[top], score[top]))

    def fill(self, chosen: Array) -> None:
        """The maximiser has ended, and chose the point `chosen`. The list is made when something is taken of it: who
        waits for this one need not wait for that."""
        self._chosen = chosen

    def _list(self, models: FittedModels, chosen: Array) -> Array:
        surrogate = models.surrogate
        assert surrogate is not None
        points, first = np.unique(np.vstack([X for X, _ in self._rounds]), axis=0, return_index=True)
        score = np.concatenate([score for _, score in self._rounds])[first]
        self._rounds.clear()
        self._points, self._joint = points, surrogate.joint(models.features(points))
        self._best = surrogate.standardised(models.best)
        self._offset = score - self._improvement()  # cost, price, and what was asked before
        self._believe(int(np.flatnonzero((points == chosen).all(axis=1))[0]))
        return points

    def take(self, within: Within) -> Array | None:
        """The next point `(d,)`; None when there is none at that price."""
        assert self.models is not None
        assert self._chosen is not None
        points = self._list(self.models, self._chosen) if self._points is None else self._points
        score = np.where(within(points), self._improvement() + self._offset, -np.inf)
        best = int(np.argmax(score))
        if not np.isfinite(score[best]):
            return None
        self._believe(best)
        return np.asarray(points[best])

    def _improvement(self) -> Array:
        from jobs_ray.models.regression import evaluate  # torch is there: a surrogate is

        joint = self._joint
        assert joint is not None
        return evaluate(log_improvement(joint, self._best), np.arange(len(joint.mean), dtype=float)[:, None])

    def _believe(self, point: int) -> None:
        assert self._joint is not None
        self._best = max(self._best, float(self._joint.mean[point]))
        self._joint = self._joint.believing(point)
        self._offset[point] = -np.inf
