"""The strong classical rival: GP-EI on full runs, with an encoding that suits the space.

Square roots of the mixture weights, log2 of rank and alpha, the rest as it is; ARD Matern-5/2 with MAP
hyperparameters (benchmarks/gp.py), pending trials at their posterior mean, EI maximised over random configurations
and local moves. Nothing of the core is used, so the rival does not change when the core does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from benchmarks import gp
from benchmarks.data import ALPHA, DROPOUT, FIRST, FLAGS, LAYERS, MAX_T, RANK, Array, random_rows, to_config, to_rows
from benchmarks.emulator import moves
from benchmarks.protocol import FINISHED
from benchmarks.rivals import Rival


def encode(rows: Array) -> Array:
    """n x 19 -> n x 19 features, each of about unit variance over random configurations."""
    return np.column_stack([
        np.sqrt(rows[:, :9]) / 0.15, 2 * rows[:, FLAGS] - 1, 2 * rows[:, FIRST] - 1, (rows[:, LAYERS] - 16.5) / 9.2,
        (rows[:, DROPOUT] - 0.05) / 0.029, np.log2(rows[:, RANK]) / 1.4, np.log2(rows[:, ALPHA]) / 1.4,
    ])  # fmt: skip


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
        if self.left < MAX_T:
            return FINISHED
        done = [run for run in self.runs.values() if MAX_T in run.values]
        start = int(np.clip((self.left / MAX_T + len(self.runs)) // 3, 3, 8))  # a third of the budget, 3 to 8 runs
        if len(self.runs) < start or len(done) < 2:
            config = self.fresh()
            return FINISHED if config is None else self.begin(trial_id, config, MAX_T)
        rows = to_rows([run.config for run in done])
        y = np.array([run.values[MAX_T] for run in done])
        pending = to_rows([run.config for run in self.runs.values() if MAX_T not in run.values])
        score = self.score(rows, y, pending)
        if self.problem.candidates is not None:
            if not self.unused:
                return FINISHED
            values = score(to_rows([self.problem.candidates[i] for i in self.unused]))
            return self.begin(trial_id, self.problem.candidates[self.unused.pop(int(values.argmax()))], MAX_T)
        return self.begin(trial_id, to_config(self.maximise(score, rows[np.argsort(-y)[:3]])), MAX_T)

    def score(self, rows: Array, y: Array, pending: Array) -> Any:
        """rows n x 19, y (n,), pending k x 19 -> function of m x 19 giving log EI (m,)."""
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
        """(19,) by 1,000 random configurations and 40 rounds of local moves from the best ten and the incumbents."""
        rows = np.concatenate([random_rows(1000, self.rng), best_rows])
        values = score(rows)
        pick = np.unique(np.concatenate([np.argsort(-values)[:10], np.arange(1000, len(rows))]))
        rows, values = rows[pick], values[pick]
        n = len(rows)
        for _ in range(40):
            moved = moves(np.repeat(rows, 8, axis=0), 10 ** self.rng.uniform(-2, 0, 8 * n), self.rng)
            new = score(moved).reshape(n, 8)
            at = new.argmax(1)
            better = new[np.arange(n), at] > values
            rows = np.where(better[:, None], moved.reshape(n, 8, 19)[np.arange(n), at], rows)
            values = np.where(better, new[np.arange(n), at], values)
        return np.asarray(rows[values.argmax()])
