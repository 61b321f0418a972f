"""python -m benchmarks.predictor: how well finals are predicted from N full runs and k reports of 50 held-out runs.

A table of means over tasks and splits, and with --json one record a method x task x n_full x history.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.baselines import PREDICTORS, Answer, Case, answer
from benchmarks.data import MAX_T, Array, Ints, Metric, Task, load_tasks, mode_of

HELD_OUT = 50
SCORES = ("rmse", "median_abs_error", "spearman", "top1_regret", "coverage90", "r2", "fit_seconds")


@dataclass(frozen=True)
class Job:
    method: str
    task: Task
    metric: Metric
    n_full: int
    history: int
    split: int


def score(got: Answer, truth: Array, metric: Metric) -> dict[str, float]:
    """The scores of (m,) predictions; coverage is NaN where there is no interval."""
    sign = 1.0 if mode_of(metric) == "max" else -1.0
    error = got.mean - truth
    flat = np.ptp(got.mean) == 0 or np.ptp(truth) == 0
    covered = np.nan if got.low is None or got.high is None else np.mean((got.low <= truth) & (truth <= got.high))
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "median_abs_error": float(np.median(np.abs(error))),
        "spearman": 0.0 if flat else float(spearmanr(got.mean, truth)[0]),
        "top1_regret": float(np.max(sign * truth) - sign * truth[np.argmax(sign * got.mean)]),
        "coverage90": float(covered),
        "r2": float(1 - np.mean(error**2) / np.var(truth)),
        "fit_seconds": got.seconds,
    }


def split_of(n: int, n_full: int, split: int) -> tuple[Ints, Ints]:
    """Indices (n_full,) of the full runs and (50,) of the held-out ones; the same for every method."""
    if n < HELD_OUT + n_full:
        raise ValueError(f"expected at least {HELD_OUT + n_full} configurations for --n-full {n_full}, came {n}")
    order = np.random.default_rng(split).permutation(n)
    return order[HELD_OUT : HELD_OUT + n_full], order[:HELD_OUT]


def run(job: Job) -> dict[str, float]:
    full, new = split_of(len(job.task.rows), job.n_full, job.split)
    curves, rows = job.task.curves(job.metric), job.task.rows
    case = Case(job.metric, rows[full], curves[full], rows[new], curves[new, : job.history], job.split)
    return score(answer(job.method, case), curves[new, -1], job.metric)


def mean_of(values: Sequence[float]) -> float | None:
    """Mean, None where the score does not exist (JSON has no NaN)."""
    return None if any(np.isnan(v) for v in values) else float(np.mean(values))


def evaluate(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One record a method x task x n_full x history: means over splits, and how far the RMSE spreads over them.

    The splits are of the same hundred configurations, so that is no error for others."""
    tasks = load_tasks(args.data, args.tasks)
    cells = [(m, t, n, k) for m in args.methods for t in tasks for n in args.n_full for k in args.history]
    jobs = [Job(m, t, args.metric, n, k, s) for m, t, n, k in cells for s in range(args.splits)]
    if args.jobs > 1:
        with ProcessPoolExecutor(args.jobs) as pool:
            results = list(pool.map(run, jobs, chunksize=4))
    else:
        results = [run(job) for job in jobs]
    records = []
    for i, (method, task, n_full, history) in enumerate(cells):
        part = results[i * args.splits : (i + 1) * args.splits]
        record: dict[str, Any] = {"method": method, "task": task.name, "metric": args.metric, "n_full": n_full}
        record |= {"history": history, "splits": args.splits}
        record |= {name: mean_of([r[name] for r in part]) for name in SCORES}
        spread = [r["rmse"] for r in part]
        record["rmse_spread"] = float(np.std(spread, ddof=1)) if len(spread) > 1 else None
        records.append(record)
    return records


def table(records: Sequence[dict[str, Any]]) -> str:
    """Text: a row a (N, k, method), means over tasks."""
    head = f"{'N':>3} {'k':>3}  {'method':12s}" + "".join(f"{name:>18s}" for name in SCORES)
    lines = [head, "-" * len(head)]
    keys = list(dict.fromkeys((r["n_full"], r["history"]) for r in records))
    for n_full, history in sorted(keys):
        for method in dict.fromkeys(r["method"] for r in records):
            rows = [r for r in records if (r["n_full"], r["history"], r["method"]) == (n_full, history, method)]
            cells = []
            for name in SCORES:
                values = [r[name] for r in rows]
                cells.append("-" if None in values else f"{np.mean(values):.4f}")
            lines.append(f"{n_full:3d} {history:3d}  {method:12s}" + "".join(f"{c:>18s}" for c in cells))
    return "\n".join(lines)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.predictor", description=__doc__)
    parser.add_argument("--data", help="folder of the task files (default: $JOBS_RAY_DATA, else ../shared/data)")
    parser.add_argument("--n-full", type=int, nargs="+", default=[5, 10, 20, 30])
    parser.add_argument("--history", type=int, nargs="+", choices=range(1, MAX_T), default=[1, 2, 4, 8], metavar="K")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--metric", choices=("eval_loss", "performance"), default="eval_loss")
    parser.add_argument("--methods", nargs="+", choices=list(PREDICTORS), default=list(PREDICTORS))
    parser.add_argument("--tasks", nargs="+", help="only these tasks")
    parser.add_argument("--jobs", type=int, default=1, help="processes (the MLP takes seconds a fit)")
    parser.add_argument("--json", type=Path, help="write the records here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    records = evaluate(args)
    tasks = len({r["task"] for r in records})
    print(f"{args.metric}: means over {tasks} tasks x {args.splits} splits, {HELD_OUT} held-out configurations")
    print(table(records))
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # for the worker processes
    main()
