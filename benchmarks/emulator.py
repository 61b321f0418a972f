"""An emulator of whole learning curves, fitted to the real ones: any configuration -> its curve at t = 1 ... 25.

Curves (log loss, or raw accuracy) of all tasks, less each task's mean curve, are reduced to a few principal
components; the scores are regressed on the configuration by one GP a component over all tasks (benchmarks/gp.py:
a function shared by the tasks + one of the task's own). Tried on the three shared tasks, 5-fold leave-out R2 of
the final loss: this .938, no part of its own .935, every task by itself .846.

Its curves are posterior means, so they are smoother than real ones: `accuracy` measures how good they are on
configurations left out, and whether they cross as the real ones do (rank correlation of t = 1, 2, 4 with the final).

All five flags off: the source never tried it (there is nothing to train), the space allows it. The GP extrapolates,
and its curve is taken no better at any t than the worst of the five single-flag neighbours.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks import gp
from benchmarks.data import (
    ALPHA,
    DROPOUT,
    FIRST,
    FLAGS,
    LAYERS,
    RANK,
    Array,
    Config,
    Metric,
    Scope,
    Task,
    random_rows,
    restrict,
    to_rows,
)  # fmt: skip

COMPONENTS = {"eval_loss": 4, "performance": 3}
CACHE = Path(__file__).with_name(".cache")
VERSION = 1


def encode(rows: Array) -> Array:
    """n x 19 -> n x 18 features: sqrt of the weights, flags, logs, and how far the layers lie to the front."""
    layers, front = rows[:, LAYERS], 2 * rows[:, FIRST] - 1
    return np.column_stack([
        np.sqrt(rows[:, :9]), rows[:, FLAGS], rows[:, DROPOUT], np.log2(rows[:, RANK]), np.log2(rows[:, ALPHA]),
        np.log2(layers), front * (1 - layers / 32),
    ])  # fmt: skip


@dataclass(frozen=True)
class Model:
    """Everything fitted. Shapes: shift, scale (18,); means tasks x 25; axes c x 25; sizes (c,); one GP a component."""

    metric: Metric
    shift: Array
    scale: Array
    means: Array
    axes: Array
    sizes: Array
    gps: tuple[gp.TaskGP, ...]

    def curves(self, rows: Array, task: int) -> Array:
        """m x 19 -> m x 25 values of the metric (noise-free, deterministic)."""
        out = self._raw(rows, task)
        for i in np.flatnonzero(rows[:, FLAGS].sum(1) == 0):
            neighbours = np.repeat(rows[i : i + 1], 5, axis=0)
            neighbours[:, FLAGS] = np.eye(5)
            near = self._raw(neighbours, task)
            out[i] = np.maximum(out[i], near.max(0)) if self.metric == "eval_loss" else np.minimum(out[i], near.min(0))
        return out

    def _raw(self, rows: Array, task: int) -> Array:
        Z = (encode(rows) - self.shift) / self.scale
        scores = np.stack([model.mean(Z, task) for model in self.gps], axis=1) * self.sizes
        values = self.means[task] + scores @ self.axes
        return np.asarray(np.exp(values) if self.metric == "eval_loss" else np.clip(values, 0, 1))


def fit_model(tasks: Sequence[Task], metric: Metric, thetas: Sequence[Array] | None = None,
              keep: Sequence[Any] | None = None) -> Model:  # fmt: skip
    """Fit on all rows, or for each task on the rows that its boolean mask in `keep` (n,) selects."""
    masks = keep if keep is not None else [np.ones(len(t.rows), dtype=bool) for t in tasks]
    rows = np.concatenate([t.rows[m] for t, m in zip(tasks, masks, strict=True)])
    g = np.concatenate([np.full(int(m.sum()), i) for i, m in enumerate(masks)])
    values = np.concatenate([t.curves(metric)[m] for t, m in zip(tasks, masks, strict=True)])
    values = np.log(values) if metric == "eval_loss" else values
    F = encode(rows)
    shift, scale = F.mean(0), np.maximum(F.std(0), 1e-9)
    means = np.stack([values[g == i].mean(0) for i in range(len(tasks))])
    rest = values - means[g]
    axes = principal_axes(rest, COMPONENTS[metric])
    scores = rest @ axes.T
    sizes = scores.std(0)
    Z = (F - shift) / scale
    models = tuple(
        gp.fit(Z, g, scores[:, j] / sizes[j], None if thetas is None else thetas[j]) for j in range(len(axes))
    )
    return Model(metric, shift, scale, means, axes, sizes, models)


def accuracy(tasks: Sequence[Task], metric: Metric, folds: int = 5) -> list[dict[str, Any]]:
    """k-fold leave-out accuracy, everything refitted in every fold: one record a task.

    r2 and spearman at t = 2, 4, 25 on configurations left out; rank_real and rank_emulated are the Spearman
    correlation of t = 1, 2, 4 with the final among the real curves and among the emulated ones.
    """
    rng = np.random.default_rng(0)
    fold = [rng.permutation(len(t.rows)) % folds for t in tasks]
    predicted = [np.zeros_like(t.curves(metric)) for t in tasks]
    for f in range(folds):
        model = fit_model(tasks, metric, keep=[own != f for own in fold])
        for i, task in enumerate(tasks):
            out = fold[i] == f
            predicted[i][out] = model.curves(task.rows[out], i)
    records = []
    for task, guess in zip(tasks, predicted, strict=True):
        real = task.curves(metric)
        record: dict[str, Any] = {"task": task.name, "metric": metric, "folds": folds}
        for t in (2, 4, 25):
            a, b = real[:, t - 1], guess[:, t - 1]
            record[f"r2@{t}"] = float(1 - np.mean((a - b) ** 2) / np.var(a))
            record[f"spearman@{t}"] = float(spearmanr(a, b)[0])
        for name, curves in (("rank_real", real), ("rank_emulated", guess)):
            record[name] = [float(spearmanr(curves[:, t - 1], curves[:, -1])[0]) for t in (1, 2, 4)]
        records.append(record)
    return records


@dataclass(frozen=True)
class Emulator:
    """One task of the emulator. `best_row` (19,) attains `optimum`; `median` is of random finals."""

    name: str
    task: int
    model: Model
    optimum: float
    median: float
    best_row: Array

    @property
    def metric(self) -> Metric:
        return self.model.metric

    def curves(self, configs: Sequence[Config]) -> Array:
        """m configs -> m x 25."""
        return self.model.curves(to_rows(configs), self.task)

    def curve(self, config: Config) -> Array:
        """(25,) values at t = 1 ... 25."""
        return np.asarray(self.curves([config])[0])

    def regret(self, config: Config) -> float:
        """Normalised noise-free regret: 0 = optimum, 1 = the median random configuration."""
        return float((self.curve(config)[-1] - self.optimum) / (self.median - self.optimum))


def search_optimum(model: Model, task: int, samples: int = 20000, starts: int = 20, scope: Scope = "all") -> Array:
    """(19,) best configuration found: the best of `samples` random ones, then local search from the best `starts`.

    The local search moves all starts at once, 300 rounds of 8 proposals each: mixture (towards a Dirichlet draw or a
    vertex), numbers (log-normal or uniform jumps), flags (flips), with steps that shrink. Random rows keep out
    all-zero flags, and so do the moves: that corner is not the best by construction.
    """
    rng = np.random.default_rng(task)
    sign = 1.0 if model.metric == "eval_loss" else -1.0
    rows = random_rows(samples, rng, scope)
    order = np.argsort(sign * model.curves(rows, task)[:, -1])
    rows = rows[order[:starts]]
    value = sign * model.curves(rows, task)[:, -1]
    for round_ in range(300):
        step = 10 ** rng.uniform(-2.5, 0 if round_ < 150 else -0.7, 8 * starts)
        moved = restrict(moves(np.repeat(rows, 8, axis=0), step, rng), scope)
        new = (sign * model.curves(moved, task)[:, -1]).reshape(starts, 8)
        pick = new.argmin(1)
        better = new[np.arange(starts), pick] < value
        rows = np.where(better[:, None], moved.reshape(starts, 8, 19)[np.arange(starts), pick], rows)
        value = np.where(better, new[np.arange(starts), pick], value)
    return np.asarray(rows[value.argmin()])


def moves(rows: Array, step: Array, rng: np.random.Generator) -> Array:
    """One random proposal a row, n x 19; `step` (n,) in (0, 1] is its size."""
    n = len(rows)
    out = rows.copy()
    target = np.where(rng.random((n, 1)) < 0.5, rng.dirichlet(np.ones(9), n), np.eye(9)[rng.integers(0, 9, n)])
    pull = np.where(rng.random(n) < 0.5, step, 0.0)[:, None]
    away = np.maximum(out[:, :9] + np.where(rng.random((n, 1)) < 0.5, pull, -pull) * (target - out[:, :9]), 0)
    out[:, :9] = away / away.sum(1, keepdims=True)
    for column, top in ((LAYERS, 32), (RANK, 128), (ALPHA, 48)):
        jump = np.round(out[:, column] * np.exp(2 * step * rng.normal(size=n)) + rng.integers(-1, 2, n))
        out[:, column] = np.where(rng.random(n) < 0.4, np.clip(jump, 1, top), out[:, column])
    dropout = np.clip(out[:, DROPOUT] + 0.1 * step * rng.normal(size=n), 0, 0.1)
    out[:, DROPOUT] = np.where(rng.random(n) < 0.4, dropout, out[:, DROPOUT])
    flip = rng.random((n, 5)) < 0.1
    flags = np.abs(out[:, FLAGS] - flip)
    out[:, FLAGS] = np.where(flags.sum(1, keepdims=True) == 0, out[:, FLAGS], flags)
    out[:, FIRST] = np.abs(out[:, FIRST] - (rng.random(n) < 0.1))
    return out


def keep(path: Path, data: Any) -> None:
    """Writes JSON at once: another process may be at it, too."""
    path.parent.mkdir(exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(data))
    scratch.replace(path)


def principal_axes(rest: Array, count: int) -> Array:
    """`count` x T of rows n x T whose mean is 0. An SVD's signs are arbitrary: they are fixed, for the cache."""
    axes = np.linalg.svd(rest, full_matrices=False)[2][:count]
    return np.asarray(axes * np.sign(axes.sum(1, keepdims=True)))


