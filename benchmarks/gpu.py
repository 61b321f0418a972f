"""python -m benchmarks.gpu: a Llama of real size on one GPU. Memory against `lm.memory_per_gpu`, tokens a second
against a bare PyTorch loop, seconds to start the first trial and the next one.

Weights are random (no download; neither memory nor speed depends on their values), rows are made up; batch, row length,
accumulation and checkpointing are those of `examples/llama3_nine_datasets.py`, the adapters the largest of its space.
`--shapes tiny` runs on a CPU, where there is no memory to read.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from jobs_ray import lm
from jobs_ray.lm import loop
from jobs_ray.lm.estimate import operations
from jobs_ray.lm.lora import PAPERS_MODULES
from jobs_ray.lm.mixing import MixedRows, MixturePlan, collate, weights_of
from jobs_ray.lm.model import bf16_available, empty_model

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
             "num_key_value_heads": 1, "vocab_size": 300},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128_256},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128_256},
}  # fmt: skip
LORA = {"r": 128, "alpha": 64, "dropout": 0.0, **dict.fromkeys(PAPERS_MODULES, True)}
WARM = 2  # steps not counted: first allocations
CUDA = torch.cuda.is_available()


def write_model(shape: dict[str, int], folder: Path) -> None:
    """A model of random weights with a tokenizer of 300 words."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([row["text"] for row in rows(50)], vocab_size=300, special_tokens=["<eos>"])
    PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<eos>").save_pretrained(folder)
    with torch.device("cuda" if CUDA else "cpu"), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        config = LlamaConfig(rope_theta=500_000.0, tie_word_embeddings=False, **shape)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def rows(count: int) -> list[dict[str, str]]:
    rng = random.Random(0)
    words = ["the", "cat", "sees", "a", "bird", "one", "plus", "two", "equals", "three"]
    return [{"text": " ".join(rng.choices(words, k=rng.randint(50, 600)))} for _ in range(count)]


def peak() -> float:
    """Bytes allocated at most since the last call."""
    if not CUDA:
        return 0.0
    most = float(torch.cuda.max_memory_allocated())
    torch.cuda.reset_peak_memory_stats()
    return most


def wait() -> float:
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


def bare(session: lm.Session, config: dict[str, Any], warm: int = WARM) -> tuple[float, float]:
    """(tokens a second after `warm` steps, peak bytes) of torch alone: same model, rows and numbers."""
    task = session.task
    weights = weights_of(None, list(task.domains))
    plan = MixturePlan(session.train, weights, task.max_steps * task.batch_size, seed=0, unit=task.unit)
    data, size = MixedRows(session.train, plan), task.batch_size // task.accumulation
    device = torch.device("cuda" if CUDA else "cpu")
    model = session.models.build(config, 0).to(device).train()
    model.config.use_cache = False
    if task.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=task.lr, fused=True)
    peak()
    began = 0.0
    for step in range(task.max_steps):
        if step == warm:
            began = wait()
        for part in range(task.accumulation):
            first = step * task.batch_size + part * size
            batch = collate([data[i] for i in range(first, first + size)])
            batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16_available()):
                loss = model(**batch).loss / task.accumulation
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = wait() - began
    del model, optimizer, trained, loss, batch
    gc.collect()
    return (task.max_steps - warm) * task.batch_size * task.seq_len / seconds, peak()


def ours(session: lm.Session, config: dict[str, Any], warm: int = WARM) -> tuple[float, float, dict[str, float]]:
    """(tokens a second, peak bytes, start-up seconds) of one trial as `lm.trainable` runs it, evaluations not timed."""
    peak()
    reports = loop.run(session.task, config, session=session)
    timed = [r for r in reports if r["step"] > warm]
    seconds = sum(r["train_seconds"] for r in timed)
    tokens = (session.task.max_steps - warm) * session.task.batch_size * session.task.seq_len
    return tokens / seconds, peak(), reports[-1]["startup_s"]


def measure(name: str, lora: dict[str, Any] | None, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One shape, LoRA or full fine-tuning; its row of the table."""
    domain = lm.Domain(rows(400), held_out=0.2)
    task = lm.Task(
        domains={"d": domain.training()}, target={"d": domain.validation()}, model=lm.Model(str(folder)),
        max_steps=WARM * (1 + arguments.reports), eval_every=WARM, batch_size=16, seq_len=arguments.seq_len, lr=1e-5,
        accumulation=4, eval_rows=16, activation_checkpointing=not arguments.keep_activations, threads=None,
        cache_dir=str(folder / "packed"),
    )  # fmt: skip
    session = lm.Session(task)
    config: dict[str, Any] = {"lora": lora}
    speeds: dict[str, list[float]] = {"bare": [], "ours": []}
    peaks: dict[str, list[float]] = {"bare": [], "ours": []}
    starts = []
    for _ in range(arguments.rounds):
        speed, most, start = ours(session, config)
        speeds["ours"].append(speed)
        peaks["ours"].append(most)
        starts.append(start)
        speed, most = bare(session, config)
        speeds["bare"].append(speed)
        peaks["bare"].append(most)
    model = empty_model(task.model)
    expected = lm.memory_per_gpu(task, model, lora=lora)
    each = operations(replace(task, eval_rows=0), model, frozen=lora is not None) / (
        task.max_steps * task.batch_size * task.seq_len
    )
    middle = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "shape": name, "lora": lora is not None, "tokens_per_second": middle, "ratio": middle["ours"] / middle["bare"],
        "all": speeds, "tflops": middle["ours"] * each / 1e12, "peak_gb": {k: max(v) / 1e9 for k, v in peaks.items()},
        "peaks": peaks, "expected_gb": {k: v / 1e9 for k, v in (asdict(expected) | {"total": expected.total}).items()},
        "startup_s": starts,
    }  # fmt: skip


def main() -> None:
    """Measure, print, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["1b", "8b"])
    parser.add_argument("--full", nargs="*", choices=list(SHAPES), default=["1b"], help="shapes also fine-tuned whole")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--reports", type=int, default=4, help=f"of {WARM} steps each, after the first")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep-activations", action="store_true", help="without activation checkpointing")
    parser.add_argument("--folder", type=Path, default=None, help="where the models are written (8b: 16 GB)")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    table = []
    for name in arguments.shapes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            write_model(SHAPES[name], Path(folder))
            for lora in [LORA] + [None] * (name in arguments.full):
                row = measure(name, lora, arguments, Path(folder))
                table.append(row)
                print(
                    f"{name} {'LoRA' if lora else 'full'}: ours {row['tokens_per_second']['ours']:,.0f} tokens/s, bare "
                    f"{row['tokens_per_second']['bare']:,.0f}, ratio {row['ratio']:.3f}; {row['tflops']:.0f} TFLOP/s; "
                    f"peak {row['peak_gb']['ours']:.1f} GB (bare {row['peak_gb']['bare']:.1f}), expected "
                    f"{row['expected_gb']['total']:.1f}: "
                    + ", ".join(f"{k} {v:.1f}" for k, v in row["expected_gb"].items() if k != "total")
                    + f"; start-up {[round(sum(s.values()), 1) for s in row['startup_s']]} s",
                    flush=True,
                )
                if arguments.json is not None:
                    arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
