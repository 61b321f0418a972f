"""`jobs-ray demo`: the whole of JoBS on real text, with no network, no GPU and no download.

A small Llama is trained on a mixture of four domains (`demo_data.py`); the target is a held-out slice of the
language reference and of technical prose in equal parts. JoBS searches mixture, learning rate, depth and width;
what it recommends is then trained anew, with seeds the search has not seen, next to the default configuration on
the uniform mixture with the same steps and seeds, and both are judged on a *test* slice the search has not seen.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs_ray.lm.demo_outcome import Outcome, table
from jobs_ray.lm.demo_ray import local_ray
from jobs_ray.lm.domain import Domain
from jobs_ray.lm.task import Model, Target, Task

TARGET = {"reference": 0.5, "prose": 0.5}
DEFAULT: dict[str, Any] = {"lr": 1e-3, "model": {"num_hidden_layers": 2, "hidden_size": 128}}
_FINAL_SEEDS = (1_000, 2_000)  # added to the seed: the final comparison must not reuse the search's lucky draws


@dataclass(frozen=True)
class Size:
    """How large a demo is: steps of a full run, between reports and of the first rung of ASHA (benchmarks.lm_compare);
    budget in full runs."""

    max_steps: int
    eval_every: int
    short: int
    budget: float


FULL = Size(max_steps=200, eval_every=10, short=20, budget=10.0)
QUICK = Size(max_steps=60, eval_every=6, short=6, budget=4.0)


def demo_task(data: Path, size: Size, part: str = "validation") -> Task:
    """The demo's task; writes its corpora and tokenizer into `data` unless they are there."""
    from jobs_ray.lm.demo_data import train_tokenizer, write_corpora

    corpora = write_corpora(data)
    tokenizer = train_tokenizer(data / "tokenizer", corpora)
    return Task(
        domains={name: Domain(str(files["train"])) for name, files in corpora.items()},
        target={name: Target(Domain(str(corpora[name][part])), weight) for name, weight in TARGET.items()},
        model=Model(
            config={
                "model_type": "llama",
                "head_dim": 32,
                "max_position_embeddings": 128,
                "tie_word_embeddings": True,
                **DEFAULT["model"],
            },
            tokenizer=str(tokenizer),
        ),
        max_steps=size.max_steps,
        eval_every=size.eval_every,
        batch_size=8,
        seq_len=128,
        eval_rows=32,
        cache_dir=str(data / "packed"),
        lr=DEFAULT["lr"],
        warmup=0.05,
        threads=1,
        seed_per_config=True,
    )


def demo_space(task: Task) -> dict[str, Any]:
    """Mixture, learning rate, depth 1-4, width 64-192."""
    from ray import tune

    from jobs_ray.lm.space import param_space

    return param_space(
        task,
        {
            "lr": tune.loguniform(1e-4, 2e-2),
            "model": {"num_hidden_layers": tune.randint(1, 5), "hidden_size": tune.choice([64, 96, 128, 160, 192])},
        },
    )


def run_demo(
    *, quick: bool = False, workers: int | None = None, seed: int = 0, out: str | Path = "out/demo", show: bool = True
) -> Outcome:
    """Search, then compare; returns the outcome and writes it to `out/demo.json`, the experiment to
    `out/experiment`.

    workers: of *every* trial (through TorchTrainer); None: one in the search, two in the final training.
    """
    with local_ray():
        return _run(quick, workers, seed, Path(out).expanduser().resolve(), print if show else _silent)


