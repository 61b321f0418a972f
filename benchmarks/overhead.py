"""What a searcher costs Ray Tune: wall time per trial, and how long its loop stands still.

    python -m benchmarks.overhead --trials 100 --concurrent 8 --report-s 0.05

A trainable that only sleeps, so long a report, through the real Tune: JoBSSearcher (without JoBSScheduler, and with its
choice of the next trial), OptunaSearch and Ray's BasicVariantGenerator, each with fresh and with reused actors,
interleaved in one process. What JoBS imports once a process (torch above all) is printed and not counted.

    column      meaning
    s/trial     wall time of the whole run over the number of trials
    cpu         processor time of the driver (Ray's loop, the searcher, its thread), ms a trial: on a busy machine this
                still compares, while the wall time mostly shows who else was running
    suggest     time inside `suggest`: median, and longest while a trial ran, ms: how long a result may wait because
                of it
    none        times that `suggest` answered "not yet"; Ray then ends an actor that it might have reused
    actors      processes that trials ran in; with reused actors, `--concurrent` would be the least
    result      time inside the searcher's and scheduler's handling of one result: longest, ms
    gap         longest time between two steps of Ray's loop, ms (whatever the reason)
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from jobs_ray import Decision, JoBSScheduler, JoBSSearcher
from jobs_ray.models.late_import import import_models

SPACE = {
    "weights": {name: tune.uniform(0.0, 1.0) for name in ("code", "prose", "maths", "web")},
    "lr": tune.loguniform(1e-5, 1e-2),
    "r": tune.lograndint(1, 129),
    "mlp": tune.choice([False, True]),
}
SEARCHERS = ("basic", "optuna", "jobs", "jobs+scheduler")
REPORTS = 6
MEASURED = ("suggest", "next_trial", "on_trial_result", "on_trial_complete")


class Sleeper(tune.Trainable):  # type: ignore[misc]  # ray.tune is not typed
    """Sleeps `report_s` a report; a smooth loss of its configuration. It is never stopped early: equal work for all."""

    def setup(self, config: dict[str, Any], report_s: float = 0.05) -> None:
        self.t, self.report_s = 0, report_s

    def step(self) -> dict[str, Any]:
        time.sleep(self.report_s)
        self.t += 1
        imbalance = sum((weight - 0.25) ** 2 for weight in self.config["weights"].values())
        return {
            "loss": imbalance + 1e3 * self.config["lr"] / self.config["r"] + 1.0 / self.t,
            "done": self.t >= REPORTS,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config, self.t = new_config, 0
        return True


class Unstopped(FIFOScheduler):  # type: ignore[misc]
    """Which trial is next as JoBSScheduler says; but no run is short: equal work for all."""

    choose_trial_to_run = JoBSScheduler.choose_trial_to_run


class Stopwatch(Callback):  # type: ignore[misc]
    """Longest time between two steps of Ray's loop."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last: float | None = None

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.gaps.append(now - self._last)
        self._last = now


def timed(kind: type, into: dict[str, list[float]]) -> type:
    """A subclass whose calls are measured. (An attribute of the object would be saved with its state.)

    `into["busy"]` are the calls of `suggest` while trials ran, `into["none"]` those that answered None.
    """
    running: set[str] = set()

    def measure(name: str) -> Any:
        method = getattr(kind, name)

        def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
            busy = bool(running)
            start = time.perf_counter()
            answer = method(self, *args, **kwargs)
            elapsed = time.perf_counter() - start
            into.setdefault(name, []).append(elapsed)
            if name == "suggest":
                if busy:
                    into.setdefault("busy", []).append(elapsed)
                if answer is None:
                    into.setdefault("none", []).append(elapsed)
                elif isinstance(answer, dict):
                    running.add(args[0])
            elif name == "on_trial_complete":
                running.discard(args[0])
            return answer

        return measured

    return type(kind.__name__, (kind,), {name: measure(name) for name in MEASURED if hasattr(kind, name)})


def contender(name: str, times: dict[str, list[float]]) -> tuple[Any, Any]:
    """Searcher and scheduler."""
    if name == "jobs":
        return timed(JoBSSearcher, times)(seed=0), None
    if name == "jobs+scheduler":
        return timed(JoBSSearcher, times)(seed=0), Unstopped()
    if name == "optuna":
        return timed(OptunaSearch, times)(seed=0), None
    return timed(BasicVariantGenerator, times)(random_state=0), None


