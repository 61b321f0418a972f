"""Rows to tokens with `datasets.map`: several processes, a progress bar, and memory bounded whatever a text's length.

The tokens go to a temporary Arrow file with one row an example (of text: a piece of a document), columns

    input_ids    special tokens included; empty for a row with nothing to learn
    labels       of examples: the token, or IGNORE where there is no loss
    ends         of text: whether the piece is its document's last
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs_ray.lm import formatting, sources
from jobs_ray.lm.chat import Segments, has_template
from jobs_ray.lm.domain import Domain
from jobs_ray.lm.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

IGNORE = -100  # transformers' label of a token without loss
TEXTS = ("text", "wikitext")
# A tokenizer's memory is some 150 bytes a character (30 MB in one piece: 5.4 GB). Cut before a single space between
# words, the pieces of a byte-level BPE have the same tokens as the whole (tests); where there is none, a word is cut.
PIECE = 1 << 16  # characters
_CALL = 1 << 20  # characters a call of the tokenizer
_EXAMPLES_A_CALL = 512
_SHOWN_FROM = 5_000  # rows: a bar for less is noise
_CUT = re.compile(r"(?<=\S) (?=\S)")

IntArray = np.ndarray[Any, np.dtype[np.int32]]


def encode(
    rows: Dataset, domain: Domain, kind: str, tokenizer: Any, folder: Path, processes: int | None = None
) -> Dataset:
    """The rows' tokens as described above, in a file in `folder`."""
    from datasets import Features, List, Value

    quiet = sources.quiet if len(rows) < _SHOWN_FROM and not processes else nullcontext
    how: dict[str, Any] = {"batched": True, "load_from_cache_file": False}
    numbers = List(Value("int32"))
    with quiet():
        if kind in TEXTS:
            column = domain.column if isinstance(domain.format, str) else "text"
            ends = False
            if _longest(rows, column) > PIECE:
                ends = True
                rows = rows.map(
                    _pieces, fn_kwargs={"column": column}, batch_size=16, remove_columns=rows.column_names,
                    cache_file_name=str(folder / "pieces.arrow"), new_fingerprint="pieces", desc="Cutting texts", **how,
                )  # fmt: skip
            function: Any = _Texts(tokenizer, "text" if ends else column)
            features = Features({"input_ids": numbers, "ends": Value("bool")})
        else:
            function = _Examples(replace(domain, source="", format=kind), kind, tokenizer)
            features = Features({"input_ids": numbers, "labels": numbers})
        return rows.map(
            function,
            batch_size=_EXAMPLES_A_CALL,
            num_proc=min(processes, len(rows)) if processes and processes > 1 and len(rows) > 1 else None,
            remove_columns=rows.column_names,
            features=features,
            cache_file_name=str(folder / "tokens.arrow"),
            new_fingerprint="tokens",
            desc="Tokenising",
            **how,
        )


def examples(encoded: Dataset) -> Iterator[dict[str, Any]]:
    """The rows of `encode`, lists as int32 arrays that share the file's memory."""
    for batch in encoded.with_format("arrow").iter(_EXAMPLES_A_CALL):
        columns = {}
        for name in batch.column_names:
            whole = batch.column(name).combine_chunks()
            if name == "ends":
                columns[name] = whole.to_pylist()
                continue
            numbers, cuts = whole.values.to_numpy(), whole.offsets.to_numpy()
            columns[name] = [numbers[a:b] for a, b in pairwise(cuts)]
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


