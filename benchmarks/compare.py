"""python -m benchmarks.compare: JoBS and rivals on generated problems with known optimum (benchmarks/problems).

    python -m benchmarks.compare --families mixing_law5 accuracy --instances 0:2 --seeds 0:3 --budgets 5 10 20 \
        --methods jobs,random,asha,gp-ei --jobs 2 --out DIR

DIR/results.jsonl has a line a run and is resumable: a run that is there is skipped. Methods can be added, and another
Python (one with SMAC, say) may write into the same DIR. DIR/summary.csv and the printed tables are made of those runs
in it that the flags ask for: name all methods, families, instances, seeds and budgets with `--report`, which runs
nothing. Tune on some instances, report on others.
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.methods import METHODS, in_flight, unknown
from benchmarks.problems.__main__ import span
from benchmarks.problems.suite import make, names
from benchmarks.ranking import report, write_csv
from benchmarks.simulate import simulate
from jobs_ray.report.numbers import full_runs

QUICK = {
    "families": ["mixing_law3", "mixing_law12", "corner", "accuracy", "diverging", "non_additive", "dims40"],
    "instances": range(2), "seeds": range(1), "budgets": [5.0, 10.0],
    "methods": "jobs,random,asha,halving,gp-ei",
}  # fmt: skip
FULL = {
    "families": [name for name in names() if name != "language"],  # its instances are one landscape, no blocks
    "instances": range(2), "seeds": range(3), "budgets": [5.0, 10.0, 20.0],
    "methods": "jobs,random,asha,halving,gp-ei",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One run; all fields together are its key in results.jsonl."""

    family: str
    instance: int
    budget: float
    seed: int
    method: str
    parallel: int

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(asdict(self).values())


def run(job: Job, data: str | None = None) -> dict[str, Any]:
    """The record of a run; one that raises is recorded with its error and tried again next time."""
    began = time.process_time()
    try:
        problem = make(job.family, job.instance, data).problem
        began = time.process_time()
        # a seed of the problem's own: the same seeds must not give the same mixture in every family
        seed = int(np.random.SeedSequence([job.seed, job.instance, *job.family.encode()]).generate_state(1)[0])
        method = METHODS[job.method](problem, job.budget, seed)
        trace = simulate(method, problem, job.budget, parallel=job.parallel, seed=seed)
    except Exception:
        return {**asdict(job), "error": traceback.format_exc(limit=-3)}
    points = [(round(spent, 4), round(regret, 6)) for spent, regret in trace.points]
    return {
        **asdict(job), "regret": trace.regret, "spent": round(trace.spent, 4), "trials": trace.trials,
        "full_runs": trace.full_runs, "cpu_s": round(time.process_time() - began, 3), "points": points,
    }  # fmt: skip


def plan(args: argparse.Namespace) -> list[Job]:
    """All runs, seed by seed, so that what an interrupted program leaves is balanced."""
    return [
        Job(family, instance, budget, seed, method, in_flight(method, args.parallel))
        for seed in args.seeds
        for instance in args.instances
        for family in args.families
        for budget in args.budgets
        for method in args.methods
    ]


def read(path: Path) -> list[dict[str, Any]]:
    """The records of results.jsonl, the last of each job."""
    return results.read(path, list(Job.__dataclass_fields__))


def run_all(jobs: Sequence[Job], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if args.jobs <= 1:
        yield from (run(job, args.data) for job in jobs)
        return
    with ProcessPoolExecutor(args.jobs) as pool:
        yield from pool.map(run, jobs, [args.data] * len(jobs))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = names(varied=True)
    parser.add_argument(
        "--families",
        nargs="+",
        help=f"of: {', '.join(known)} (default: those without = but language, whose instances are all alike)",
    )
    parser.add_argument("--instances", type=span, help="seeds of the generator, a:b (default 0:2)")
    parser.add_argument("--seeds", type=span, help="seeds of methods and noise, a:b (default 0:3)")
    parser.add_argument("--budgets", type=full_runs, nargs="+", help="in full runs (default 5 10 20)")
    parser.add_argument("--methods", help="of: " + ", ".join(METHODS) + " (default jobs,random,asha,halving,gp-ei)")
    parser.add_argument("--parallel", type=int, default=4, help="trials in flight (a -seq method has one)")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--data", help="folder of the public runs (regmix); default $JOBS_RAY_DATA or ../shared/data")
    parser.add_argument("--out", type=Path, required=True, help="folder of results.jsonl and summary.csv")
    parser.add_argument("--quick", action="store_true", help="seven families, two instances, one seed, budgets 5 10")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--plots", action="store_true", help="also write DIR/plots.html (needs plotly)")
    args = parser.parse_args(argv)
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.methods = [name.strip() for name in args.methods.split(",") if name.strip()]
    if bad := unknown(args.methods):
        parser.error(f"no method {bad[0]!r}: choose from {', '.join(METHODS)}")
    if wrong := [f for f in args.families if f not in known]:
        parser.error(f"no family {wrong[0]!r}: choose from {', '.join(known)}")
    if args.parallel < 1:
        parser.error(f"--parallel: expected at least one trial in flight, came {args.parallel}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "results.jsonl"
    wanted = plan(args)
    done = {tuple(r[n] for n in Job.__dataclass_fields__) for r in read(path) if "error" not in r}
    todo = [] if args.report else [job for job in wanted if job.key not in done]
    print(f"{len(wanted)} runs, {len(todo)} to do", flush=True)
    began = time.perf_counter()
    for count, record in enumerate(run_all(todo, args), 1):
        results.append(path, record)
        if "error" in record:
            print(f"{record['method']} on {record['family']}-{record['instance']}:\n{record['error']}", flush=True)
        if count % 50 == 0 or count == len(todo):
            print(f"{count}/{len(todo)} after {time.perf_counter() - began:.0f} s", flush=True)
    keys = {job.key for job in wanted}
    there = read(path)
    every = [r for r in there if tuple(r[n] for n in Job.__dataclass_fields__) in keys]
    records = [r for r in every if "error" not in r]
    if others := len(there) - len(every):
        print(f"{others} runs in {path} are not what these flags ask for, and in no table")
    if not records:
        print("no results")
        return
    write_csv(records, args.out / "summary.csv")
    print(report(records))
    if failed := len(every) - len(records):
        print(f"{failed} runs failed; they are not in the tables and are tried again next time")
    if args.plots:
        from benchmarks.plots import write_plots

        write_plots(records, args.out / "plots.html")


if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # for the worker processes; two threads on a 100 x 100 matrix only wait
    main()
