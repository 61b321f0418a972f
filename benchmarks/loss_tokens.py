"""python -m benchmarks.loss_tokens: should a mixture weight be a share of all tokens, or of those that are learned?

Four made-up domains in the shapes of real ones: `choice` (as MMLU: a long question with options, a word as answer),
`fact` (as commonsense_qa: the same, shorter), `worked` (as gsm8k: a short question, a long solution), `prose` (all of
it is learned). Each has a rule that a small Llama can learn. Uniform weights, then the same random mixtures
(Dirichlet(1)), are trained with both units and the same steps: all that differs is what the weights mean. Printed: the
share of learned tokens by domain under uniform weights, the loss on each domain's held-out part, their mean (the
target), and of the random mixtures the median and the best, which is what a search starts from.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
from pathlib import Path
from typing import Any

import numpy as np

UNITS = ("tokens", "loss_tokens")
ANIMALS = ["cat", "dog", "bird", "fox", "wolf", "mouse", "horse", "sheep", "snake", "goat", "owl", "frog"]
FOODS = ["milk", "bones", "seeds", "grapes", "meat", "cheese", "hay", "grass", "eggs", "bark", "mice", "flies"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def rows_of(name: str, count: int, rng: random.Random) -> list[dict[str, str]]:
    """Rows of one domain; `choice` and `fact` ask for what an animal eats, always the same."""
    rows = []
    for _ in range(count):
        at = rng.randrange(len(ANIMALS))
        options = [*rng.sample([f for f in FOODS if f != FOODS[at]], 5), FOODS[at]]
        rng.shuffle(options)
        filler = " ".join(f"The {rng.choice(ANIMALS)} sees the {rng.choice(ANIMALS)}." for _ in range(6))
        listed = "".join(f"\n- {option}" for option in options)
        a, b = rng.randrange(6), rng.randrange(5)
        steps = " ".join(f"{NUMBERS[a + i]} and one is {NUMBERS[a + i + 1]}." for i in range(b))
        rows.append(
            {
                "choice": {
                    "prompt": f"{filler}\nQuestion: What does the {ANIMALS[at]} eat?{listed}\nAnswer:",
                    "completion": f" {FOODS[at]}",
                },
                "fact": {"prompt": f"What does the {ANIMALS[at]} eat?{listed}\nAnswer:", "completion": f" {FOODS[at]}"},
                "worked": {
                    "prompt": f"What is {NUMBERS[a]} plus {NUMBERS[b]}?",
                    "completion": f" Begin at {NUMBERS[a]}. {steps} So the answer is {NUMBERS[a + b]}.",
                },
                "prose": {"text": f"{filler} In the evening the {ANIMALS[at]} eats {FOODS[at]} and sleeps."},
            }[name]
        )
    return rows


def task_of(folder: Path, unit: Any, steps: int, seed: int) -> Any:
    """The task; its tokenizer is trained on the data."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    from jobs_ray.lm import Domain, Model, Task

    names = ("choice", "fact", "worked", "prose")
    rows = {name: rows_of(name, 600, random.Random(f"{name} {seed}")) for name in names}
    if not (folder / "tokenizer").exists():
        bpe = ByteLevelBPETokenizer()
        texts = [text for some in rows.values() for row in some for text in row.values()]
        bpe.train_from_iterator(texts, vocab_size=400, special_tokens=["</s>"], show_progress=False)
        PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="</s>", pad_token="</s>").save_pretrained(
            folder / "tokenizer"
        )
    domains = {name: Domain(some, held_out=0.1) for name, some in rows.items()}
    return Task(
        domains=domains,
        target={name: domain.validation() for name, domain in domains.items()},
        model=Model(
            config={
                "model_type": "llama", "hidden_size": 64, "head_dim": 16, "num_hidden_layers": 2,
                "max_position_embeddings": 256, "tie_word_embeddings": True,
            },
            tokenizer=str(folder / "tokenizer"),
        ),
        max_steps=steps, eval_every=steps, batch_size=4, seq_len=160, unit=unit, lr=5e-3, warmup=0.1, eval_rows=24,
        cache_dir=str(folder / "packed"), threads=1, seed=seed,
    )  # fmt: skip


def measure(folder: Path, unit: str, steps: int, seed: int, mixtures: int) -> dict[str, Any]:
    """One seed's learned shares and losses under uniform weights, and the targets of the random mixtures."""
    from jobs_ray.lm import Session, run

    task = task_of(folder, unit, steps, seed)
    session = Session(task)
    [uniform] = run(task, {}, session=session)
    learned = sum(uniform["loss_tokens"].values())
    names = list(task.domains)
    drawn = np.random.default_rng([seed, 7]).dirichlet(np.ones(len(names)), mixtures)
    targets = [
        run(task, {"mixture": dict(zip(names, map(float, weights), strict=True))}, session=session)[-1]["eval_loss"]
        for weights in drawn
    ]
    return {
        "share": {name: uniform["loss_tokens"][name] / learned for name in names},
        "loss": {name: uniform[f"eval_{name}_loss"] for name in names},
        "target": uniform["eval_loss"],
        "random": targets,
    }


def main() -> None:
    """Measure, print, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mixtures", type=int, default=6, help="random mixtures a seed")
    parser.add_argument("--out", type=Path, default=Path("out/loss_tokens"))
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    table: dict[str, list[dict[str, Any]]] = {unit: [] for unit in UNITS}
    for seed in range(arguments.seeds):
        for unit in UNITS:
            folder = arguments.out.resolve() / str(seed)
            table[unit].append(measure(folder, unit, arguments.steps, seed, arguments.mixtures))
            print(seed, unit, json.dumps(table[unit][-1]), flush=True)
    for unit, found in table.items():
        shares = {n: round(statistics.mean(f["share"][n] for f in found), 3) for n in found[0]["share"]}
        losses = {n: round(statistics.mean(f["loss"][n] for f in found), 3) for n in found[0]["loss"]}
        targets = [f["target"] for f in found]
        medians = [statistics.median(f["random"]) for f in found]
        best = [min(f["random"]) for f in found]
        print(
            f"{unit:12} learned {shares}; held-out loss {losses}; target {statistics.mean(targets):.3f} "
            f"{[round(t, 3) for t in targets]}; random mixtures: median {statistics.mean(medians):.3f}, "
            f"best {statistics.mean(best):.3f}"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
