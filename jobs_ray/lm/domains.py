"""Domains: named sources of examples, loaded through `datasets` whatever they are stored as.

A `Domain` is plain data (it travels inside a pickled task); `load` turns it into a `datasets.Dataset`, and
`fingerprint` into a key of its *content*, so that packed tokens are reused exactly when nothing has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jobs_ray.lm import formatting, sources, streams, travel
from jobs_ray.lm.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

Part = Literal["all", "train", "held_out"]

_FORMATTED = 2  # part of the name of the rows that a function as format made: raise it when those would change


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


def load(domain: Domain, cache: Path) -> Dataset:
    """The rows of the domain's part, in source order. Raises DataError naming the source."""
    from datasets import load_from_disk

    domain = travel.settled(domain, cache)
    if domain.known and (kept := travel.kept_rows(domain, cache)).exists():
        rows = load_from_disk(str(kept))
    elif isinstance(domain.source, travel.Left):
        raise DataError(
            f"{domain.source} stayed with the process that loaded it, and what was packed of it is not in {cache}; "
            "let all nodes share Task.cache_dir, or `save_to_disk` it where they see it and name that folder"
        )
    elif domain.streaming:
        rows = _from_stream(domain, cache)
    else:
        rows = sources.in_memory(domain.source, domain.split)
    if rows is None:
        found = sources.find(domain.source)
        try:
            if found is not None:
                rows = sources.read(found, domain.source, domain.split, domain.sample_by, cache)
            else:
                rows = travel.from_hub(domain)
        except DataError:
            raise
        except Exception as error:
            raise sources.unreadable(domain.source, domain.split, error) from error
    rows = _part(rows, domain)
    if callable(domain.format):
        function = domain.format
        # `datasets` gives a column back the type that it had: texts made of numbers would be numbers again
        first, types = formatting.apply(function, rows[:1]), rows.features
        texts = [
            n for n in first if isinstance(first[n][0], str) and getattr(types.get(n), "dtype", "string") != "string"
        ]
        name = f"{fingerprint(domain)}-{_FORMATTED}" + ("-texts" if texts else "")
        file = cache.expanduser() / "formatted" / f"{name}.arrow"
        file.parent.mkdir(parents=True, exist_ok=True)
        with sources.quiet():
            rows = rows.map(
                lambda columns: formatting.apply(function, columns),
                batched=True,
                remove_columns=rows.column_names,
                cache_file_name=str(file),
                new_fingerprint=file.stem,
                try_original_type=not texts,
            )
    return rows


def kind_of(domain: Domain, rows: Dataset) -> str:
    """The format of loaded rows: a name of `formatting.FORMATS`. Raises DataError when none fits."""
    if isinstance(domain.format, str) and domain.format != "auto":
        return domain.format
    return formatting.detect(rows[0], column=domain.column, prompt=domain.prompt, completion=domain.completion)


def fingerprint(domain: Domain) -> str:
    """Key of the domain's content and of how it is read; independent of where local files lie."""
    how = {
        name: getattr(domain, name)
        for name in (
            "subset", "split", "revision", "format", "column", "prompt", "completion",
            "sample_by", "held_out", "part", "max_examples",
        )
    }  # fmt: skip
    if domain.chat:
        how["chat"] = True
    if callable(domain.format):
        how["format"] = formatting.function_key(domain.format)
    source = domain.source
    if known := domain.known or travel.content_of(domain):
        how["content"] = known
    elif domain.streaming:
        how["content"] = _stream_key(domain)
    elif sources.is_rows(source):
        how["content"] = hashlib.sha256(json.dumps(list(source), sort_keys=True, default=str).encode()).hexdigest()
    else:
        found = sources.find(source)
        assert found is not None  # else its content would be known
        how["content"] = sources.content_key(found)
    return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:24]


def _from_stream(domain: Domain, cache: Path) -> Dataset:
    from datasets import load_from_disk

    assert domain.streaming is not None
    stream = streams.opened(domain.source, domain.subset, domain.split, domain.revision)
    folder = streams.kept(stream, domain.streaming, cache.expanduser() / "streams" / _stream_key(domain))
    return load_from_disk(str(folder))


def _stream_key(domain: Domain) -> str:
    said = json.dumps([domain.source, domain.subset, domain.split, domain.revision, domain.streaming])
    return hashlib.sha256(said.encode()).hexdigest()[:24]


def _part(rows: Dataset, domain: Domain) -> Dataset:
    if domain.part != "all":
        # spread evenly: a row is held out where the share of those before it steps over a whole number
        due = [int(i * domain.held_out + 1e-9) for i in range(len(rows) + 1)]
        keep = [i for i in range(len(rows)) if (due[i + 1] > due[i]) == (domain.part == "held_out")]
        rows = rows.select(keep)
    if domain.max_examples is not None and domain.max_examples < len(rows):
        rows = rows.select(range(domain.max_examples))
    if len(rows) == 0:
        raise DataError(
            f"{sources.shown(domain.source)} has no examples in part {domain.part!r} "
            f"(held_out={domain.held_out}); give more examples or a larger held_out"
        )
    return rows
