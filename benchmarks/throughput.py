"""python -m benchmarks.throughput: tokens a second of our trainable against a bare PyTorch loop, and start-up seconds.

Same model (the demo's), same rows in the same order, AdamW, clipping, cosine schedule, one torch thread a worker; both
after start-up and without evaluation. Ours runs as a user runs it: in a Tune actor (1 worker), in a TorchTrainer
inside a Tune trial (2 workers). The bare loop is torch alone in processes of its own, with DDP over gloo for 2. They
take turns, `--rounds` times, since a busy machine drifts; the ratio is the median of the rounds' ratios, with the
standard error of their mean.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

WARM_STEPS = 10  # not counted on either side: first allocations, thread pools


def bare(task: Any, rank: int, world: int, rendezvous: str, out: str) -> None:
    """One process of the bare loop; rank 0 writes tokens a second to `out`."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from jobs_ray.lm import Session
    from jobs_ray.lm.mixing import MixedRows, MixturePlan, collate, weights_of

    torch.set_num_threads(1)
    session = Session(task)
    weights = weights_of(None, list(task.domains))
    rows = MixedRows(
        session.train, MixturePlan(session.train, weights, task.max_steps * task.batch_size, seed=task.seed)
    )
    model = session.models.build({}, task.seed)
    model.config.use_cache = False
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    trained: Any = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * step / task.max_steps))
    )
    share = task.batch_size // world
    trained.train()
    began = 0.0
    for step in range(task.max_steps):
        if step == WARM_STEPS:
            began = time.perf_counter()
        first = step * task.batch_size + rank * share
        batch = collate([rows[i] for i in range(first, first + share)])
        loss = trained(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - began
    if rank == 0:
        tokens = (task.max_steps - WARM_STEPS) * task.batch_size * task.seq_len
        Path(out).write_text(json.dumps(tokens / seconds))
    if world > 1:
        dist.destroy_process_group()


def run_bare(task: Any, world: int) -> float:
    """Tokens a second of the bare loop over `world` processes."""
    import torch.multiprocessing as mp

    with tempfile.TemporaryDirectory() as folder:
        context = mp.get_context("spawn")
        jobs = [
            context.Process(target=bare, args=(task, rank, world, f"{folder}/meet", f"{folder}/out"))
            for rank in range(world)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
            if job.exitcode != 0:
                raise RuntimeError(f"the bare loop's process ended with {job.exitcode}")
        return float(json.loads(Path(folder, "out").read_text()))


def run_ours(task: Any, world: int) -> tuple[float, dict[str, float]]:
    """(tokens a second, start-up seconds) of one trial through Tune. The first report, at `WARM_STEPS`, is not
    counted."""
    from ray import tune
    from ray.train import ScalingConfig

    from jobs_ray.lm import trainable

    class Clock(tune.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.first = 0.0

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            self.first = self.first or time.time()

    clock = Clock()
    what = trainable(task) if world == 1 else trainable(task, ScalingConfig(num_workers=world))
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        [result] = tune.Tuner(
            what,
            param_space={},
            run_config=tune.RunConfig(name="x", storage_path=folder, verbose=0, callbacks=[clock]),
        ).fit()
        if result.error is not None:
            raise result.error
        frame = result.metrics_dataframe
    frame = frame[frame["step"] > WARM_STEPS].drop_duplicates("step")
    steps = frame["step"].diff().fillna(frame["step"].iloc[0] - WARM_STEPS)
    seconds = (steps * task.batch_size * task.seq_len / frame["tokens_per_second"]).sum()
    speed = float(steps.sum() * task.batch_size * task.seq_len / seconds)
    start = {k: float(v) for k, v in result.metrics["startup_s"].items()}
    first = result.metrics_dataframe.iloc[0]
    start["ray"] = clock.first - began - sum(start.values()) - float(first["train_seconds"] + first["eval_seconds"])
    return speed, start


def main() -> None:
    """Measure, print, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=110, help=f"steps of each run, {WARM_STEPS} of them not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--data", type=Path, default=Path("out/demo/data"), help="the demo's text (made if absent)")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")

    from jobs_ray.lm.demo import Size, demo_task
    from jobs_ray.lm.demo_ray import local_ray
    from jobs_ray.lm.packing import prepare

    size = Size(max_steps=arguments.steps, eval_every=WARM_STEPS, short=WARM_STEPS, budget=1.0)
    task = replace(demo_task(arguments.data.resolve(), size), eval_rows=1, warmup=0.0, save="last")
    prepare(task)
    table: dict[str, Any] = {}
    with local_ray():
        for world in arguments.workers:
            speeds: dict[str, list[float]] = {"bare": [], "ours": []}
            starts: list[dict[str, float]] = []
            for _ in range(arguments.rounds):
                speeds["bare"].append(run_bare(task, world))
                speed, start = run_ours(task, world)
                speeds["ours"].append(speed)
                starts.append(start)
            medians = {name: statistics.median(values) for name, values in speeds.items()}
            start = {name: statistics.median(s[name] for s in starts) for name in starts[0]}
            ratios = [ours / bare for ours, bare in zip(speeds["ours"], speeds["bare"], strict=True)]
            ratio = statistics.median(ratios)
            error = statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else math.nan
            table[str(world)] = {**medians, "ratio": ratio, "ratio_se": error, "all": speeds, "startup_s": start}
            parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in start.items())
            print(
                f"{world} worker(s): bare {medians['bare']:,.0f} tokens/s, ours {medians['ours']:,.0f}, "
                f"ratio {ratio:.2f} +- {error:.2f}; start-up {sum(start.values()):.1f} s ({parts})",
                flush=True,
            )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
