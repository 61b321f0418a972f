"""A regression of real learning curves: principal components of their logarithms, each a GP (benchmarks/gp.py)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import gp
from benchmarks.data import Array
from benchmarks.emulator import keep, principal_axes

_FOLDS = 5


@dataclass(frozen=True)
class Curves:
    """Mean (T,) and axes c x T of log curves, and a GP of each component."""

    mean: Array
    axes: Array
    models: tuple[gp.TaskGP, ...]

    def __call__(self, F: Array) -> Array:
        """Curves m x T of features m x p."""
        scores = np.stack([model.mean(F, 0) for model in self.models], axis=1)
        return np.asarray(np.exp(self.mean + scores @ self.axes))


def regress(F: Array, logs: Array, thetas: Sequence[Array | None]) -> Curves:
    """Of log curves n x T on features n x p; `thetas`: a component each, its hyperparameters where they are known."""
    mean = logs.mean(0)
    axes = principal_axes(logs - mean, len(thetas))
    scores = (logs - mean) @ axes.T
    sizes, task = scores.std(0), np.zeros(len(F), dtype=int)
    models = tuple(gp.fit(F, task, scores[:, j] / sizes[j], theta, own=False) for j, theta in enumerate(thetas))
    return Curves(mean, axes * sizes[:, None], models)


def regress_once(path: Path, F: Array, logs: Array, components: int) -> Curves:
    """The same; hyperparameters are kept at `path`, or taken from there."""
    if path.exists():
        return regress(F, logs, [np.array(theta) for theta in json.loads(path.read_text())])
    found = regress(F, logs, [None] * components)
    keep(path, [model.theta.tolist() for model in found.models])
    return found


def left_out(F: Array, logs: Array, curves: Curves) -> tuple[float, Array]:
    """(R2 of the final, the finals n predicted) of runs left out, in five folds; hyperparameters from all of them."""
    thetas = [model.theta for model in curves.models]
    fold, guess = np.random.default_rng(0).permutation(len(F)) % _FOLDS, np.zeros(len(F))
    for f in range(_FOLDS):
        guess[fold == f] = regress(F[fold != f], logs[fold != f], thetas)(F[fold == f])[:, -1]
    final = np.exp(logs[:, -1])
    return float(1 - np.mean((final - guess) ** 2) / np.var(final)), guess
