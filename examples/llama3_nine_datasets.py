"""The paper's experiment: Meta-Llama-3-8B-Instruct, nine data sets, mixture and LoRA searched together (19 dimensions).

    python examples/llama3_nine_datasets.py --dry-run                 # every step on a CPU, tiny; prints the real plan
    python examples/llama3_nine_datasets.py --target gsm8k --concurrent 8      # 8 reused actors of one GPU each
    python examples/llama3_nine_datasets.py --target gsm8k --concurrent 2 --groups 4     # groups of 4 GPUs, FSDP2

Actors first: LoRA on 8B in bf16 fits one 80 GB card, and a reused actor loads the 16 GB of the base once, where each
trial of a group loads them on every rank. Groups are for cards that are too small. A full run is the paper's: 625 steps
of 16 rows, a report every 25. The model needs its licence accepted on the hub, and `hf auth login`.

Started again with the same `--target`, `--metric`, `--groups` and `--out`, the script goes on with the search, as it
began; one that has ended shows what it found.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs_ray import lm

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct"
# name: data set on the hub, subset, training split, validation split (None: a tenth of the training split is held out)
DATASETS: dict[str, tuple[str, str | None, str, str | None]] = {
    "commonsense_qa": ("tau/commonsense_qa", None, "train", "validation"),
    "gsm8k": ("openai/gsm8k", "main", "train", "test"),
    "rowan_hellaswag": ("Rowan/hellaswag", None, "train", "validation"),
    "sciq": ("allenai/sciq", None, "train", "validation"),
    "triviaqa": ("mandarjoshi/trivia_qa", "rc.nocontext", "train", "validation"),
    "truthfulqa_gen": ("truthfulqa/truthful_qa", "generation", "validation", None),
    "wikitext": ("Salesforce/wikitext", "wikitext-2-raw-v1", "train", "validation"),
    "mmlu": ("cais/mmlu", "all", "auxiliary_train", "validation"),
    "arc_challenge": ("allenai/ai2_arc", "ARC-Challenge", "train", "validation"),
}
EXAMPLES = 10_000  # a data set, as in the paper
LLAMA3_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128_256,
}  # fmt: skip
SHRUNK = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 1, "max_position_embeddings": 256,
}  # fmt: skip
OUT = "out/llama3"
ANIMALS = ["cat", "dog", "bird", "fox", "wolf", "mouse"]


def nine_domains() -> tuple[dict[str, lm.Domain], dict[str, lm.Domain]]:
    """(training, validation) domains from the hub."""
    train, validation = {}, {}
    for name, (source, subset, split, held) in DATASETS.items():
        domain = lm.Domain(source, subset=subset, split=split, max_examples=EXAMPLES)
        domain = domain if held else replace(domain, held_out=0.1)
        train[name] = domain.training()
        validation[name] = replace(domain, split=held) if held else domain.validation()
    return train, validation


def nine_task(target: str, metric: str, groups: int) -> lm.Task:
    """One full run is 625 steps of 16 rows of 512 tokens; one worker, or `groups` of them with FSDP2."""
    train, validation = nine_domains()
    sharded = {"fsdp": True, "fsdp_config": {"version": 2}} if groups > 1 else {}
    return lm.Task(
        domains=train,
        target={target: validation[target]},
        model=lm.Model(MODEL),
        max_steps=625,
        eval_every=25,
        batch_size=16,
        seq_len=512,
        accumulation=max(1, 4 // groups),
        lr=3e-4,
        eval_rows=128,
        accuracy=lm.Accuracy(validation[target], questions=100) if metric == "accuracy" else None,
        activation_checkpointing=True,
        trainer_args=sharded,
    )


def nine_space(task: lm.Task) -> dict[str, Any]:
    """9 mixture weights; LoRA rank, alpha, dropout, five modules, layers and their end: 19 dimensions."""
    return lm.param_space(task, {"lr": task.lr})


def plan(task: lm.Task, arguments: argparse.Namespace) -> str:
    """What the search asks for, in words. The largest configuration of the space is the one that must fit."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from jobs_ray.lm.estimate import operations
    from jobs_ray.lm.lora import PAPERS_MODULES

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**LLAMA3_8B))
    workers, concurrent = arguments.groups, arguments.concurrent
    largest = {"r": 128, **dict.fromkeys(PAPERS_MODULES, True)}
    memory = lm.memory_per_gpu(task, model, lora=largest, workers=workers, sharded=workers > 1)
    run = operations(task, model, frozen=True) / (arguments.tflops * 1e12 * workers) / 3600
    return "\n".join([
        f"target {arguments.target} ({arguments.metric}), {arguments.budget:g} full runs of {task.max_steps} steps",
        f"trials at once      {concurrent}, {'reused actors' if workers == 1 else 'groups'} of {workers} GPU(s)",
        f"GPUs of the cluster {concurrent * workers}",
        f"memory per GPU      about {memory.total / 1e9:.0f} GB at most: weights {memory.weights / 1e9:.1f}, adapters "
        f"and optimiser {memory.training / 1e9:.1f}, activations {memory.activations / 1e9:.1f}, "
        f"logits {memory.logits / 1e9:.1f}",
        f"time                about {run:.1f} h a full run at {arguments.tflops:g} TFLOP/s a GPU, "
        f"{arguments.budget * run / concurrent:.1f} h in all ({arguments.budget * run * workers:.0f} GPU hours)",
    ])  # fmt: skip