def build(tasks: Sequence[Task], metric: Metric = "eval_loss", *, cache: bool = True,
          check: bool = True) -> tuple[list[Emulator], list[dict[str, Any]]]:  # fmt: skip
    """One emulator a task, and the leave-out accuracy (empty if not `check`).

    median: of the finals of 4096 random configurations drawn as the source drew its own (`data.random_rows`).
    cache: keep hyperparameters, optimum and accuracy in benchmarks/.cache, keyed by the data (it may vanish).
    """
    parts = [f"{VERSION}{metric}{COMPONENTS[metric]}{check}"] + [t.name for t in tasks]
    key = hashlib.sha256("".join(parts).encode())
    for task in tasks:
        key.update(task.rows.tobytes() + task.curves(metric).tobytes())
    path = CACHE / f"{key.hexdigest()[:16]}.json"
    if cache and path.exists():
        saved = json.loads(path.read_text())
        model = fit_model(tasks, metric, [np.array(theta) for theta in saved["thetas"]])
    else:
        model = fit_model(tasks, metric)
        saved = {
            "thetas": [g.theta.tolist() for g in model.gps],
            "best": [search_optimum(model, i).tolist() for i in range(len(tasks))],
            "accuracy": accuracy(tasks, metric) if check else [],
        }
        if cache:
            keep(path, saved)
    emulators = []
    for i, task in enumerate(tasks):
        best = np.array(saved["best"][i])
        finals = model.curves(random_rows(4096, np.random.default_rng(10_000)), i)[:, -1]
        optimum = float(model.curves(best[None], i)[0, -1])
        emulators.append(Emulator(task.name, i, model, optimum, float(np.median(finals)), best))
    return emulators, saved["accuracy"]


def describe(records: Sequence[dict[str, Any]]) -> str:
    """The leave-out accuracy as text, with a warning where it is poor."""
    if not records:
        return "emulator accuracy: not measured"
    lines = [f"emulator, {records[0]['folds']}-fold leave-out accuracy on {records[0]['metric']} (R2 / Spearman):"]
    for r in records:
        at = "  ".join(f"t={t}: {r[f'r2@{t}']:.3f} / {r[f'spearman@{t}']:.3f}" for t in (2, 4, 25))
        ranks = " ".join(f"{a:.2f}/{b:.2f}" for a, b in zip(r["rank_real"], r["rank_emulated"], strict=True))
        lines.append(f"  {r['task']:18s} {at}   rank of t=1,2,4 with the final, real/emulated: {ranks}")
        if r["r2@25"] < 0.7:
            lines.append(f"  {'':18s} POOR: it explains only {max(r['r2@25'], 0):.0%} of the final's variance")
    return "\n".join(lines)
