"""python -m benchmarks.latency: CPU seconds of one `ask` with n observations in the 19-dimensional space of the tables.

Ours is a fresh JoBSOptimizer with n warm-start observations (one in ten a full run, the rest short), asked a few
times: the first ask fits everything, the next ones are told one more observation in between, as in a search. The
paper's recipe (MixedSingleTaskGP and optimize_acqf_mixed_alternating with 20 restarts of 1,024 samples) gets the same
configurations with their finals, in the same process, torch pinned to one thread. The ratio is to our *worst* ask.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import MAX_T, load_tasks, random_rows, search_space, to_config
from benchmarks.emulator import Emulator, build
from benchmarks.protocol import Phase, Suggestion

FULL_EVERY = 10
SHORT_T = 4
BUDGET = 20.0


def ours(emulator: Emulator, n: int, asks: int, seed: int = 0) -> list[float]:
    """Seconds of each of `asks` asks, one more observation before each but the first."""
    from jobs_ray import JoBSOptimizer

    rng = np.random.default_rng(seed)
    optimizer = JoBSOptimizer(search_space(), mode="min", max_t=float(MAX_T), budget=BUDGET, seed=seed)
    configs = [to_config(row) for row in random_rows(n + asks, rng)]
    curves = emulator.curves(configs) + 0.005 * rng.normal(size=(n + asks, MAX_T))

    def add(i: int) -> None:
        full = i % FULL_EVERY == 0
        curve = [(float(t + 1), float(v)) for t, v in enumerate(curves[i][: None if full else SHORT_T])]
        optimizer.add_observation(configs[i], curve, complete=full)

    for i in range(n):
        add(i)
    warm_up = JoBSOptimizer(search_space(), mode="min", max_t=float(MAX_T), budget=BUDGET, seed=seed)
    for i in range(20):  # imports and first calls of torch are no part of a suggestion
        curve = [(float(t + 1), float(v)) for t, v in enumerate(curves[i])]
        warm_up.add_observation(configs[i], curve, complete=True)
    warm_up.ask("warm-up")
    seconds = []
    for i in range(asks):
        began = time.process_time()
        suggestion = optimizer.ask(f"ask-{i}")
        seconds.append(time.process_time() - began)
        # an ask of LEARN draws from a fixed sequence and would flatter: it must be one that uses the models
        if not isinstance(suggestion, Suggestion) or suggestion.phase is not Phase.SEARCH:
            raise RuntimeError(f"expected a new configuration of SEARCH at n = {n}, came {suggestion!r}")
        optimizer.tell(f"ask-{i}")
        add(n + i)
    return seconds


def paper(emulator: Emulator, n: int, seed: int = 0) -> tuple[float, float]:
    """Seconds of the fit and of the acquisition of one suggestion, as published."""
    import torch

    from benchmarks.paper import PUBLISHED, fit_gp, maximise_ucb, scale
    from jobs_ray.models.threads import one_thread

    rows = random_rows(n, np.random.default_rng(seed))
    y = -emulator.model.curves(rows, emulator.task)[:, -1]
    with one_thread():
        torch.manual_seed(seed)
        began = time.process_time()
        model = fit_gp(scale(rows), y)
        fitted = time.process_time()
        maximise_ucb(model, PUBLISHED)
        return fitted - began, time.process_time() - fitted


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.latency", description=__doc__)
    parser.add_argument("--data", help="folder of the task files (default: $JOBS_RAY_DATA, else ../shared/data)")
    parser.add_argument("--n", type=int, nargs="+", default=[30, 100, 300, 1000])
    parser.add_argument("--paper-n", type=int, nargs="*", default=[30, 100], help="n at which the paper's recipe runs")
    parser.add_argument("--asks", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    emulator = build(load_tasks(args.data), "eval_loss", check=False)[0][0]
    print(f"{'n':>6} {'ours, first':>12} {'ours, median':>13} {'ours, worst':>12} {'paper fit + acq':>20} {'ratio':>8}")
    records: list[dict[str, Any]] = []
    for n in args.n:
        seconds = ours(emulator, n, args.asks)
        record: dict[str, Any] = {"n": n, "ours": seconds, "first": seconds[0], "median": float(np.median(seconds))}
        text, ratio = "", ""
        if n in args.paper_n:
            fit, acquisition = paper(emulator, n)
            record |= {"paper_fit": fit, "paper_acquisition": acquisition}
            record |= {"ratio": (fit + acquisition) / max(seconds)}
            text, ratio = f"{fit:.1f} + {acquisition:.1f}", f"{record['ratio']:.0f}"
        records.append(record)
        print(
            f"{n:6d} {seconds[0]:12.3f} {record['median']:13.3f} {max(seconds):12.3f} {text:>20} {ratio:>8}", flush=True
        )
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    main()
