"""Pretraining runs on SlimPajama mixtures (meiqwq/Explaining-Data-Mixing-Scaling-Laws): 7 domains, real curves.

40 to 60 mixtures a model size, ten reports each. A regression of the curves (principal components of their logarithms,
each a GP on square roots of the weights, benchmarks/gp.py) answers any mixture; what is wanted is a weighted mean of
the losses that depends on the instance, as does the size. The runs have weights of .02 to .42: beyond, the regression
goes back to their mean.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.data import Array, data_folder
from benchmarks.emulator import CACHE
from benchmarks.problems.layout import Layout
from benchmarks.problems.regression import Curves, left_out, regress_once
from benchmarks.problems.shapes import Drawn
from benchmarks.problems.terms import Rng

DOMAINS, REPORTS, COMPONENTS = 7, 10, 3
SIZES = (122e6, 310e6, 680e6, 937e6)
"""Parameters of the models of which there are 40 runs at least (of the larger ones 20 and 4)."""

_NOISE = 0.03  # sd of a report, in sds of the finals, as in the families of losses


def table_path(given: str | None = None) -> Path:
    """In `data_folder(given)`."""
    return data_folder(given, "slimpajama_mixtures") / "dmsl_llm_slimpajama.csv"


@lru_cache(maxsize=8)
def load(path: Path, size: float) -> tuple[Array, Array]:
    """Weights n x 7, and losses n x 10 x 7 at equal shares of a run.

    Raises:
        FileNotFoundError: the table is not there.
    """
    if not path.exists():
        raise FileNotFoundError(f"no {path.name} in {path.parent}: give --data DIR or set JOBS_RAY_DATA")
    runs: dict[tuple[float, ...], list[tuple[float, ...]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if float(row["model_size"]) == size:
                weights = tuple(float(value) for name, value in row.items() if name.startswith("weight_"))
                losses = [value for name, value in row.items() if name.endswith("_loss") and name != "openhermes_loss"]
                if all(losses):
                    runs[weights].append((float(row["n_tokens"]), *map(float, losses)))
    share, found = np.arange(1, REPORTS + 1) / REPORTS, []
    for reports in runs.values():
        table = np.array(sorted(reports))
        tokens = table[:, 0] / table[-1, 0]
        found.append(np.stack([np.interp(share, tokens, table[:, 1 + i]) for i in range(DOMAINS)], axis=1))
    W = np.array(list(runs))
    return np.asarray(W / W.sum(1, keepdims=True)), np.array(found)


def wanted(instance: int) -> tuple[float, Array]:
    """The model's size, and (7,) weights of the losses: their mean, then broad and narrow random ones."""
    rng = np.random.default_rng((instance, 7))
    size = SIZES[instance % len(SIZES)]
    if instance < len(SIZES):
        return size, np.full(DOMAINS, 1 / DOMAINS)
    return size, rng.dirichlet(np.full(DOMAINS, 1.0 if instance % 2 == 0 else 0.3))


def features(W: Array) -> Array:
    return np.asarray(np.sqrt(W) / 0.15)


def fitted(instance: int, data: str | None) -> tuple[Array, Array, Curves]:
    """Weights n x 7 and log curves n x 10 of what is wanted, and their regression (hyperparameters are cached)."""
    size, weights = wanted(instance)
    W, losses = load(table_path(data), size)
    logs = np.log(losses @ weights)
    path = CACHE / f"slimpajama-gp-{instance}-{len(W)}.json"
    return W, logs, regress_once(path, features(W), logs, COMPONENTS)


def leave_out_r2(instance: int, data: str | None = None) -> float:
    """Of the regression's final on runs left out."""
    W, logs, curves = fitted(instance, data)
    return left_out(features(W), logs, curves)[0]


def slimpajama(rng: Rng, instance: int, data: str | None = None) -> Drawn:
    """Real curves of pretraining; nothing differs but the mixture."""
    _, logs, curves = fitted(instance, data)

    def whole(rows: Array) -> Array:
        return curves(features(rows))

    return Drawn(
        Layout(DOMAINS),
        "eval_loss",
        lambda rows: whole(rows)[:, -1],
        whole,
        _NOISE * float(np.exp(logs[:, -1]).std()),
        REPORTS,
    )