def run(name: str, trials: int, concurrent: int, reuse: bool, report_s: float = 0.05) -> dict[str, float | str | bool]:
    times: dict[str, list[float]] = {}
    searcher, scheduler = contender(name, times)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(Sleeper, report_s=report_s), {"cpu": 1.0}),
            param_space=SPACE,
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=trials,
                max_concurrent_trials=concurrent,
                search_alg=searcher,
                scheduler=scheduler,
                reuse_actors=reuse,
            ),
            run_config=tune.RunConfig(
                storage_path=storage,
                verbose=0,
                callbacks=[watch],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        start, start_cpu = time.perf_counter(), time.process_time()
        results = tuner.fit()
        elapsed, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    assert len(results) == trials, len(results)
    suggest = times.get("suggest") or times.get("next_trial") or [0.0]
    handled = times.get("on_trial_result", [0.0]) + times.get("on_trial_complete", [0.0])
    return {
        "searcher": name,
        "reused": reuse,
        "s_per_trial": elapsed / trials,
        "cpu_ms_per_trial": 1e3 * cpu / trials,
        "suggest_median_ms": 1e3 * statistics.median(suggest),
        "suggest_longest_ms": 1e3 * max(times.get("busy") or suggest),
        "none": len(times.get("none", [])),
        "actors": len({result.metrics["pid"] for result in results}),
        "result_longest_ms": 1e3 * max(handled),
        "gap_longest_ms": 1e3 * max(watch.gaps, default=0.0),
    }


def show(row: dict[str, Any]) -> None:
    suggest = f"{row['suggest_median_ms']:.1f} / {row['suggest_longest_ms']:.1f}"
    actors = f"{'reused' if row['reused'] else 'fresh'}: {row['actors']}"
    wall = f"{row['s_per_trial']:8.3f} {row['cpu_ms_per_trial']:7.0f}"
    print(
        f"{row['searcher']:16} {actors:12} {wall} {suggest:>18} {row['none']:5} "
        f"{row['result_longest_ms']:10.1f} {row['gap_longest_ms']:8.0f}",
        flush=True,
    )


def compare(rows: list[dict[str, Any]]) -> None:
    """Wall time over that of Optuna in the same round: the mean of the rounds and its standard error."""
    walls: dict[str, list[float]] = {}
    for row in rows:
        walls.setdefault(row["searcher"], []).append(row["s_per_trial"])
    optuna = walls.pop("optuna", None)
    if optuna is None:
        return
    for name, ours in walls.items():
        ratios = [mine / theirs for mine, theirs in zip(ours, optuna, strict=True)]
        error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
        print(f"{name} / optuna: {statistics.mean(ratios):.3f} +- {error:.3f} ({len(ratios)} rounds)", flush=True)


def seconds_to_save(searcher: JoBSSearcher) -> float:
    """What Ray's loop waits for every 10 s."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        searcher.save(str(Path(folder) / "state"))
        return time.perf_counter() - start


def soak(trials: int) -> None:
    """Ray's calls without Ray: 5,000 trials in one experiment would take hours of actor starts.

    Prints time per trial and memory of the process over windows of a tenth of the trials.
    """
    searcher = JoBSSearcher(SPACE, "loss", "min", max_t=REPORTS, seed=0, steps_key="steps")
    start, start_cpu, begin = time.perf_counter(), time.process_time(), 0
    for i in range(trials):
        config = searcher.suggest(f"t{i}")
        if not isinstance(config, dict):
            break
        for t in range(1, REPORTS + 1):
            value = sum((weight - 0.25) ** 2 for weight in config["weights"].values()) + 1.0 / t
            result = {"loss": value, "training_iteration": t}
            if searcher.record(f"t{i}", result) is Decision.STOP or t >= config["steps"]:
                break
            _ = searcher.session.core.budget_spent
        searcher.on_trial_complete(f"t{i}", result)
        if (i + 1) % max(trials // 10, 1) == 0:
            elapsed = time.perf_counter() - start
            memory = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
            cpu = time.process_time() - start_cpu
            wall, used = 1e3 * elapsed / (i + 1 - begin), 1e3 * cpu / (i + 1 - begin)
            saving = 1e3 * seconds_to_save(searcher)
            print(
                f"trials {begin:5}-{i + 1:5}: {wall:6.1f} ms/trial ({used:5.1f} ms cpu), "
                f"{memory:5.0f} MiB, saving {saving:4.0f} ms",
                flush=True,
            )
            start, start_cpu, begin = time.perf_counter(), time.process_time(), i + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--concurrent", type=int, default=8)
    parser.add_argument("--searchers", default="basic,optuna,jobs", help="some of " + ",".join(SEARCHERS))
    parser.add_argument("--actors", default="reused,fresh", help="default: one after the other")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions, interleaved: for a busy machine")
    parser.add_argument("--report-s", type=float, default=0.05, help="seconds between two of a trial's 6 reports")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--soak", type=int, help="so many trials without Ray: does a trial cost more at the end?")
    args = parser.parse_args()
    for given, allowed in ((args.searchers, SEARCHERS), (args.actors, ("reused", "fresh"))):
        if bad := [name for name in given.split(",") if name not in allowed]:
            parser.error(f"expected some of {','.join(allowed)}, came {bad[0]!r}")
    if args.soak:
        soak(args.soak)
        return
    ray.init("local", num_cpus=args.concurrent, include_dashboard=False, log_to_driver=False)
    run("basic", args.concurrent, args.concurrent, True)  # warms Ray's workers up, not counted
    begin = time.perf_counter()
    import_models()
    print(f"imports, once a process: {time.perf_counter() - begin:.1f} s", flush=True)
    timings = f"{'s/trial':>8} {'cpu ms':>7} {'suggest ms':>18} {'none':>5} {'result ms':>10} {'gap ms':>8}"
    print(f"{'searcher':16} {'actors':12} {timings}", flush=True)
    rows = []
    for actors in args.actors.split(","):
        for _ in range(args.rounds):
            for name in args.searchers.split(","):
                rows.append(run(name, args.trials, args.concurrent, actors == "reused", args.report_s))
                show(rows[-1])
        compare([row for row in rows if row["reused"] == (actors == "reused")])
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    ray.shutdown()


if __name__ == "__main__":
    main()