class _Texts:
    """Documents, or pieces of them, with the tokenizer's first and last tokens around each document."""

    def __init__(self, tokenizer: Any, column: str) -> None:
        self._tokenizer, self._column = tokenizer, column
        self._begin, self._end = around(tokenizer)

    def __call__(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = columns[self._column]
        begins, ends = (columns.get(name, [True] * len(texts)) for name in ("begins", "ends"))
        found = [
            np.asarray([*(self._begin if first else ()), *ids, *(self._end if last else ())], dtype=np.int32)
            for ids, first, last in zip(_ids(texts, self._tokenizer), begins, ends, strict=True)
        ]
        for at, text in enumerate(texts):
            if begins[at] and ends[at] and not (text and text.strip()):
                found[at] = found[at][:0]  # an empty document: its last token would be learned too
        return {"input_ids": found, "ends": ends}


class _Examples:
    """Rows of every other format, as `formatting.segments_of` writes them."""

    def __init__(self, domain: Domain, kind: str, tokenizer: Any) -> None:
        self._domain, self._kind, self._tokenizer = domain, kind, tokenizer
        templated = (kind in formatting.TURNS and has_template(tokenizer)) or domain.chat
        self._begin, self._end = ([], []) if templated else around(tokenizer)

    def __call__(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        domain = self._domain
        how: dict[str, Any] = {
            "column": domain.column,
            "prompt": domain.prompt,
            "completion": domain.completion,
            "chat": domain.chat,
        }
        rows = [
            formatting.segments_of(
                dict(zip(columns, values, strict=True)), self._kind, tokenizer=self._tokenizer, **how
            )
            for values in zip(*columns.values(), strict=True)
        ]
        made: dict[str, list[Any]] = {"input_ids": [], "labels": []}
        for row, (ids, learned) in zip(rows, numbered(rows, self._tokenizer), strict=True):
            if row:
                ids = [*self._begin, *ids, *self._end]
                learned = [*[False] * len(self._begin), *learned, *[row[-1][1]] * len(self._end)]
            tokens = np.asarray(ids, dtype=np.int32)
            made["input_ids"].append(tokens)
            made["labels"].append(np.where(np.asarray(learned, dtype=bool), tokens, np.int32(IGNORE)))
        return made


def numbered(rows: Sequence[Segments], tokenizer: Any) -> Iterator[tuple[list[int], list[bool]]]:
    """Each row's tokens, and which of them are learned; without what stands around an example.

    Segments are tokenised apart: a prompt has the tokens that it has at use, where nothing follows it. But a tokenizer
    that begins every text with a space of its own (SentencePiece's) would write one before every segment, and it would
    be learned. Such a tokenizer is given the row as one text, as it is given a chat at use; there a token is learned if
    any of its characters lies in a segment with loss. So a token that straddles a prompt and its answer is learned
    whole: of "Answer: " and "three" it is "▁three", with the prompt's last space.
    """
    # A tokenizer written in Python (is_fast=False) says nothing of where in the text its tokens are: apart, as ever.
    if getattr(tokenizer, "is_fast", False) and _begins_with_space(tokenizer):
        texts = ["".join(text for text, _ in row) for row in rows]
        left = iter(rows)
        for made in _calls(texts, tokenizer, return_offsets_mapping=True):
            for ids, spans in zip(made["input_ids"], made["offset_mapping"], strict=True):
                yield ids, _with_loss(next(left), spans)
        return
    parts = _ids([text for row in rows for text, _ in row], tokenizer)
    for row in rows:
        found = [(next(parts), loss) for _, loss in row]
        yield [i for ids, _ in found for i in ids], [loss for ids, loss in found for _ in ids]


def _begins_with_space(tokenizer: Any) -> bool:
    """Whether the tokens that begin a text differ from those of the same text within another. Asked with characters
    for private use, which no vocabulary merges: words and newlines may be merged with what stands beside them."""
    one, two = "\U0010f123", "\U0010f321"
    [alone, both] = tokenizer([two, one + two], add_special_tokens=False)["input_ids"]
    return tokenizer.unk_token_id not in alone and bool(both[-len(alone) :] != alone)


def _with_loss(row: Segments, spans: Sequence[tuple[int, int]]) -> list[bool]:
    if not spans:
        return []
    characters = np.repeat([loss for _, loss in row], [len(text) for text, _ in row])
    before = np.concatenate([[0], np.cumsum(characters)])  # how many characters with loss stand before each
    starts, ends = np.asarray(spans).T
    # byte-level tokens of spaces alone may be trimmed to nothing; they then stand from the end of the token before
    starts = np.where(starts == ends, np.concatenate([[0], ends[:-1]]), starts)
    learned: list[bool] = (before[ends] > before[starts]).tolist()
    return learned


def _ids(texts: list[Any], tokenizer: Any) -> Iterator[list[int]]:
    for made in _calls(texts, tokenizer):
        yield from made["input_ids"]


def _calls(texts: list[Any], tokenizer: Any, **how: Any) -> Iterator[Any]:
    """What the tokenizer gives for the texts, several a call, as many as keep its memory small."""
    start = size = 0
    for at, text in enumerate([*texts, None]):
        if at == len(texts) or (size and size + len(text or "") > _CALL):
            if at > start:
                some = [text or "" for text in texts[start:at]]
                yield tokenizer(some, add_special_tokens=False, verbose=False, **how)
            start, size = at, 0
        size += len(text or "")


def around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What stands before and after an example: begin-of-text where this tokenizer writes it, end-of-text."""
    first = tokenizer("")["input_ids"][:1]
    end = tokenizer.eos_token_id
    return [t for t in first if t == tokenizer.bos_token_id], [] if end is None else [end]


def _longest(rows: Dataset, column: str) -> int:
    """Characters, at most, of the longest text (its bytes). Raises DataError where the column holds no text."""
    import pyarrow.compute as pc

    kinds = {name: getattr(feature, "dtype", "rows") for name, feature in rows.features.items()}
    if kinds.get(column) == "null":  # every text is missing
        return 0
    if kinds.get(column) not in ("string", "large_string"):
        raise DataError(
            f"rows with columns {kinds} are not in the format 'text', with a text in column {column!r}; set "
            "Domain.column, or format"
        )
    batches = rows.select_columns([column]).with_format("arrow").iter(1000)
    return max((pc.max(pc.binary_length(batch.column(0))).as_py() or 0 for batch in batches), default=0)


def _pieces(columns: dict[str, list[Any]], column: str) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {"text": [], "begins": [], "ends": []}
    for text in columns[column]:
        text = text if text and text.strip() else ""
        cuts = [0]
        while len(text) - cuts[-1] > PIECE:
            found = _CUT.search(text, cuts[-1] + PIECE - PIECE // 16, cuts[-1] + PIECE)
            cuts.append(found.start() if found else cuts[-1] + PIECE)
        for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True):
            made["text"].append(text[a:b])
            made["begins"].append(a == 0)
            made["ends"].append(b == len(text))
    return made
