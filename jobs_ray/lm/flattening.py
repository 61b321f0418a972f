"""Batches for FlashAttention: the examples packed into all rows as one sequence, with the places where each begins.

With `sdpa` the mask keeps the examples of a row apart. FlashAttention has no mask; it keeps sequences apart by their
boundaries, and reads those from positions only in a batch of one row. transformers' `DataCollatorWithFlattening` makes
that row and the boundaries. It knows one example a feature, so our rows are taken apart first; their padding goes, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs_ray.lm.task import Model
from jobs_ray.lm.tokens import IGNORE, IntArray


def wanted(model: Model) -> bool:
    """Whether this model's attention needs flattened batches."""
    return "flash" in str(model.kwargs.get("attn_implementation", ""))


def flatten(rows: list[dict[str, IntArray]]) -> dict[str, Any]:
    """Packed rows as a batch of (1, N) int64 tensors, N the tokens of all examples, with where each begins."""
    from transformers import DataCollatorWithFlattening

    examples = [example for row in rows for example in _examples(row)]
    # padding has nothing to learn; a rank without a row of its own reads one without labels, all of which stays
    learned = [example for example in examples if (example["labels"][1:] != IGNORE).any()] or examples
    batch: dict[str, Any] = DataCollatorWithFlattening(return_flash_attn_kwargs=True)(learned)
    return batch


def _examples(row: dict[str, IntArray]) -> list[dict[str, IntArray]]:
    labels = row.get("labels", row["input_ids"])
    starts = np.flatnonzero(row["position_ids"] == 0) if "position_ids" in row else np.zeros(1, dtype=np.int64)
    return [
        {"input_ids": ids, "labels": said}
        for ids, said in zip(np.split(row["input_ids"], starts[1:]), np.split(labels, starts[1:]), strict=True)
    ]
