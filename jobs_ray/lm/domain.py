"""`Domain`: a source of examples, as plain data that travels inside a pickled task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from jobs_ray.lm.errors import DataError

Part = Literal["all", "train", "held_out"]


@dataclass(frozen=True)
class Domain:
    """One source of training or validation examples.

    source: a `datasets` name (`"openai/gsm8k"`), a local file, folder or glob (parquet, JSONL, CSV, TSV, Arrow, text;
        also compressed: .gz, .zst, .bz2), a folder of `save_to_disk`, several files, a list of row dicts, or a loaded
        `Dataset` or `DatasetDict`. Of a folder every file is data, but README, LICENSE and hidden ones.
    streaming: read only so many rows, one after the other, of a `datasets` name (which is then not downloaded whole) or
        of an `IterableDataset`. They are kept in the task's cache: name a `revision` if the name's content may change.
    subset, split, revision: of a `datasets` name; `split` may be a slice such as `"train[:1000]"`, and names the part
        of a `DatasetDict`.
    format: how a row becomes text; "auto" looks at the columns (see `formatting.FORMATS`). Or a function of the row
        that returns a text, or a row in one of these formats: `{"prompt": ..., "completion": ...}`,
        `{"messages": [...]}`; an empty text leaves the row out. Its tokens are found again by its code.
    chat: True writes questions and prompt/completion rows as a user's and an assistant's turn, through the tokenizer's
        chat template, in training and in the accuracy metric; rows of "messages" always are.
    column: the text column of the "text" format. Prompt and completion columns: `prompt`, `completion`.
    sample_by: what one example of a text file is: "document" (the file), "paragraph" or "line".
    held_out, part: with `held_out=0.1`, every tenth example belongs to the part "held_out", the others to
        "train". `Domain.validation()` gives the held-out part; what is trained on is then the rest.
    max_examples: use only the first so many examples (after the split into parts).
    known: key of the content of a name on the hub, or of a loaded `Dataset`; `lm.trainable` fills it in, so that no
        trial asks the hub, or needs the files behind a `Dataset`, for rows that are packed.
    """

    source: Any
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    streaming: int | None = None
    format: str | Callable[[Any], Any] = "auto"
    column: str = "text"
    prompt: str = "prompt"
    completion: str = "completion"
    chat: bool = False
    sample_by: Literal["document", "paragraph", "line"] = "document"
    held_out: float = 0.0
    part: Part = "all"
    max_examples: int | None = None
    known: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out <= 0.5:
            raise DataError(
                f"held_out must be a fraction in [0, 0.5], got {self.held_out}; "
                "name a second source as the target to validate on more"
            )
        if self.part == "held_out" and self.held_out == 0.0:
            raise DataError("part 'held_out' needs held_out > 0, for example held_out=0.1")
        if self.part not in ("all", "train", "held_out"):
            raise DataError(f"part must be 'all', 'train' or 'held_out', got {self.part!r}")
        if self.max_examples is not None and self.max_examples < 1:
            raise DataError(f"max_examples must be at least 1, got {self.max_examples}")
        if self.streaming is not None and self.streaming < 1:
            raise DataError(f"streaming is the number of rows to read, at least 1, got {self.streaming}")

    def validation(self) -> Domain:
        """The held-out part of this domain, as a domain of its own."""
        return replace(self, part="held_out", max_examples=None)

    def training(self) -> Domain:
        """What is trained on: all of it, or what is not held out."""
        return replace(self, part="train") if self.held_out and self.part == "all" else self
