"""python -m benchmarks.lm_curves: full runs of the demo's language model, for `problems/language.py` to regress.

    python -m benchmarks.lm_curves --processes 16 --seconds 300 --out DIR

Configurations at random, and, of every two after the first `--random` ones, one near a configuration that is among
the best tenth so far: where a search ends up. Each is trained with two seeds. Processes share no more than
DIR/curves.jsonl, a line a run; those of number `--gpu-processes` and above see no GPU. What was stopped goes on in the
same DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.lm_sizes import SIZES
from benchmarks.problems.language import LAYERS, RATES, WIDTHS

SEEDS = 2

Config = dict[str, Any]


def drawn(rng: random.Random, domains: Sequence[str]) -> Config:
    """As the demo's space draws: uniform on the simplex, the rate log-uniform."""
    parts = [rng.expovariate(1.0) for _ in domains]
    return {
        "mixture": {name: part / sum(parts) for name, part in zip(domains, parts, strict=True)},
        "lr": RATES[0] * (RATES[1] / RATES[0]) ** rng.random(),
        "model": {"num_hidden_layers": rng.randint(*LAYERS), "hidden_size": rng.choice(WIDTHS)},
    }


def near(config: Config, rng: random.Random) -> Config:
    """A configuration beside another: half of the mixture's way to a vertex at most, a rate within a factor of two."""
    target, pull = rng.choice(list(config["mixture"])), rng.uniform(0.0, 0.5)
    rate = config["lr"] * 2 ** rng.uniform(-1, 1)
    model = dict(config["model"])
    if rng.random() < 0.5:
        model["num_hidden_layers"] = min(max(model["num_hidden_layers"] + rng.choice((-1, 1)), LAYERS[0]), LAYERS[1])
    if rng.random() < 0.5:
        model["hidden_size"] = rng.choice(WIDTHS)
    mixture = {name: (1 - pull) * w + pull * (name == target) for name, w in config["mixture"].items()}
    return {"mixture": mixture, "lr": min(max(rate, RATES[0]), RATES[1]), "model": model}


def best_tenth(runs: Sequence[dict[str, Any]]) -> list[Config]:
    """By the mean of their seeds' finals."""
    ends, configs = defaultdict(list), {}
    for run in runs:
        name = json.dumps(run["config"], sort_keys=True)
        ends[name].append(run["curve"][-1])
        configs[name] = run["config"]
    order = sorted(ends, key=lambda name: sum(ends[name]) / len(ends[name]))
    return [configs[name] for name in order[: max(1, len(order) // 10)]]


def work(number: int, args: argparse.Namespace) -> None:
    import torch

    from jobs_ray.lm import Session, run
    from jobs_ray.lm.demo import demo_task

    task, path, end = demo_task(args.data, SIZES[args.size]), args.out / "curves.jsonl", time.time() + args.seconds
    session, rng = Session(task), random.Random(f"{number} {time.time()}")
    while time.time() < end:
        runs = list(results.whole(path))
        explore = len(runs) < SEEDS * args.random or rng.random() < 0.5
        config = drawn(rng, list(task.domains)) if explore else near(rng.choice(best_tenth(runs)), rng)
        for seed in range(SEEDS):
            began = time.perf_counter()
            reports = run(task, {**config, "seed": seed}, session=session)
            line = {
                "config": config, "seed": seed, "device": "cuda" if torch.cuda.is_available() else "cpu",
                "steps": [r["step"] for r in reports], "curve": [round(r["eval_loss"], 5) for r in reports],
                "seconds": round(time.perf_counter() - began, 2),
            }  # fmt: skip
            results.append(path, line)


def collect(args: argparse.Namespace) -> None:
    from jobs_ray.lm import Session
    from jobs_ray.lm.demo import demo_task

    args.out.mkdir(parents=True, exist_ok=True)
    Session(demo_task(args.data, SIZES[args.size]))  # text, tokenizer and packed rows: once
    workers = []
    for i in range(args.processes):
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if i >= args.gpu_processes else {}
        command = [sys.executable, "-m", "benchmarks.lm_curves", "--worker", str(i), "--data", str(args.data)]
        command += ["--out", str(args.out), "--seconds", str(args.seconds), "--random", str(args.random)]
        command += ["--size", args.size]
        workers.append(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **hidden}))
    failed = sum(worker.wait() != 0 for worker in workers)
    runs = list(results.whole(args.out / "curves.jsonl"))
    best = best_tenth(runs)[0] if runs else None
    print(f"{len(runs)} runs, {failed} workers failed; best mean of two seeds: {best}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.lm_curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--gpu-processes", type=int, default=10_000, help="the others see no GPU (default: all see it)")
    parser.add_argument("--seconds", type=float, default=300.0, help="no run begins later")
    parser.add_argument("--random", type=int, default=100, help="configurations drawn before any is drawn near another")
    parser.add_argument("--size", choices=SIZES, default="full", help="of the demo (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of the demo's text and tokenizer (default OUT/data)")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.data = args.data or args.out / "data"
    if args.worker is not None:
        work(args.worker, args)
    else:
        collect(args)


if __name__ == "__main__":
    main()