def _run(quick: bool, workers: int | None, seed: int, out: Path, say: Callable[[str], None]) -> Outcome:
    size = QUICK if quick else FULL
    say(f"Collecting text and training a tokenizer in {out / 'data'} ...")
    task = demo_task(out / "data", size)
    say(f"Searching: {size.budget:g} full runs of {size.max_steps} steps, seed {seed} ...")
    shutil.rmtree(out / "experiment", ignore_errors=True)
    clock = time.perf_counter()
    results, searcher = _search(task, size, out, seed, workers or 1)
    search_seconds = time.perf_counter() - clock
    recommendation = searcher.recommendation()
    if recommendation is None:
        raise RuntimeError(f"no trial of the demo finished: {[str(r.error) for r in results if r.error]}")
    summary = searcher.report()
    if any(trial["status"] == "running" for trial in summary["trials"]):
        # Tune answers Ctrl-C by ending the search in good order; it does not pass it on.
        raise KeyboardInterrupt
    final_workers = workers or 2
    say(f"Training the recommendation and the default anew, {final_workers} workers, on the test slice ...")
    test = replace(demo_task(out / "data", size, "test"), eval_rows=None, eval_every=size.max_steps)
    seeds = [seed + added for added in _FINAL_SEEDS]
    mine = [_train_fully(test, recommendation.config, s, final_workers, out / f"recommended-{s}") for s in seeds]
    base = [_train_fully(test, DEFAULT, s, final_workers, out / f"default-{s}") for s in seeds]
    outcome = Outcome(
        seed=seed,
        max_steps=size.max_steps,
        final_seeds=seeds,
        default=DEFAULT,
        recommended=_without_keys(recommendation.config, task),
        confirmed=bool(recommendation.confirmed),
        phases=_count_phases(summary),
        losses_recommended=[loss for loss, _ in mine],
        losses_default=[loss for loss, _ in base],
        search_cost=float(summary["budget"]["spent"]),
        search_seconds=search_seconds,
        final_seconds={"recommended": sum(s for _, s in mine), "default": sum(s for _, s in base)},
        startup_share=_startup_share(results),
        workers=final_workers,
        experiment=str(out / "experiment"),
    )
    (out / "demo.json").write_text(json.dumps({**asdict(outcome), "won": outcome.won}, indent=1))
    say(table(outcome))
    return outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `jobs-ray demo`."""
    parser.add_argument("--quick", action="store_true", help="a smaller search: under three minutes on two cores")
    parser.add_argument(
        "--workers", type=int, default=None, metavar="N",
        help="workers of every trial, through Ray Train (default: 1 in the search, 2 in the final training)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="out/demo", help="folder for text, experiment and result (default: out/demo)")


def run(arguments: argparse.Namespace) -> int:
    """`jobs-ray demo`: 0 when it ran through, whoever won; 130 when interrupted."""
    try:
        run_demo(quick=arguments.quick, workers=arguments.workers, seed=arguments.seed, out=arguments.out)
    except KeyboardInterrupt:
        print(f"Stopped. What the search found so far: jobs-ray report {arguments.out}/experiment")
        return 130
    return 0


def _search(task: Task, size: Size, out: Path, seed: int, workers: int) -> tuple[Any, Any]:
    from ray import tune
    from ray.train import ScalingConfig

    from jobs_ray import JoBSScheduler, JoBSSearcher
    from jobs_ray.lm.checkpoints import run_config
    from jobs_ray.lm.train import trainable

    searcher = JoBSSearcher(
        max_t=size.max_steps,
        budget=size.budget,
        time_attr="step",
        steps_key=task.steps_key,
        resume_key=task.resume_key,
        seed=seed,
    )
    what = trainable(task) if workers == 1 else trainable(task, ScalingConfig(num_workers=workers))
    tuner = tune.Tuner(
        what,
        param_space=demo_space(task),
        tune_config=tune.TuneConfig(
            metric="eval_loss",
            mode="min",
            num_samples=-1,
            # Two cores: two trials of one worker, or one of several.
            max_concurrent_trials=2 if workers == 1 else 1,
            search_alg=searcher,
            scheduler=JoBSScheduler(),
            reuse_actors=workers == 1,
        ),
        run_config=run_config(task, name="experiment", storage_path=str(out), verbose=0),
    )
    return tuner.fit(), searcher


def _train_fully(task: Task, config: Mapping[str, Any], seed: int, workers: int, folder: Path) -> tuple[float, float]:
    """(eval_loss after the last step, seconds) of one full run from scratch through TorchTrainer."""
    from ray import tune
    from ray.train import ScalingConfig

    from jobs_ray.lm.train import trainable

    shutil.rmtree(folder, ignore_errors=True)
    clock = time.perf_counter()
    [result] = tune.Tuner(
        trainable(task, ScalingConfig(num_workers=workers), group=True),
        param_space={**_without_keys(config, task), "seed": seed},
        run_config=tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=0),
    ).fit()
    if result.error is not None:
        raise result.error
    return float(result.metrics["eval_loss"]), time.perf_counter() - clock


def _without_keys(config: Mapping[str, Any], task: Task) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in (task.steps_key, task.resume_key, "seed")}


def _count_phases(summary: Mapping[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for trial in summary["trials"]:
        counts[str(trial["phase"])] = counts.get(str(trial["phase"]), 0) + 1
    return counts


def _startup_share(results: Any) -> float:
    """Start-up seconds (imports, data, model, trainer) over all seconds that the trials took."""
    startup = total = 0.0
    for result in results:
        if result.metrics and "startup_s" in result.metrics:
            start = sum(result.metrics["startup_s"].values())
            startup += start
            total += start + float(result.metrics["time_total_s"])
    return startup / total if total else 0.0


def _silent(*_: object) -> None:
    pass
