"""Flattened batches, for FlashAttention: isolated examples and the same curve; on a CPU sdpa reads the positions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs_ray.lm import Domain, Model, Session, Task, evaluation, run
from jobs_ray.lm.flattening import flatten, wanted
from jobs_ray.lm.loop import build
from jobs_ray.lm.mixing import collate

PAIRS = [{"prompt": f"one plus {w}", "completion": " equals six" * n} for n, w in enumerate(("two", "four", "five"), 1)]


def paired(make_task: Callable[..., Task], base_dir: Path, rows: list[dict[str, str]], **changes: Any) -> Task:
    domains = {"pairs": Domain(rows), "text": Domain([{"text": "the cat sees a bird " * 20}])}
    target = {"t": Domain(PAIRS * 5)}
    return make_task(
        **{"domains": domains, "target": target, "model": Model(name=str(base_dir)), "seq_len": 64, **changes}
    )


def test_who_is_flattened() -> None:
    for name in ("flash_attention_2", "flash_attention_3", "kernels-community/flash-attn2"):
        assert wanted(Model(name="x", kwargs={"attn_implementation": name}))
    assert not wanted(Model(name="x", kwargs={"attn_implementation": "sdpa"}))
    assert not wanted(Model(name="x"))


def test_a_batch_is_its_examples_without_padding(make_task: Callable[..., Task], base_dir: Path) -> None:
    session = Session(paired(make_task, base_dir, PAIRS))
    rows = [session.train["pairs"][0], session.train["text"][0]]
    plain, flat = collate(rows), flatten(rows)
    starts = flat["cu_seq_lens_q"].tolist()
    lengths = [b - a for a, b in pairwise(starts)]
    assert len(lengths) == len(PAIRS) + 1
    assert lengths[-1] == 64  # a row of text is one example
    assert flat["max_length_q"] == 64
    assert flat["input_ids"].shape == (1, starts[-1])
    used = int(session.train["pairs"].lengths[0])
    assert starts[-1] == used + 64
    assert flat["input_ids"][0, :used].tolist() == plain["input_ids"][0, :used].tolist()
    assert flat["position_ids"][0, :used].tolist() == plain["position_ids"][0, :used].tolist()
    assert all(flat["labels"][0, start] == -100 for start in starts[:-1])
    assert int((flat["labels"] != -100).sum()) == int((plain["labels"][:, 1:] != -100).sum())


def test_flattened_examples_do_not_see_each_other_in_training(
    make_task: Callable[..., Task], base_dir: Path, tmp_path: Path
) -> None:
    losses, counts = [], []
    for rows in (PAIRS, *([pair] for pair in PAIRS)):
        session = Session(paired(make_task, base_dir, rows, batch_size=1))
        session.collate = flatten
        trainer = build({}, session, lambda *_: None, tmp_path, save=False)
        trainer.model.train()
        batch = trainer.data_collator([session.train["pairs"][0]])
        counts.append(int((batch["labels"] != -100).sum()))
        losses.append(trainer.compute_loss(trainer.model, batch, num_items_in_batch=1).item())
    assert counts[0] == sum(counts[1:])
    assert losses[0] == pytest.approx(sum(losses[1:]), rel=1e-5)


def test_a_flattened_run_is_the_padded_one(make_task: Callable[..., Task], base_dir: Path) -> None:
    task = paired(make_task, base_dir, PAIRS * 7, max_steps=6)
    padded, flat = Session(task), Session(task)
    flat.collate = flatten
    # no text: transformers counts the first token of its padded rows among those with loss
    config = {"mixture": {"pairs": 1.0}, "lora": {"r": 4, "q_proj": True, "v_proj": True}, "lr": 1e-2}
    one, two = run(task, config, session=padded), run(task, config, session=flat)
    assert [r["eval_loss"] for r in two] == pytest.approx([r["eval_loss"] for r in one], abs=1e-5)
    assert [r["train_loss"] for r in two] == pytest.approx([r["train_loss"] for r in one], rel=1e-4)


def test_a_rank_without_a_row_makes_its_pass(make_task: Callable[..., Task], base_dir: Path) -> None:
    session = Session(paired(make_task, base_dir, PAIRS))
    model = session.models.build({}, 0).eval()
    rows = session.target["t"]
    with torch.no_grad():
        whole = evaluation.loss_sums(model, rows, [0], 2)
        parts = [evaluation.loss_sums(model, rows, [0], 2, rank=r, ranks=2, collate=flatten) for r in (0, 1)]
    assert parts[0].tolist() == pytest.approx(whole.tolist(), rel=1e-5)
    assert parts[1].tolist() == [0.0, 0.0]
