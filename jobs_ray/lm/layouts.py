"""The two layouts of packed rows (see `packing.py`): text joined and cut, examples side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jobs_ray.lm import formatting
from jobs_ray.lm.chat import has_template
from jobs_ray.lm.domains import Domain

if TYPE_CHECKING:
    from datasets import Dataset

IGNORE = -100  # transformers' label of a token without loss
_EXAMPLES_A_CALL = 512
_OPEN_BINS = 32


def encode(rows: Dataset, domain: Domain, kind: str, tokenizer: Any) -> Iterator[list[tuple[list[int], bool]]]:
    """Every example as token segments, special tokens included."""
    templated = (kind in ("chat", "conversational") and has_template(tokenizer)) or domain.chat
    first = tokenizer("")["input_ids"][:1] if not templated else []
    begin = [t for t in first if t == tokenizer.bos_token_id]
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None and not templated else []
    for start in range(0, len(rows), _EXAMPLES_A_CALL):
        block = rows[start : start + _EXAMPLES_A_CALL]
        names = list(block)
        examples = [
            formatting.segments_of(
                dict(zip(names, values, strict=True)),
                kind,
                column=domain.column,
                prompt=domain.prompt,
                completion=domain.completion,
                tokenizer=tokenizer,
                chat=domain.chat,
            )
            for values in zip(*block.values(), strict=True)
        ]
        texts = [text for example in examples for text, _ in example]
        ids = iter(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else [])
        for example in examples:
            tokens = [(next(ids), loss) for _, loss in example]
            if tokens and begin:
                tokens.insert(0, (list(begin), False))
            if tokens and end:
                tokens.append((list(end), tokens[-1][1]))
            yield tokens


class TextRows:
    """Documents joined and cut into full rows; what is left at the end is dropped."""

    def __init__(self, examples: Iterator[list[tuple[list[int], bool]]], seq_len: int) -> None:
        self._encoded, self._seq_len = examples, seq_len
        self.examples = self.truncated = self.dropped = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, list[int]]]]:
        left: list[int] = []
        full = False
        for example in self._encoded:
            if not example:
                self.dropped += 1
                continue
            self.examples += 1
            for tokens, _ in example:
                left += tokens
            at = 0
            while len(left) - at >= self._seq_len:
                full = True
                yield self._seq_len, {"input_ids": left[at : at + self._seq_len]}
                at += self._seq_len
            del left[:at]
        if left and not full:
            # Padding would be learned as text, so the short domain is repeated to fill its one row.
            yield self._seq_len, {"input_ids": (left * self._seq_len)[: self._seq_len]}


class ExampleRows:
    """Whole examples packed side by side: first fit over a few open rows."""

    def __init__(self, examples: Iterator[list[tuple[list[int], bool]]], tokenizer: Any, seq_len: int) -> None:
        self._encoded, self._seq_len, self._pad = examples, seq_len, _pad_id(tokenizer)
        self.examples = self.truncated = self.dropped = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, list[int]]]]:
        open_rows: list[dict[str, list[int]]] = []
        for example in self._encoded:
            ids = [t for tokens, _ in example for t in tokens]
            labels = [t if loss else IGNORE for tokens, loss in example for t in tokens]
            long = len(ids) > self._seq_len
            if long and all(label == IGNORE for label in labels[: self._seq_len]):
                # A prompt longer than the row: its end and the completion are worth more than its beginning.
                ids, labels = ids[-self._seq_len :], labels[-self._seq_len :]
            ids, labels = ids[: self._seq_len], labels[: self._seq_len]
            if labels:
                labels[0] = IGNORE  # predicted from the example before it in the row: nothing to learn
            if all(label == IGNORE for label in labels):
                self.dropped += 1
                continue
            self.truncated += long
            self.examples += 1
            row = next((r for r in open_rows if len(r["input_ids"]) + len(ids) <= self._seq_len), None)
            if row is None:
                if len(open_rows) == _OPEN_BINS:
                    yield self._closed(open_rows.pop(0))
                row = {"input_ids": [], "labels": [], "position_ids": []}
                open_rows.append(row)
            row["input_ids"] += ids
            row["labels"] += labels
            row["position_ids"] += range(len(ids))
        for row in open_rows:
            yield self._closed(row)

    def _closed(self, row: dict[str, list[int]]) -> tuple[int, dict[str, list[int]]]:
        used = len(row["input_ids"])
        pad = self._seq_len - used
        row["input_ids"] += [self._pad] * pad
        row["labels"] += [IGNORE] * pad
        row["position_ids"] += range(pad)
        return used, row


def _pad_id(tokenizer: Any) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
