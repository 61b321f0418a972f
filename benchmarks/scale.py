"""What a large experiment costs Ray's loop: the calls of a simulated controller, in Ray's order.

    python -m benchmarks.scale --trials 10000 --in-flight 1 64 1000 --reports 25 1000

Each call in CPU seconds of the calling thread (the loop's), so that a busy machine does not count: median, 99th
percentile and longest, in ms. A trial reports once a simulated minute, 1 % of the nodes are lost an hour.

    column      meaning
    suggest     `suggest`, when it answered with a configuration
    result      all that one result costs: scheduler, searcher and callback
    complete    all that the end of a trial costs
    step        a turn of the loop besides: `on_step_begin`, `choose_trial_to_run`, and `suggest` that answers "not yet"
    save        as Ray does it, every ten (simulated) seconds, with fewer than 60 in flight after every ten results
    busy        CPU seconds in all those calls over the simulated time that the experiment took
    growth      median of `result` in the last tenth of the results over that in the second tenth
    idle        share of the slots' simulated time that they waited for a suggestion (four times too long on an idle
                machine: a step of .1 s takes .025 s here)
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from benchmarks.controller import Controller
from jobs_ray import JoBSSearcher, mixture
from jobs_ray.models.late_import import import_models

SPACE = {
    "mixture": mixture("code", "prose", "maths", "web"),
    "lr": tune.loguniform(1e-5, 1e-2),
    "r": tune.lograndint(1, 129),
    "mlp": tune.choice([False, True]),
}
SAVE_EVERY_S = 10.0
COLUMNS = ("suggest", "result", "complete", "step", "save")


def train(config: Mapping[str, Any], t: int) -> float:
    """A smooth loss that falls as a power law, with its best configuration inside the space."""
    weights = config["mixture"]
    imbalance = sum((weights[name] - best) ** 2 for name, best in zip(weights, (0.1, 0.4, 0.2, 0.3), strict=True))
    off = np.log10(config["lr"] / 3e-4) ** 2 + 0.1 * np.log2(config["r"] / 16) ** 2
    return float(1.0 + imbalance + 0.1 * off + (0.05 if config["mlp"] else 0.0) + (1.0 + 0.3 * off) * t**-0.5)


def memory_mib() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


class Times:
    """CPU seconds of each call, summed over the calls that belong together."""

    def __init__(self) -> None:
        self.of: dict[str, list[float]] = defaultdict(list)
        self.total = 0.0
        self._open: dict[str, float] = defaultdict(float)

    def watch(self, name: str, trial: str, seconds: float) -> None:
        self.total += seconds
        kind = name.partition(".")[2]
        if kind == "suggest":
            self._open["suggest"] = seconds
        elif kind == "on_trial_add":  # so `suggest` gave a configuration
            self.of["suggest"].append(self._open.pop("suggest") + seconds)
        elif kind in ("on_step_begin", "choose_trial_to_run"):
            self._open["step"] += seconds
            if kind == "choose_trial_to_run":
                self.of["step"].append(self._open.pop("step") + self._open.pop("suggest", 0.0))
        else:
            part = "result" if kind == "on_trial_result" else "complete"
            self._open[part] += seconds
            if name in ("callback.on_trial_result", "callback.on_trial_complete", "callback.on_trial_error"):
                self.of[part].append(self._open.pop(part))


def run(trials: int, in_flight: int, reports: int, seed: int, limit_s: float) -> dict[str, Any]:
    """One row of the table. After `limit_s` of real time no more trials are asked for."""
    import_models()  # what it takes is no cost of the first call
    times, before = Times(), memory_mib()
    searcher = JoBSSearcher(max_t=reports, seed=seed)
    controller = Controller(
        searcher, SPACE, train, times.watch, num_samples=trials, in_flight=in_flight, reports=reports, seed=seed
    )
    start, saved = time.perf_counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state")

        def save() -> None:
            begin = time.thread_time()
            searcher.save(str(path))
            times.of["save"].append(time.thread_time() - begin)
            times.total += times.of["save"][-1]

        while controller.step():
            if controller.now >= saved + SAVE_EVERY_S * max(1.0, 60.0 / in_flight):
                saved = controller.now
                save()
            if time.perf_counter() - start > limit_s:
                controller.ask_no_more()
        save()
        begin = time.thread_time()
        again = JoBSSearcher()
        again.restore(str(path))
        again.see(controller.get_trials())
        restore = time.thread_time() - begin
        size = path.stat().st_size
    assert len(again.session.core.trials) == len(controller.get_trials())
    row: dict[str, Any] = {"trials": len(controller.get_trials()), "in_flight": in_flight, "reports": reports}
    for name in COLUMNS:
        found = np.array(times.of[name]) * 1e3
        row[name] = [float(np.median(found)), float(np.percentile(found, 99)), float(found.max()), len(found)]
    tenth = max(len(times.of["result"]) // 10, 1)
    early, late = times.of["result"][tenth : 2 * tenth], times.of["result"][-tenth:]
    return row | {
        "results": controller.results,
        "lost": controller.lost,
        "restore_s": restore,
        "state_mib": size / 2**20,
        "memory_mib": memory_mib() - before,
        "busy": times.total / controller.now,
        "idle": controller.idle_s / (controller.now * in_flight),
        "hours": controller.now / 3600.0,
        "growth": float(np.median(late) / np.median(early)),
        "wall_s": time.perf_counter() - start,
    }


def show(row: Mapping[str, Any]) -> None:
    cells = " ".join(f"{' / '.join(f'{v:.2f}' for v in row[name][:3]):>20}" for name in COLUMNS)
    print(
        f"{row['trials']:6} {row['in_flight']:5} {row['reports']:5} {cells} {row['restore_s']:7.2f} "
        f"{row['state_mib']:6.1f} {row['memory_mib']:6.0f} {row['busy']:7.2%} {row['idle']:6.1%} {row['growth']:6.2f} "
        f"{row['lost']:5}",
        flush=True,
    )


def main() -> None:
    """Measure, print, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[2000])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 64, 1000])
    parser.add_argument("--reports", type=int, nargs="+", default=[25])
    parser.add_argument("--limit-s", type=float, default=float("inf"), help="of real time a row, then no more trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--freeze", action="store_true", help="imported objects are no garbage to look at: gc.freeze()")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    import_models()
    if args.freeze:
        gc.collect()
        gc.freeze()
    heads = " ".join(f"{name + ' ms':>20}" for name in COLUMNS)
    print(f"trials at once /run {heads} restore  MiB on  MiB in    busy   idle growth  lost", flush=True)
    rows = []
    for trials in args.trials:
        for in_flight in args.in_flight:
            for reports in args.reports:
                rows.append(run(trials, in_flight, reports, args.seed, args.limit_s))
                show(rows[-1])
                if args.json:
                    args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
