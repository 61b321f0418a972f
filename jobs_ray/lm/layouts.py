"""The two layouts of packed rows (see `packing.py`): text joined and cut, examples side by side.

Both take the examples of `tokens.examples` and yield (tokens used, {column: `seq_len` numbers}).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jobs_ray.lm.tokens import IGNORE, IntArray

_OPEN_BINS = 32


class TextRows:
    """Documents joined and cut into full rows; what is left at the end is dropped. Less than a row is repeated to fill
    one, or (`once`) padded: a row of padding would be a row of training lost, and what is repeated is easily said."""

    def __init__(self, encoded: Iterable[dict[str, Any]], tokenizer: Any, seq_len: int, *, once: bool) -> None:
        self._encoded, self._seq_len, self._pad, self._once = encoded, seq_len, _pad_id(tokenizer), once
        self.examples = self.truncated = self.dropped = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, IntArray]]]:
        size = self._seq_len
        waiting: list[IntArray] = []
        count = 0
        full = False
        for example in self._encoded:
            ids = example["input_ids"]
            if not len(ids):
                self.dropped += 1
                continue
            self.examples += example["ends"]
            waiting.append(ids)
            count += len(ids)
            if count < size:
                continue
            joined = np.concatenate(waiting)
            for at in range(0, count - size + 1, size):
                full = True
                yield size, {"input_ids": joined[at : at + size]}
            waiting = [joined[count // size * size :].copy()]
            count = len(waiting[0])
        if count and not full and not self._once:
            yield size, {"input_ids": np.resize(np.concatenate(waiting), size)}
        elif count > 1 and not full:
            ids = np.full(size, self._pad, dtype=np.int32)
            ids[:count] = np.concatenate(waiting)
            labels = ids.copy()
            labels[:1] = labels[count:] = IGNORE
            yield count, {"input_ids": ids, "labels": labels}


class ExampleRows:
    """Whole examples packed side by side: first fit over a few open rows; or (`alone`) one a row."""

    def __init__(self, encoded: Iterable[dict[str, Any]], tokenizer: Any, seq_len: int, *, alone: bool) -> None:
        self._encoded, self._seq_len, self._pad, self._alone = encoded, seq_len, _pad_id(tokenizer), alone
        self.examples = self.truncated = self.dropped = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, IntArray]]]:
        open_rows: list[list[tuple[IntArray, IntArray]]] = []
        free: list[int] = []
        for example in self._encoded:
            ids, labels = example["input_ids"], example["labels"]
            long = len(ids) > self._seq_len
            if long and (labels[: self._seq_len] == IGNORE).all():
                # A prompt longer than the row: its end and the completion are worth more than its beginning.
                ids, labels = ids[-self._seq_len :], labels[-self._seq_len :]
            ids, labels = ids[: self._seq_len], labels[: self._seq_len].copy()
            labels[:1] = IGNORE  # predicted from the example before it in the row: nothing to learn
            if (labels == IGNORE).all():
                self.dropped += 1
                continue
            self.truncated += long
            self.examples += 1
            at = next((i for i, room in enumerate(free) if room >= len(ids)), len(free))
            if at == len(free):
                if len(open_rows) == _OPEN_BINS:
                    free.pop(0)
                    yield self._closed(open_rows.pop(0))
                    at -= 1
                open_rows.append([])
                free.append(self._seq_len)
            open_rows[at].append((ids, labels))
            free[at] = 0 if self._alone else free[at] - len(ids)
        for row in open_rows:
            yield self._closed(row)

    def _closed(self, row: list[tuple[IntArray, IntArray]]) -> tuple[int, dict[str, IntArray]]:
        used = sum(len(ids) for ids, _ in row)
        pad = self._seq_len - used
        lengths = [*(len(ids) for ids, _ in row), pad]
        return used, {
            "input_ids": np.concatenate([*(ids for ids, _ in row), np.full(pad, self._pad, dtype=np.int32)]),
            "labels": np.concatenate([*(labels for _, labels in row), np.full(pad, IGNORE, dtype=np.int32)]),
            "position_ids": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        }


def _pad_id(tokenizer: Any) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
