"""The shared real training runs: LoRA fine-tuning of Llama-3-8B, 100 configurations a task, 25 reports each.

Source: github.com/chenzhiliang94/Data-Mixing at 2f9198c (see README.md in the data folder).

Notation (n = configurations of a task, T = 25 reports)
    row     19 numbers of a configuration in the source's order        n x 19
    t       index of a report, 1 ... 25 (report t is at training step 25 t)
    curves  metric at t = 1 ... 25                                      n x 25
    config  the nested dict of Python values that the optimiser sees
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int_]
Config = dict[str, Any]
Metric = Literal["eval_loss", "performance"]
Scope = Literal["all", "data", "model"]

DOMAINS = (
    "commonsense_qa", "gsm8k", "rowan_hellaswag", "sciq", "triviaqa",
    "truthfulqa_gen", "wikitext", "mmlu", "arc_challenge",
)  # fmt: skip
MODULES = ("q_proj", "v_proj", "up_proj", "down_proj", "gate_proj")
MAX_T = 25
STEPS_PER_T = 25
LAYERS, FLAGS, RANK, DROPOUT, ALPHA, FIRST = 9, slice(10, 15), 15, 16, 17, 18
"""Columns of a row; 0-8 are the mixture."""

DEFAULT_MODEL: Mapping[str, Any] = {
    "layers": 32,
    "modules": {name: name in ("q_proj", "v_proj") for name in MODULES},
    "lora": {"r": 16, "alpha": 32, "dropout": 0.05},
    "first_layers": False,
}
"""What people take when they do not search the model side: LoRA of q and v in all 32 layers, r 16, alpha 32."""


@dataclass(frozen=True)
class Task:
    """One table of real runs. Shapes: rows n x 19, eval_loss n x 25, performance n x 25."""

    name: str
    rows: Array
    eval_loss: Array
    performance: Array

    def __post_init__(self) -> None:
        n = len(self.rows)
        if self.rows.shape != (n, 19) or n == 0:
            raise ValueError(f"task {self.name}: expected rows n x 19, got {self.rows.shape}")
        for metric, curves in (("eval_loss", self.eval_loss), ("performance", self.performance)):
            if curves.shape != (n, MAX_T) or not np.all(np.isfinite(curves)):
                raise ValueError(f"task {self.name}: expected finite {metric} {n} x {MAX_T}, got {curves.shape}")
        if np.max(np.abs(self.rows[:, :9].sum(1) - 1)) > 1e-6:
            raise ValueError(f"task {self.name}: mixtures (columns 0-8) must sum to 1")

    @property
    def steps(self) -> Array:
        """Training steps of the reports: 25, 50, ..., 625, shape (25,)."""
        return np.arange(1, MAX_T + 1, dtype=float) * STEPS_PER_T

    @property
    def configs(self) -> list[Config]:
        return [to_config(row) for row in self.rows]

    def curves(self, metric: Metric) -> Array:
        """n x 25 values of `metric`, at report index t = 1 ... 25."""
        return self.eval_loss if metric == "eval_loss" else self.performance


def mode_of(metric: Metric) -> Literal["min", "max"]:
    return "min" if metric == "eval_loss" else "max"


def data_folder(given: str | os.PathLike[str] | None = None, child: str = "llama3_lora_curves") -> Path:
    """The folder of public runs: `given`, else $JOBS_RAY_DATA, else ../shared/data beside the repository.

    Either the folder itself or its child of that name may hold the files (of the default one, the `<task>.json`).
    """
    root = Path(__file__).resolve().parents[1]
    folder = Path(given or os.environ.get("JOBS_RAY_DATA") or root.parent / "shared" / "data")
    return folder / child if (folder / child).is_dir() else folder


def load_task(path: Path) -> Task:
    records = json.loads(path.read_text())
    steps = [STEPS_PER_T * t for t in range(1, MAX_T + 1)]
    curves: dict[str, list[list[float]]] = {"eval_loss": [], "performance": []}
    for i, record in enumerate(records):
        at = {e["step"]: e for e in record["evaluations"]}
        missing = [s for s in steps if s not in at]
        if missing:
            raise ValueError(f"{path.name} record {i}: expected evaluations at steps 25 ... 625, missing {missing[:5]}")
        for metric, values in curves.items():
            values.append([at[s][metric] for s in steps])
    rows = np.array([record["input_X"] for record in records], dtype=float)
    return Task(path.stem, rows, np.array(curves["eval_loss"]), np.array(curves["performance"]))


def load_tasks(folder: str | os.PathLike[str] | None = None, names: Sequence[str] | None = None) -> list[Task]:
    """Every task file of the folder in alphabetical order, or those named.

    Raises:
        FileNotFoundError: no (such) task file is there.
    """
    where = data_folder(folder)
    paths = sorted(where.glob("*.json")) if where.is_dir() else []
    if names:
        found = {p.stem: p for p in paths}
        unknown = [name for name in names if name not in found]
        if unknown:
            raise FileNotFoundError(f"no task {unknown[0]!r} in {where}: found {sorted(found)}")
        paths = [found[name] for name in names]
    if not paths:
        raise FileNotFoundError(f"no <task>.json in {where}: give --data DIR or set JOBS_RAY_DATA")
    return [load_task(path) for path in paths]


def to_config(row: Array) -> Config:
    """(19,) -> nested config of Python values. The mixture is divided by its sum, which is 1 within 1e-6."""
    weights = row[:9] / row[:9].sum()
    return {
        "mixture": {name: float(w) for name, w in zip(DOMAINS, weights, strict=True)},
        "layers": int(row[LAYERS]),
        "modules": {name: bool(v) for name, v in zip(MODULES, row[FLAGS], strict=True)},
        "lora": {"r": int(row[RANK]), "alpha": int(row[ALPHA]), "dropout": float(np.clip(row[DROPOUT], 0, 0.1))},
        "first_layers": bool(row[FIRST]),
    }


def to_row(config: Mapping[str, Any]) -> Array:
    """Nested config -> (19,), the inverse of `to_config`."""
    lora = config["lora"]
    return np.array(
        [float(config["mixture"][name]) for name in DOMAINS]
        + [float(config["layers"])]
        + [float(config["modules"][name]) for name in MODULES]
        + [float(lora["r"]), float(lora["dropout"]), float(lora["alpha"]), float(config["first_layers"])]
    )


def to_rows(configs: Sequence[Mapping[str, Any]]) -> Array:
    return np.array([to_row(c) for c in configs]).reshape(-1, 19)


def random_rows(n: int, rng: np.random.Generator, scope: Scope = "all") -> Array:
    """n x 19 configurations drawn as the source drew its own.

    Read off the tables: Dirichlet(1) mixture, layers uniform on 1-32, the five flags fair coins but not all zero,
    rank uniform on 1-128, alpha uniform on 1-48 (both uniform, *not* log-uniform: median rank 57-70), dropout
    uniform on 0-0.1, first layers a fair coin.
    """
    flags = rng.integers(0, 2, (n, 5))
    while np.any(empty := flags.sum(1) == 0):
        flags[empty] = rng.integers(0, 2, (int(empty.sum()), 5))
    rows = np.column_stack([
        rng.dirichlet(np.ones(9), n), rng.integers(1, 33, n), flags, rng.integers(1, 129, n),
        rng.uniform(0, 0.1, n), rng.integers(1, 49, n), rng.integers(0, 2, n),
    ]).astype(float)  # fmt: skip
    return restrict(rows, scope)


def restrict(rows: Array, scope: Scope) -> Array:
    """Rows with the side that `scope` does not search replaced by its default (a new array, n x 19)."""
    default = to_row({"mixture": dict.fromkeys(DOMAINS, 1 / 9), **DEFAULT_MODEL})
    out = rows.copy()
    if scope == "data":
        out[:, 9:] = default[9:]
    elif scope == "model":
        out[:, :9] = default[:9]
    return out


def search_space(scope: Scope = "all") -> dict[str, Any]:
    """The space of the tables as a core-API dict; `data` fixes the model side, `model` the (uniform) mixture."""
    from jobs_ray.space import Categorical, Integer, Mixture
    from jobs_ray.space.search_space import Real  # the core may be absent while only data is wanted

    data: dict[str, Any] = {"mixture": Mixture(list(DOMAINS))}
    model: dict[str, Any] = {
        "layers": Integer(1, 32),
        "modules": {name: Categorical([False, True]) for name in MODULES},
        "lora": {"r": Integer(1, 128, log=True), "alpha": Integer(1, 48, log=True), "dropout": Real(0.0, 0.1)},
        "first_layers": Categorical([False, True]),
    }
    if scope == "data":
        model = {k: dict(v) if isinstance(v, Mapping) else v for k, v in DEFAULT_MODEL.items()}
    elif scope == "model":
        data = {"mixture": dict.fromkeys(DOMAINS, 1 / 9)}
    return {**data, **model}
