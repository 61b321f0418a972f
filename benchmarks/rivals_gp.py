"""The strong classical rival: GP-EI on full runs, with an encoding that suits the space.

Square roots of the mixture weights, logarithms where the scale is one (`coding.features`); ARD Matern-5/2 with MAP
hyperparameters (benchmarks/gp.py), pending trials at their posterior mean, EI maximised over random configurations
and local moves. Nothing of the core is used, so the rival does not change when the core does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from benchmarks import gp
from benchmarks.data import Array
from benchmarks.protocol import FINISHED
from benchmarks.rivals import Rival


def log_expected_improvement(mean: Array, sd: Array, best: float) -> Array:
    """log EI for maximisation, stable far below the best (Ament et al. 2023, by the ratio of the tail)."""
    u = (mean - best) / sd
    with np.errstate(divide="ignore", invalid="ignore"):
        direct = np.log(norm.pdf(u) + u * norm.cdf(u))
        tail = norm.logpdf(u) - 2 * np.log(np.maximum(-u, 1.0))
    usable = (u > -6) & np.isfinite(direct)
    return np.asarray(np.log(sd) + np.where(usable, direct, tail))


class GPEI(Rival):
    """Bayesian optimisation on full runs only."""

    def ask(self, trial_id: str) -> Any:
        if self.left < self.max_t:
            return self.wait_or_finish()
        done = [run for run in self.runs.values() if self.max_t in run.values]
        failed = [run for run in self.runs.values() if run.ended and self.max_t not in run.values]
        start = int(np.clip((self.left / self.max_t + len(self.runs)) // 3, 3, 8))  # a third of the budget, 3 to 8 runs
        if len(self.runs) < start or len(done) < 2:
            config = self.fresh()
            return FINISHED if config is None else self.begin(trial_id, config, self.max_t)
        coding, pool = self.problem.coding, self.problem.candidates
        finals = [run.last for run in done if np.isfinite(run.last)]
        worst = min(finals, default=0.0)
        rows = coding.to_rows([run.config for run in [*done, *failed]])
        y = np.array([max(run.last, worst) for run in done] + [worst] * len(failed))  # a crash: as bad as the worst
        pending = coding.to_rows([run.config for run in self.runs.values() if not run.ended])
        score = self.score(rows, y, pending)
        if pool is not None:
            if not self.unused:
                return FINISHED
            values = score(coding.to_rows([pool[i] for i in self.unused]))
            return self.begin(trial_id, pool[self.unused.pop(int(values.argmax()))], self.max_t)
        best = self.maximise(score, rows[np.argsort(-y)[:3]])
        return self.begin(trial_id, coding.to_config(best), self.max_t)

    def score(self, rows: Array, y: Array, pending: Array) -> Any:
        """rows n x d, y (n,), pending k x d -> function of m x d giving log EI (m,)."""
        encode = self.problem.coding.features
        centre, size = float(y.mean()), max(float(y.std()), 1e-9)
        Z, z = encode(rows), (y - centre) / size
        model = gp.fit(Z, np.zeros(len(z), dtype=int), z, own=False)
        if len(pending):
            Z = np.concatenate([Z, encode(pending)])
            z = np.concatenate([z, model.mean(encode(pending), 0)])
            model = gp.fit(Z, np.zeros(len(z), dtype=int), z, model.theta, own=False)
        best = float(model.mean(Z, 0).max())  # the reports are noisy: the best posterior mean, not the best report
        return lambda new: log_expected_improvement(model.mean(encode(new), 0), model.sd(encode(new)), best)

    def maximise(self, score: Any, best_rows: Array) -> Array:
        """(d,) by 1,000 random configurations and 40 rounds of local moves from the best ten and the incumbents."""
        coding = self.problem.coding
        rows = np.concatenate([coding.random(1000, self.rng), best_rows])
        values = score(rows)
        pick = np.unique(np.concatenate([np.argsort(-values)[:10], np.arange(1000, len(rows))]))
        rows, values = rows[pick], values[pick]
        n = len(rows)
        for _ in range(40):
            moved = coding.moves(np.repeat(rows, 8, axis=0), 10 ** self.rng.uniform(-2, 0, 8 * n), self.rng)
            new = score(moved).reshape(n, 8)
            at = new.argmax(1)
            better = new[np.arange(n), at] > values
            rows = np.where(better[:, None], moved.reshape(n, 8, -1)[np.arange(n), at], rows)
            values = np.where(better, new[np.arange(n), at], values)
        return np.asarray(rows[values.argmax()])
