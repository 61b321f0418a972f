"""What a large experiment costs Ray's loop: the calls of a simulated controller, in Ray's order.

    python -m benchmarks.scale --trials 10000 --in-flight 1 64 1000 --reports 25 1000

Each call in CPU seconds of the calling thread (the loop's), so that a busy machine does not count: median, 99th
percentile, longest, and longest without Python's collections of garbage, in ms. A trial reports once a simulated
minute, 1 % of the nodes are lost an hour.

    column      meaning
    suggest     `suggest`, when it answered with a configuration
    result      all that one result costs: scheduler, searcher and callback
    complete    all that the end of a trial costs
    step        a turn of the loop besides: `on_step_begin`, `choose_trial_to_run`, and `suggest` that answers "not yet"
    save        as Ray does it, every ten (simulated) seconds, with fewer than 60 in flight after every ten results
    busy        CPU seconds in all those calls over the simulated time that the experiment took
    growth      median of `result` in the last tenth of the results over that in the second tenth; and the same among
                results that were predicted, which cost more and come late where many trials run at once
    idle        share of the slots' simulated time that they waited for a suggestion (four times too long on an idle
                machine: a step of .1 s takes .025 s here)
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from benchmarks.controller import Controller
from benchmarks.data import Array
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
    """CPU seconds of each call, summed over the calls that belong together, `(2,)`: all of them, and those of them that
    went into collections of garbage, which look at every object of the process, whosever it is.

    As a context it listens to the collector in its own thread (another one's are none of the loop's processor time).
    """

    def __init__(self) -> None:
        self.of: dict[str, list[Array]] = defaultdict(list)
        self.total = 0.0
        self._open: dict[str, Array] = defaultdict(lambda: np.zeros(2))
        self._collections: list[tuple[float, float]] = []  # since the last call: when, and how long
        self._began = 0.0
        self._thread = threading.get_ident()

    def __enter__(self) -> Times:
        gc.callbacks.append(self._collects)
        return self

    def __exit__(self, *error: object) -> None:
        gc.callbacks.remove(self._collects)

    def _collects(self, phase: str, info: Mapping[str, int]) -> None:
        if threading.get_ident() != self._thread:
            return
        now = time.thread_time()
        if phase == "start":
            self._began = now
        else:
            self._collections.append((self._began, now - self._began))

    def call(self, seconds: float) -> Array:
        """Of a call that has just ended."""
        since = time.thread_time() - seconds
        collected = sum(took for at, took in self._collections if at >= since)
        self._collections.clear()
        self.total += seconds
        return np.array([seconds, collected])

    def watch(self, name: str, trial: str, seconds: float) -> None:
        took, kind = self.call(seconds), name.partition(".")[2]
        if kind == "suggest":
            self._open["suggest"] = took
        elif kind == "on_trial_add":  # so `suggest` gave a configuration
            self.of["suggest"].append(self._open.pop("suggest") + took)
        elif kind in ("on_step_begin", "choose_trial_to_run"):
            self._open["step"] += took
            if kind == "choose_trial_to_run":
                self.of["step"].append(self._open.pop("step") + self._open.pop("suggest", 0.0))
        else:
            part = "result" if kind == "on_trial_result" else "complete"
            self._open[part] += took
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
    with tempfile.TemporaryDirectory() as folder, times:
        path = Path(folder, "state")

        def save() -> None:
            begin = time.thread_time()
            searcher.save(str(path))
            times.of["save"].append(times.call(time.thread_time() - begin))

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
        found, collected = np.array(times.of[name]).T * 1e3
        worst = [float(found.max()), float((found - collected).max())]
        row[name] = [float(np.median(found)), float(np.percentile(found, 99)), *worst, len(found)]
    seconds = np.array(times.of["result"])[:, 0]
    return row | {
        "results": controller.results,
        "lost": controller.lost,
        "restore_s": restore,
        "state_mib": size / 2**20,
        "memory_mib": memory_mib() - before,
        "busy": times.total / controller.now,
        "idle": controller.idle_s / (controller.now * in_flight),
        "hours": controller.now / 3600.0,
        "growth": [growth(seconds), growth(seconds[controller.predicted])],
        "wall_s": time.perf_counter() - start,
    }


def growth(seconds: Array) -> float:
    """Median of the last tenth over that of the second tenth; NaN of fewer than ten."""
    tenth = len(seconds) // 10
    if not tenth:
        return float("nan")
    return float(np.median(seconds[9 * tenth :]) / np.median(seconds[tenth : 2 * tenth]))


def show(row: Mapping[str, Any]) -> None:
    cells = " ".join(f"{' / '.join(f'{v:.1f}' for v in row[name][:4]):>24}" for name in COLUMNS)
    print(
        f"{row['trials']:6} {row['in_flight']:5} {row['reports']:5} {cells} {row['restore_s']:7.2f} "
        f"{row['state_mib']:6.1f} {row['memory_mib']:6.0f} {row['busy']:7.2%} {row['idle']:6.1%} "
        f"{' / '.join(f'{v:.2f}' for v in row['growth']):>11} {row['lost']:5}",
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
    heads = " ".join(f"{name + ' ms':>24}" for name in COLUMNS)
    print(f"trials at once /run {heads} restore  MiB on  MiB in    busy   idle      growth  lost", flush=True)
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
