"""Which rows and questions an evaluation reads, and the summed loss on them in the memory of a few rows' logits.

Notation: B rows of S tokens a pass, V words. Logits are B x S x V: 16 rows of 1,024 tokens over 128k words are 8.4 GB
in float32. So a pass has only as many rows as keep its logits within `LOGITS_BYTES`, and those with a loss are picked
`LOSS_TOKENS` at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs_ray.lm import domains, formatting
from jobs_ray.lm.errors import DataError
from jobs_ray.lm.mixing import collate
from jobs_ray.lm.packed import PackedRows
from jobs_ray.lm.questions import Question
from jobs_ray.lm.task import Task
from jobs_ray.lm.tokens import IGNORE

LOGITS_BYTES = 1 << 29
LOSS_TOKENS = 1024
_BYTES_A_LOGIT = 6  # in bfloat16, as autocast has them made, and in float32, as accelerate hands them on


def sample(count: int, limit: int | None, seed: int) -> list[int]:
    """At most `limit` of `count` rows, in order, the same whoever asks; all of them where limit is None.

    The first rows would be one subject of a data set that is sorted by subject.
    """
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(np.random.default_rng([seed, count]).choice(count, limit, replace=False).tolist())


def questions(task: Task, tokenizer: Any) -> list[Question]:
    """A sample of `Accuracy.questions` questions of its domain, the same for all trials.

    Raises DataError when its rows are not questions.
    """
    spec = task.accuracy
    if spec is None:
        raise DataError("the task has no accuracy metric")
    domain = spec.domain
    rows = domains.load(domain, Path(task.cache_dir))
    kind = domains.kind_of(domain, rows)
    how = {"prompt": domain.prompt, "completion": domain.completion, "tokenizer": tokenizer, "chat": domain.chat}
    chosen = sample(len(rows), spec.questions, task.seed)

    def others() -> Iterator[int]:
        known = set(chosen)
        for at in np.random.default_rng([task.seed, len(rows), 1]).permutation(len(rows)).tolist():
            if at not in known:
                yield at

    # a row without an answer is left out of training, too; another takes its place
    places = itertools.chain(chosen, others())
    answered = (q for at in places if (q := formatting.asked_of(rows[at], kind, **how)).answer.strip())
    asked = list(itertools.islice(answered, len(chosen)))
    if not asked:
        raise DataError(f"none of the {len(rows)} questions of {domain.source!r:.200} has an answer; check its columns")
    return asked


def rows_a_pass(wanted: int, seq_len: int, vocabulary: int) -> int:
    """Rows of which the logits stay within `LOGITS_BYTES`: at most `wanted`, at least one."""
    return max(1, min(wanted, LOGITS_BYTES // (seq_len * vocabulary * _BYTES_A_LOGIT)))


def pass_size(model: Any, wanted: int, seq_len: int) -> int:
    """`rows_a_pass` of a model. The same on every rank."""
    return rows_a_pass(wanted, seq_len, int(model.config.get_text_config().vocab_size))


def loss_sums(
    model: Any,
    rows: PackedRows,
    chosen: list[int],
    size: int,
    *,
    rank: int = 0,
    ranks: int = 1,
    collate: Callable[[list[Any]], dict[str, Any]] = collate,
) -> torch.Tensor:
    """(summed loss, tokens with loss) of this rank's every `ranks`-th chosen row, as a float64 pair on the CPU.

    All ranks make the same number of passes of the same shapes (a sharded model's forward pass needs every rank):
    where a rank has no row left, it reads one again without counting it.
    """
    device = next(model.parameters()).device
    sums = torch.zeros(2, dtype=torch.float64, device=device if device.type != "mps" else "cpu")
    most = -(-len(chosen) // ranks)
    for start in range(0, most, size):
        places = [place * ranks + rank for place in range(start, min(start + size, most))]
        some = [rows[chosen[min(place, len(chosen) - 1)]] for place in places]
        for at, place in enumerate(places):
            if place >= len(chosen):
                some[at] = {**some[at], "labels": np.full_like(some[at]["input_ids"], IGNORE)}
        batch = {n: v.to(device) if isinstance(v, torch.Tensor) else v for n, v in collate(some).items()}
        labels = batch.pop("labels")[:, 1:]
        logits = model(**batch, use_cache=False).logits[:, :-1]
        for row, label in zip(logits, labels, strict=True):
            for part, wanted in zip(row.split(LOSS_TOKENS), label.split(LOSS_TOKENS), strict=True):
                kept = wanted != IGNORE
                # the sum over none is 0, and every rank and row does the same
                loss = torch.nn.functional.cross_entropy(part[kept].float(), wanted[kept], reduction="sum")
                sums[0] += loss.to(sums)
                sums[1] += kept.sum()
        del logits, row, part
    return sums.cpu()