def hub_rows(name: str, count: int) -> list[dict[str, Any]]:
    """Made-up rows in the columns of data set `name`: the answer is always the animal named in the question."""
    rng = random.Random(name)
    rows = []
    for i in range(count):
        right, *wrong = rng.sample(ANIMALS, 4)
        question, options = f"Who sees the {right}?", sorted([right, *wrong])
        at = options.index(right)
        labelled = {"text": options, "label": ["A", "B", "C", "D"]}
        rows.append(
            {
                "commonsense_qa": {"id": str(i), "question": question, "choices": labelled, "answerKey": "ABCD"[at]},
                "gsm8k": {"question": "one plus two?", "answer": "one plus two is three\n#### 3"},
                "rowan_hellaswag": {"ctx": f"the {right} runs. the", "endings": options, "label": str(at), "ind": i},
                "sciq": {
                    "question": question, "correct_answer": right, "support": "",
                    "distractor1": wrong[0], "distractor2": wrong[1], "distractor3": wrong[2],
                },
                "triviaqa": {"question": question, "answer": {"value": right, "aliases": [right.upper()]}},
                "truthfulqa_gen": {"question": question, "best_answer": right, "correct_answers": [right]},
                "wikitext": {"text": f" = {right} = \n the {right} eats the {wrong[0]}" if i % 2 else ""},
                "mmlu": {"question": question, "subject": "x", "choices": options, "answer": at},
                "arc_challenge": {"id": str(i), "question": question, "choices": labelled, "answerKey": "ABCD"[at]},
            }[name]
        )  # fmt: skip
    return rows


