"""python -m benchmarks.search: regret against spent budget, trials in flight, in simulated time.

Prints the emulator's own leave-out accuracy, then a table of mean regret +- standard error over the n seeds, a row a
method and a column a budget, and ours against the best rival. With --json also every run's trace.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Metric, Task, load_tasks
from benchmarks.emulator import build, describe
from benchmarks.methods import METHODS, RIVALS, in_flight, unknown
from benchmarks.problems.__main__ import span
from benchmarks.simulate import Problem, emulator_problem, pool_problem, simulate
from jobs_ray.report.numbers import full_runs


@dataclass(frozen=True)
class Job:
    method: str
    task: int
    budget: float
    seed: int


class Bench:
    """The problems, made once in each process (closures do not pickle; from the cache it takes half a second)."""

    def __init__(self, args: argparse.Namespace) -> None:
        metric: Metric = args.metric
        tasks = load_tasks(args.data, args.tasks)
        self.parallel = args.parallel
        self.accuracy: list[dict[str, Any]] = []
        if args.problem == "emulator":
            everything = load_tasks(args.data)  # the emulator learns from every task, whichever are searched
            emulators, self.accuracy = build(everything, metric)
            names = [task.name for task in tasks]
            self.problems: list[Problem] = [emulator_problem(e, args.noise) for e in emulators if e.name in names]
        elif args.problem == "pool":
            self.problems = [pool_problem(task, metric) for task in tasks]
        else:
            self.problems = [pool_problem(merge(tasks), metric)]

    def run(self, job: Job) -> dict[str, Any]:
        problem = self.problems[job.task]
        method = METHODS[job.method](problem, job.budget, job.seed)
        parallel = in_flight(job.method, self.parallel)
        trace = simulate(method, problem, job.budget, parallel=parallel, seed=job.seed)
        return {
            "method": job.method, "task": problem.name, "budget": job.budget, "seed": job.seed,
            "regret": trace.regret, "spent": trace.spent, "trials": trace.trials, "full_runs": trace.full_runs,
            "seconds": trace.seconds, "points": trace.points, "recommended": trace.recommended,
        }  # fmt: skip


def merge(tasks: Sequence[Task]) -> Task:
    """All tables as one pool: for eval_loss they are nearly replicates of one problem."""
    return Task(
        "all", np.concatenate([t.rows for t in tasks]), np.concatenate([t.eval_loss for t in tasks]),
        np.concatenate([t.performance for t in tasks]),
    )  # fmt: skip


_BENCH: list[Bench] = []  # one a worker process, filled by its initialiser


def _start(args: argparse.Namespace) -> None:
    _BENCH.append(Bench(args))


def _work(job: Job) -> dict[str, Any]:
    return _BENCH[0].run(job)


def run_all(bench: Bench, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Records in the order of (budget, method, task, seed), as they come in."""
    plan = [
        Job(method, task, budget, seed)
        for budget in args.budgets
        for method in args.methods
        for task in range(len(bench.problems))
        for seed in (args.seeds[: args.paper_seeds] if method.startswith("paper") else args.seeds)
    ]
    if args.jobs <= 1:
        yield from map(bench.run, plan)
        return
    with ProcessPoolExecutor(args.jobs, initializer=_start, initargs=(args,)) as pool:
        yield from pool.map(_work, plan)


