"""python -m benchmarks.lm_compare: the demo's language model, searched by JoBS and by others through the real Ray Tune.

    python -m benchmarks.lm_compare --methods jobs,optuna-asha,asha,random --seeds 0:3 --budget 10 --out DIR

Every method may train `--budget` full runs' worth of steps, two trials at a time, each configuration with a seed of its
own (`Task.seed_per_config`). What it recommends is trained anew in this process with seeds that
no search has used, the same for all, and judged on the whole *test* slice.
DIR/results.jsonl has a line a (method, seed) and is resumable; DIR/trials/ has each search's curves, and JoBS' own
report. Nothing depends on wall time. `--report` only prints the table of what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.lm_methods import METHODS, PARALLEL, Bench
from benchmarks.lm_sizes import SIZES
from benchmarks.lm_table import table
from benchmarks.problems.__main__ import span
from jobs_ray.lm.demo import demo_task
from jobs_ray.lm.demo_ray import local_ray
from jobs_ray.lm.task import Task

_FINAL_SEED = 100_000  # searches train with their own seed, a small number
_FINALS = 2


def final_losses(test: Task, config: Mapping[str, Any], seed: int) -> dict[str, float]:
    """{seed: loss on the whole test slice} of full runs from scratch, with seeds that no search has."""
    from jobs_ray.lm import run

    seeds = [_FINAL_SEED + _FINALS * seed + i for i in range(_FINALS)]
    once = replace(test, eval_every=test.max_steps, eval_rows=None)
    return {str(s): float(run(once, {**config, "seed": s})[-1]["eval_loss"]) for s in seeds}


def run_one(method: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """The record of one search and its final runs; the search's trials go to a file of their own."""
    size, began = SIZES[args.size], time.perf_counter()
    task = replace(demo_task(args.data, size), seed=seed)
    found = METHODS[method](Bench(task, size, args.budget, seed, args.out / "experiments" / f"{method}-{seed}"))
    config = {k: v for k, v in found.config.items() if k not in (task.steps_key, task.resume_key)}
    searched, account = time.perf_counter() - began, found.account
    trials = [{"config": account.configs[name], "curve": curve} for name, curve in account.curves.items()]
    (args.out / "trials").mkdir(parents=True, exist_ok=True)
    detail = {"trials": trials, "report": found.report}
    file = args.out / "trials" / f"{method}-{seed}-{args.size}-{args.budget:g}.json"
    file.write_text(json.dumps(detail, default=str))
    losses = final_losses(demo_task(args.data, size, "test"), config, seed)
    return {
        "method": method, "seed": seed, "size": args.size, "budget": args.budget,
        "test_loss": sum(losses.values()) / len(losses), "finals": losses, "validation": found.value,
        "spent": account.spent / size.max_steps, "trials": len(trials),
        "full_runs": sum(curve[-1][0] >= size.max_steps for curve in account.curves.values()),
        "search_s": round(searched, 1), "config": config,
    }  # fmt: skip


def read(path: Path, size: str, budget: float) -> list[dict[str, Any]]:
    """The records of results.jsonl of this size and budget, the last of each search."""
    records = results.read(path, ("method", "seed", "size", "budget"))
    return [r for r in records if r["size"] == size and r["budget"] == budget]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.lm_compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default=",".join(METHODS), help="default: %(default)s")
    parser.add_argument("--seeds", type=span, default=range(5), help="a:b (default 0:5)")
    parser.add_argument("--size", choices=SIZES, default="full", help="of the demo (default %(default)s)")
    parser.add_argument("--budget", type=float, help="in full runs (default: the size's, 10 for full)")
    parser.add_argument("--out", type=Path, required=True, help="folder of results.jsonl and trials/")
    parser.add_argument("--data", type=Path, help="folder of the demo's text and tokenizer (default OUT/data)")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args(argv)
    args.out = args.out.expanduser().resolve()
    args.data = args.data or args.out / "data"
    args.budget = SIZES[args.size].budget if args.budget is None else args.budget
    args.methods = [name.strip() for name in args.methods.split(",") if name.strip()]
    if bad := [name for name in args.methods if name not in METHODS]:
        parser.error(f"no method {bad[0]!r}: choose from {', '.join(METHODS)}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "results.jsonl"
    done = {(r["method"], r["seed"]) for r in read(path, args.size, args.budget)}
    wanted = [(method, seed) for seed in args.seeds for method in args.methods]
    todo = [] if args.report else [job for job in wanted if job not in done]
    print(f"{len(wanted)} searches, {len(todo)} to do", flush=True)
    with local_ray(PARALLEL, dashboard=False) if todo else nullcontext():
        for method, seed in todo:
            try:
                record = run_one(method, seed, args)
            except Exception:  # the others go on; this one is tried again next time
                print(f"{method}, seed {seed}:\n{traceback.format_exc(limit=-3)}", flush=True)
                continue
            results.append(path, record)
            print(f"{method}, seed {seed}: {record['test_loss']:.4f}, {record['search_s']:.0f} s", flush=True)
    print(table(read(path, args.size, args.budget)))


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    main()