def shrunk(task: lm.Task, folder: Path) -> lm.Task:
    """The same task with a model of some thousand weights, a tokenizer of 300 words, and made-up rows."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        [str(row) for name in DATASETS for row in hub_rows(name, 20)], vocab_size=300,
        special_tokens=["<|begin_of_text|>", "<|eot_id|>"], show_progress=False,
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|eot_id|>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(rope_theta=500_000.0, vocab_size=len(tokenizer), **SHRUNK))
    model.save_pretrained(folder / "llama3")
    tokenizer.save_pretrained(folder / "llama3")

    def local(name: str, domain: lm.Domain) -> lm.Domain:
        return replace(domain, source=hub_rows(name, 60), split="train")

    return replace(
        task,
        domains={name: local(name, domain) for name, domain in task.domains.items()},
        target={name: local(name, target.domain) for name, target in task.targets().items()},
        accuracy=task.accuracy and lm.Accuracy(local(next(iter(task.target)), task.accuracy.domain), questions=6),
        model=lm.Model(str(folder / "llama3")), max_steps=24, eval_every=4, seq_len=96, lr=5e-3, eval_rows=8,
        cache_dir=str(folder / "packed"), threads=1, trainer_args={},  # FSDP needs GPUs: the groups here are plain DDP
    )  # fmt: skip


def scaling(arguments: argparse.Namespace) -> Any:
    """A GPU is asked for by name: a cluster that grows by itself adds GPU nodes only for trials that ask."""
    from ray.train import ScalingConfig

    return ScalingConfig(num_workers=arguments.groups, use_gpu=not arguments.dry_run)


def search(task: lm.Task, arguments: argparse.Namespace) -> Any:
    """The whole search, or the rest of it; returns what to train, or None."""
    from ray import tune

    from jobs_ray import JoBSScheduler, JoBSSearcher, recommend

    workers = scaling(arguments)
    metric, mode = arguments.metric, "max" if arguments.metric == "accuracy" else "min"
    name = f"llama3-{arguments.target}-{metric}{'-dry-run' if arguments.dry_run else ''}"
    folder, mark, options = arguments.out.partition("?")  # s3://bucket?endpoint_override=...
    path = f"{folder.rstrip('/')}/{name}{mark}{options}"
    lm.preflight(task, workers, concurrent=arguments.concurrent, storage=arguments.out)
    trainable = lm.trainable(task, workers)
    if tune.Tuner.can_restore(path):
        print(f"going on with {path}, with the budget, seed and trials at once that it began with")
        # without resume_errored: a run that diverged would diverge again, and be charged again
        tuner = tune.Tuner.restore(path, trainable=trainable)
    else:
        searcher = JoBSSearcher(
            max_t=task.max_steps, budget=arguments.budget, time_attr="step", steps_key=task.steps_key,
            resume_key=task.resume_key, seed=arguments.seed,
            short_t=task.eval_every * 2 if arguments.dry_run else "auto",
        )  # fmt: skip
        tuner = tune.Tuner(
            trainable,
            param_space=nine_space(task),
            tune_config=tune.TuneConfig(
                metric=metric, mode=mode, num_samples=-1, max_concurrent_trials=arguments.concurrent,
                search_alg=searcher, scheduler=JoBSScheduler(), reuse_actors=arguments.groups == 1,
            ),
            run_config=lm.run_config(task, metric=metric, mode=mode, name=name, storage_path=arguments.out, verbose=1),
        )  # fmt: skip
    results = tuner.fit()
    print(f"{len(results)} trials; jobs-ray report {shlex.quote(path)}")
    return recommend(results)


def main(argv: list[str] | None = None) -> Any:
    """Print the plan, search, print what to train; returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=sorted(DATASETS), default="mmlu", help="data set to be good at")
    parser.add_argument("--metric", choices=["eval_loss", "accuracy"], default="eval_loss")
    parser.add_argument("--budget", type=float, default=20.0, help="full runs to spend")
    parser.add_argument("--concurrent", type=int, default=4, help="trials at once")
    parser.add_argument("--groups", type=int, default=1, help="GPUs a trial: 1, or that many with FSDP2")
    parser.add_argument("--tflops", type=float, default=330.0, help="of one GPU in training (an H100 reached 329)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=OUT, help="experiments: a folder that all nodes share, or s3://...")
    parser.add_argument("--dry-run", action="store_true", help="on CPUs, with a shrunk model and made-up rows")
    arguments = parser.parse_args(argv)
    if arguments.metric == "accuracy" and arguments.target == "wikitext":
        parser.error("wikitext has no questions to be right about: take --metric eval_loss")
    local = str(Path(OUT if "://" in arguments.out else arguments.out).resolve())
    arguments.out = arguments.out if "://" in arguments.out else local
    task = nine_task(arguments.target, arguments.metric, arguments.groups)
    print(plan(task, arguments))
    if arguments.dry_run:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        task = shrunk(task, Path(local, "dry-run"))
    found = search(task, arguments)
    print(found)
    return found


if __name__ == "__main__":
    main()
