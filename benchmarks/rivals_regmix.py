"""RegMix's recipe on a search space: many short random runs, a regression of their last values, the best it predicts.

Liu et al. 2024, "RegMix: Data Mixture as Regression for Language Model Pre-training", trains 512 small proxies on
random mixtures, fits a regression to the target's loss, and takes the mean of the mixtures predicted best of a million.
Here the proxies are the first steps of a run, as in ASHA's first rung; the regression sees the whole configuration.
The recommendation is not trained: its training comes after the search, for every method alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.rivals import ASHA, Pick, Rival, rescaled

_CANDIDATES = 20_000
_TOP = 100  # whose mean is recommended, as published
_LEAST = 8  # runs: a regression on fewer says nothing


class RegMix(Rival):
    """Gradient boosting as published, or the ridge regression that the paper compares it with: whichever predicts
    left-out proxies better (the boosting is published for 512 of them; five full runs pay for 60)."""

    def ask(self, trial_id: str) -> Any:
        config = self.fresh() if self.left >= self.short else None
        return self.wait_or_finish() if config is None else self.begin(trial_id, config, self.short)

    @property
    def short(self) -> int:
        return rescaled(ASHA.rungs, self.max_t)[0]

    def recommendation(self) -> Pick | None:
        """The best so far until all proxies are there: the recipe has one answer, at its end."""
        coding, seen = self.problem.coding, [run for run in self.runs.values() if run.values]
        done = self.left < self.short and all(run.ended for run in self.runs.values())
        if not done or len(seen) < _LEAST or self.problem.candidates is not None:
            return super().recommendation()
        y = np.array([run.last for run in seen])
        y = np.maximum(y, y[np.isfinite(y)].min()) if np.isfinite(y).any() else np.zeros(len(y))  # a crash: the worst
        predict = _regression(coding.features(coding.to_rows([run.config for run in seen])), y)
        rows = coding.random(_CANDIDATES, np.random.default_rng((len(seen), 2)))
        top = rows[np.argsort(-predict(coding.features(rows)), kind="stable")[:_TOP]]
        # the mean of choices and integers is none: of the top, the one nearest to their mean features
        F = coding.features(top)
        return Pick(coding.to_config(top[int(((F - F.mean(axis=0)) ** 2).sum(axis=1).argmin())]))


def _regression(X: Any, y: Any) -> Any:
    """`n x p`, `(n,)` -> a function of `m x p`."""
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import cross_val_score

    boosting = GradientBoostingRegressor(n_estimators=200, learning_rate=0.05, subsample=0.8, random_state=0)
    models = [boosting, RidgeCV(np.logspace(-3, 3, 13))]
    if float(np.ptp(y)) == 0.0:
        return models[1].fit(X, y).predict
    scores = [
        cross_val_score(model, X, y, cv=min(5, len(y)), scoring="neg_mean_squared_error").mean() for model in models
    ]
    return models[int(np.argmax(scores))].fit(X, y).predict
