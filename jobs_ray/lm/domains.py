"""Domains: named sources of examples, loaded through `datasets` whatever they are stored as.

A `Domain` is plain data (it travels inside a pickled task); `load` turns it into a `datasets.Dataset`, and
`fingerprint` into a key of its *content*, so that packed tokens are reused exactly when nothing has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jobs_ray.lm.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

Part = Literal["all", "train", "held_out"]
_SUFFIXES = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".py": "text",
}
_HASH_BLOCK = 1 << 22
_HASH_WHOLE = 1 << 28  # files above 256 MB are hashed by 64 blocks, their size and their mtime


@dataclass(frozen=True)
class Domain:
    """One source of training or validation examples.

    source: a `datasets` name (`"openai/gsm8k"`), a local file, folder or glob (parquet, JSONL, text), several
        of these, a list of row dicts, or a loaded `Dataset`.
    subset, split, revision: of a `datasets` name; `split` may be a slice such as `"train[:1000]"`.
    format: how a row becomes text; "auto" looks at the columns (see `formatting.FORMATS`).
    column: the text column of the "text" format. Prompt and completion columns: `prompt`, `completion`.
    sample_by: what one example of a text file is: "document" (the file), "paragraph" or "line".
    held_out, part: with `held_out=0.1`, every tenth example belongs to the part "held_out", the others to
        "train". `Domain.validation()` gives the held-out part; what is trained on is then the rest.
    max_examples: use only the first so many examples (after the split into parts).
    """

    source: Any
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    format: str = "auto"
    column: str = "text"
    prompt: str = "prompt"
    completion: str = "completion"
    sample_by: Literal["document", "paragraph", "line"] = "document"
    held_out: float = 0.0
    part: Part = "all"
    max_examples: int | None = None

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

    def validation(self) -> Domain:
        """The held-out part of this domain, as a domain of its own."""
        return replace(self, part="held_out", max_examples=None)

    def training(self) -> Domain:
        """What is trained on: all of it, or what is not held out."""
        return replace(self, part="train") if self.held_out and self.part == "all" else self


def load(domain: Domain, cache: Path) -> Dataset:
    """The rows of the domain's part, in source order. Raises DataError naming the source."""
    from datasets import Dataset

    source = domain.source
    if isinstance(source, Dataset):
        rows = source
    elif _is_rows(source):
        rows = Dataset.from_list([dict(row) for row in source])
    else:
        files = _local_files(source)
        kind = _kind(files) if files else None
        try:
            with _quiet():
                rows = _load_dataset(domain, kind, files, cache)
        except Exception as error:
            raise DataError(
                f"cannot read {_shown(source)} (split {domain.split!r}): {type(error).__name__}: {error}"
            ) from error
    return _part(rows, domain)


def fingerprint(domain: Domain, rows: Dataset | None = None) -> str:
    """Key of the domain's content and of how it is read; independent of where local files lie.

    rows: the loaded dataset, when there is one already (a hub name is only known by what it resolved to).
    """
    from datasets import Dataset

    how = {
        name: getattr(domain, name)
        for name in (
            "subset", "split", "revision", "format", "column", "prompt", "completion",
            "sample_by", "held_out", "part", "max_examples",
        )
    }  # fmt: skip
    source = domain.source
    if isinstance(source, Dataset):
        how["content"] = source._fingerprint
    elif _is_rows(source):
        how["content"] = hashlib.sha256(json.dumps(list(source), sort_keys=True).encode()).hexdigest()
    elif files := _local_files(source):
        how["content"] = [(f.suffix, _file_hash(f)) for f in files]
    else:
        how["content"] = [str(source), rows._fingerprint if rows is not None else None]
    return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:24]


def is_hub_name(domain: Domain) -> bool:
    """Whether the content is only known after asking `datasets`."""
    from datasets import Dataset

    return not (isinstance(domain.source, Dataset) or _is_rows(domain.source) or _local_files(domain.source))


def _load_dataset(domain: Domain, kind: str | None, files: list[Path], cache: Path) -> Dataset:
    from datasets import load_dataset

    if kind is None:
        return load_dataset(str(domain.source), domain.subset, split=domain.split, revision=domain.revision)
    extra = {"sample_by": domain.sample_by} if kind == "text" else {}
    names = [str(file) for file in files]
    return load_dataset(kind, data_files=names, split=domain.split, cache_dir=str(cache / "datasets"), **extra)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars, which `datasets` draws for files of any size; the user's setting comes back."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _is_rows(source: Any) -> bool:
    return (
        isinstance(source, Sequence) and not isinstance(source, str) and all(isinstance(row, Mapping) for row in source)
    )


def _local_files(source: Any) -> list[Path]:
    names = [source] if isinstance(source, str | Path) else list(source)
    files: list[Path] = []
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
        elif path.is_file():
            found = [path]
        elif any(c in str(name) for c in "*?["):
            found = sorted(p for p in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
        else:
            found = []
            if path.suffix in _SUFFIXES or path.is_absolute():
                raise DataError(f"no such file or folder: {path}")
        files += found
    return files


def _kind(files: list[Path]) -> str:
    kinds = {_SUFFIXES.get(f.suffix, "text") for f in files}
    if len(kinds) > 1:
        raise DataError(f"one domain mixes {sorted(kinds)} files; make one domain of each kind")
    return kinds.pop()


def _part(rows: Dataset, domain: Domain) -> Dataset:
    if domain.part != "all":
        every = round(1.0 / domain.held_out)
        keep = [i for i in range(len(rows)) if (i % every == every - 1) == (domain.part == "held_out")]
        rows = rows.select(keep)
    if domain.max_examples is not None and domain.max_examples < len(rows):
        rows = rows.select(range(domain.max_examples))
    if len(rows) == 0:
        raise DataError(
            f"{_shown(domain.source)} has no examples in part {domain.part!r} "
            f"(held_out={domain.held_out}); give more examples or a larger held_out"
        )
    return rows


def _shown(source: Any) -> str:
    return repr(source) if isinstance(source, str | Path) else f"a {type(source).__name__}"


def _file_hash(path: Path) -> str:
    stat = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if stat.st_size <= _HASH_WHOLE:
            while block := file.read(_HASH_BLOCK):
                digest.update(block)
        else:
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
            for i in range(64):
                file.seek(i * (stat.st_size // 64))
                digest.update(file.read(_HASH_BLOCK))
    return digest.hexdigest()