def summarise(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard error of the regret, a record a method x budget, over `n` seeds.

    The tasks of a seed are averaged first: with the same seed on nearly the same problem they are one observation.
    """
    groups: dict[tuple[str, float], dict[int, list[dict[str, Any]]]] = {}
    for r in records:
        groups.setdefault((r["method"], r["budget"]), {}).setdefault(r["seed"], []).append(r)

    def summary(method: str, budget: float, seeds: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
        runs = seeds.values()
        mean = {name: [np.mean([r[name] for r in rs]) for rs in runs] for name in ("regret", "spent", "seconds")}
        regret, n = mean["regret"], len(seeds)
        return {
            "method": method, "budget": budget, "n": n, "seeds": sorted(seeds),
            **{name: float(np.mean(v)) for name, v in mean.items()},
            "stderr": float(np.std(regret, ddof=1) / np.sqrt(n)) if n > 1 else None,
        }  # fmt: skip

    return [summary(method, budget, seeds) for (method, budget), seeds in groups.items()]


def table(summary: Sequence[dict[str, Any]]) -> str:
    """Text: regret +- standard error (and n), and the ratio of ours to the best rival."""
    methods = list(dict.fromkeys(s["method"] for s in summary))
    budgets = sorted({s["budget"] for s in summary})
    at = {(s["method"], s["budget"]): s for s in summary}
    head = f"{'mean regret':22s}" + "".join(f"{f'C = {b:g}':>26s}" for b in budgets)
    lines = [head, "-" * len(head)]
    for method in methods:
        cells = []
        for budget in budgets:
            s = at.get((method, budget))
            error = "" if s is None or s["stderr"] is None else f" +- {s['stderr']:.3f}"
            cells.append("" if s is None else f"{s['regret']:.3f}{error} (n={s['n']})")
        lines.append(f"{method:22s}" + "".join(f"{c:>26s}" for c in cells))
    for label, excluded in (("jobs / best rival", ()), ("jobs / best but gp-ei", ("gp-ei",))):
        cells = []
        for budget in budgets:
            rivals = [at[m, budget] for m in methods if m in RIVALS and m not in excluded and (m, budget) in at]
            # means over other seeds compare luck
            rivals = [s for s in rivals if ("jobs", budget) in at and s["seeds"] == at["jobs", budget]["seeds"]]
            if rivals:
                best = min(rivals, key=lambda s: s["regret"])
                ratio = at["jobs", budget]["regret"] / best["regret"] if best["regret"] > 0 else float("nan")
                cells.append(f"{ratio:.2f} ({best['method']})")
        if cells:
            lines.append(f"{label:22s}" + "".join(f"{c:>26s}" for c in cells))
    return "\n".join(lines)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.search", description=__doc__)
    parser.add_argument("--data", help="folder of the task files (default: $JOBS_RAY_DATA, else ../shared/data)")
    parser.add_argument("--problem", choices=("emulator", "pool", "pool-all"), default="emulator")
    parser.add_argument("--budgets", type=full_runs, nargs="+", default=[5.0, 10.0, 20.0])
    parser.add_argument("--methods", default="jobs,random,gp-ei,halving,asha", help="of: " + ", ".join(METHODS))
    parser.add_argument("--seeds", type=span, default=range(20), help="a:b (default 0:20)")
    parser.add_argument("--paper-seeds", type=int, default=3, help="at most so many for the (slow) paper recipe")
    parser.add_argument("--metric", choices=("eval_loss", "performance"), default="eval_loss")
    parser.add_argument("--noise", type=float, help="sd of a report on the emulator (default .005 loss, .05 accuracy)")
    parser.add_argument("--tasks", nargs="+", help="only these tasks")
    parser.add_argument("--parallel", type=int, default=4, help="trials in flight")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="write the records here")
    args = parser.parse_args(argv)
    args.methods = [name.strip() for name in args.methods.split(",") if name.strip()]
    if bad := unknown(args.methods):
        parser.error(f"no method {bad[0]!r}: choose from {', '.join(METHODS)}")
    if args.parallel < 1:
        parser.error(f"--parallel: expected at least one trial in flight, came {args.parallel}")
    if args.problem == "pool-all" and args.metric == "performance":
        parser.error(
            "--problem pool-all is one pool of all tasks, whose accuracies do not compare; take --problem pool"
        )
    return args


def check(bench: Bench, args: argparse.Namespace) -> None:
    """Builds each method once: what cannot search this problem must not end the program after hours.

    Raises:
        SystemExit: a method cannot, or its library is not installed.
    """
    for method in args.methods:
        try:
            METHODS[method](bench.problems[0], min(args.budgets), args.seeds[0])
        except (ValueError, ImportError) as error:
            raise SystemExit(f"benchmarks.search: {method} on {args.problem}: {error}") from error


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    bench = Bench(args)
    check(bench, args)
    if args.problem == "emulator":
        print(describe(bench.accuracy), flush=True)
        print("regret is normalised: 0 = optimum of the emulator, 1 = median random configuration\n", flush=True)
    else:
        print("regret is raw: the pool's best final less the recommended configuration's, both real\n", flush=True)
    records = list(run_all(bench, args))
    summary = summarise(records)
    print(table(summary))
    if args.json:
        settings = {k: str(v) if isinstance(v, (Path, range)) else v for k, v in vars(args).items()}
        result = {"settings": settings, "emulator": bench.accuracy, "summary": summary, "runs": records}
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # for the worker processes; two threads on a 100 x 100 matrix only wait
    main()
