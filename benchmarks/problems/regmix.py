"""RegMix's public runs (Liu et al. 2024, MIT): 17 Pile domains -> 13 validation losses, 768 runs at 1M parameters.

The final is a smooth regression of them (a GP on square roots of the weights, benchmarks/gp.py); what is wanted is a
weighted mean of the 13 losses that depends on the instance. The source has no learning curves: they are made up like
those of the other families.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks import gp
from benchmarks.data import Array, data_folder
from benchmarks.emulator import CACHE, keep
from benchmarks.problems.layout import Layout
from benchmarks.problems.shapes import Drawn, losses
from benchmarks.problems.terms import Rng, standard

DOMAINS, TARGETS, PILE_CC = 17, 13, 8
"""Pile-CC's place among the 13 losses: the target of the RegMix paper."""


@lru_cache(maxsize=2)
def load(folder: Path) -> tuple[Array, Array]:
    """Weights n x 17 (renormalised: the source rounds them) and losses n x 13 of both splits.

    Raises:
        FileNotFoundError: the tables are not there.
    """
    parts = []
    for split in ("train", "test"):
        pair = []
        for kind, width in (("mixture", DOMAINS), ("pile_loss", TARGETS)):
            path = folder / f"{split}_{kind}_1m.csv"
            if not path.exists():
                raise FileNotFoundError(f"no {path.name} in {folder}: give --data DIR or set JOBS_RAY_DATA")
            table = np.loadtxt(path, delimiter=",", skiprows=1)
            if table.shape[1] != width + 1:
                raise ValueError(f"{path}: expected an index and {width} columns, got {table.shape[1]} columns")
            pair.append(table[np.argsort(table[:, 0])])
        if not np.array_equal(pair[0][:, 0], pair[1][:, 0]):
            raise ValueError(f"{folder}: the {split} mixtures and losses are not of the same runs")
        parts.append((pair[0][:, 1:], pair[1][:, 1:]))
    W, L = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return np.asarray(W / W.sum(1, keepdims=True)), L


def wanted(instance: int) -> Array:
    """(13,) weights of the losses: 0 their mean, 1 Pile-CC alone, then broad (even) and narrow (odd) random ones."""
    rng = np.random.default_rng((instance, 13))
    if instance == 0:
        return np.full(TARGETS, 1 / TARGETS)
    if instance == 1:
        return np.asarray(np.eye(TARGETS)[PILE_CC])
    return rng.dirichlet(np.full(TARGETS, 1.0 if instance % 2 == 0 else 0.1))


def fit(W: Array, y: Array, name: str) -> gp.TaskGP:
    """GP of the standardised target on sqrt(weights) / .15; its hyperparameters are kept in benchmarks/.cache."""
    Z, task = np.sqrt(W) / 0.15, np.zeros(len(y), dtype=int)
    path = CACHE / f"{name}.json"
    theta = np.array(json.loads(path.read_text())) if path.exists() else None
    model = gp.fit(Z, task, y, theta, own=False)
    if theta is None:
        keep(path, model.theta.tolist())
    return model


def leave_out_r2(instance: int, data: str | None = None, folds: int = 5) -> float:
    """R2 of the regression (on the log scale) on runs left out, hyperparameters from all of them."""
    W, y, name = target(instance, data)
    theta = fit(W, y, name).theta
    fold = np.random.default_rng(0).permutation(len(y)) % folds
    guess = np.zeros(len(y))
    for f in range(folds):
        kept = fold != f
        model = gp.fit(np.sqrt(W[kept]) / 0.15, np.zeros(int(kept.sum()), dtype=int), y[kept], theta, own=False)
        guess[~kept] = model.mean(np.sqrt(W[~kept]) / 0.15, 0)
    return float(1 - np.mean((y - guess) ** 2) / np.var(y))


def target(instance: int, data: str | None) -> tuple[Array, Array, str]:
    """Weights n x 17, the standardised log target (n,), and a name for the cache."""
    W, L = load(data_folder(data, "regmix"))
    y = np.log(L @ wanted(instance))
    return W, (y - y.mean()) / y.std(), f"regmix-gp-{instance}-{len(y)}"


def regmix(rng: Rng, instance: int, data: str | None = None) -> Drawn:
    """Real mixtures of 17 domains, half of which are worth nothing to most targets."""
    model = fit(*target(instance, data))
    layout = Layout(DOMAINS)
    return losses(layout, rng, standard(lambda rows: model.mean(np.sqrt(rows) / 0.15, 0), layout))
