"""Where a domain's rows come from: files of known types, folders, saved data sets, names on the hub, rows in memory.

What is not known is refused by its type: a .csv or a gzip file read as text trains on commas or on bytes, and nothing
in the curves says so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs_ray.lm.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

KINDS = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".py": "text",
}
_PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}  # pyarrow's names of the codecs
_NO_DATA = ("readme", "license", "citation", "_", ".")  # how files of a folder begin that are not its data
_HASH_BLOCK = 1 << 22
_HASH_WHOLE = 1 << 28  # files above 256 MB are hashed by 64 blocks, their size and their mtime


@dataclass(frozen=True)
class Files:
    """Local files of one kind: a value of `KINDS`, or "saved" for a folder of `Dataset.save_to_disk`."""

    kind: str
    files: tuple[Path, ...]


def is_rows(source: Any) -> bool:
    """Whether the source is a list of row dicts."""
    return (
        isinstance(source, Sequence) and not isinstance(source, str) and all(isinstance(row, Mapping) for row in source)
    )


def in_memory(source: Any, split: str) -> Dataset | None:
    """The rows of a source that is itself data; None for names of files and of data sets.

    Raises DataError for any other type.
    """
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

    if isinstance(source, DatasetDict):
        return _split_of(source, split)
    if isinstance(source, IterableDataset | IterableDatasetDict):
        raise DataError(
            f"nobody knows the end of an {type(source).__name__}; say how many rows to read of it, for example "
            "Domain(..., streaming=10_000)"
        )
    if isinstance(source, Dataset):
        return source
    if is_rows(source):
        # all columns of all rows: `from_list` takes those of the first one only
        columns = dict.fromkeys(name for row in source for name in row)
        return Dataset.from_list([{name: row.get(name) for name in columns} for row in source])
    names = [source] if isinstance(source, str | Path) else source
    if not isinstance(names, Sequence) or not all(isinstance(name, str | Path) for name in names):
        raise DataError(
            f"a domain's source cannot be a {type(source).__name__}; give a file, a folder, a data set's name, several "
            "files, a list of row dicts or a datasets.Dataset"
        )
    return None


def unreadable(source: Any, split: str, error: Exception) -> DataError:
    """What is raised where a source cannot be read."""
    return DataError(f"cannot read {shown(source)} (split {split!r}): {type(error).__name__}: {error}")


def find(source: Any) -> Files | None:
    """The local files that a name, or several, stand for; None when it is none of a file: a data set on the hub.

    Raises DataError for missing files, for types that nobody here reads, and for a mixture of kinds.
    """
    names = [source] if isinstance(source, str | Path) else list(source)
    if len(names) == 1 and _is_saved(Path(names[0]).expanduser()):
        return Files("saved", tuple(sorted(p for p in Path(names[0]).expanduser().rglob("*") if p.is_file())))
    files = [file for name in names for file in _files(name)]
    if not files:
        return None
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise DataError(f"one domain mixes {sorted(kinds)} files; make one domain of each kind, or name a glob")
    return Files(kinds.pop(), tuple(files))


def absolute(source: Any) -> Any:
    """Names of local files and folders as every process sees them (Tune gives each trial a folder of its own to work
    in); names on the hub, addresses and data as they are."""
    if isinstance(source, str | Path):
        here = os.path.exists(os.path.expanduser(source)) or (_is_glob(source) and "://" not in str(source))
        return str(Path(source).expanduser().absolute()) if here and source else source
    if isinstance(source, Sequence) and all(isinstance(name, str | Path) for name in source):
        return [absolute(name) for name in source]
    return source


def read(found: Files, source: Any, split: str, sample_by: str, cache: Path) -> Dataset:
    """The rows of local files, compressed ones unpacked into `cache` first."""
    from datasets import DatasetDict, load_dataset, load_from_disk

    with quiet():
        if found.kind == "saved":
            rows = load_from_disk(str(Path(source if isinstance(source, str | Path) else source[0]).expanduser()))
            return _split_of(rows, split) if isinstance(rows, DatasetDict) else rows
        kind, extra = found.kind, {}
        if kind == "tsv":
            kind, extra = "csv", {"sep": "\t"}
        elif kind == "text":
            extra = {"sample_by": sample_by}
        names = [str(_unpacked(file, cache)) for file in found.files]
        return load_dataset(kind, data_files=names, split=split, cache_dir=str(cache / "datasets"), **extra)


def content_key(found: Files) -> list[list[str]]:
    """What the files hold, independent of where they lie."""
    return [["".join(file.suffixes[-2:]), _file_hash(file)] for file in found.files]


def shown(source: Any) -> str:
    """The source for a message."""
    return repr(source) if isinstance(source, str | Path) else f"a {type(source).__name__}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars, which `datasets` draws for files of any size; the user's setting comes back."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if before:
            enable_progress_bars()


def _split_of(splits: Mapping[str, Any], split: str) -> Any:
    if split not in splits:
        raise DataError(f"the data set has the splits {list(splits)}, not {split!r}; name one of them with split=")
    return splits[split]


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


def _files(name: str | Path) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        found = [p for p in sorted(path.rglob("*")) if p.is_file() and not _no_data(p.relative_to(path))]
        if not found:
            raise DataError(f"the folder {path} holds no data")
        return found
    if path.is_file():
        return [path]
    if _is_glob(name):
        found = sorted(p for p in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))) if p.is_file())
        if not found:
            raise DataError(f"no file matches {str(name)!r}")
        return found
    if path.is_absolute() or _suffix(path) in KINDS:
        raise DataError(f"no such file or folder: {path}")
    return []


def _is_glob(name: str | Path) -> bool:
    return any(c in str(name) for c in "*?[")


def _no_data(path: Path) -> bool:
    return path.name.lower().startswith(_NO_DATA) or any(part.startswith(".") for part in path.parts)


def _suffix(path: Path) -> str:
    """The suffix that tells the type: that of what is compressed, for a compressed file."""
    return (Path(path.stem) if path.suffix.lower() in _PACKED else path).suffix.lower()


def _kind(path: Path) -> str:
    kind = KINDS.get(_suffix(path))
    if kind is None:
        type_ = "".join(path.suffixes[-2:]) if path.suffix.lower() in _PACKED else path.suffix
        raise DataError(
            f"cannot read {path}: {type_ or 'a file without a suffix'} is none of {', '.join(KINDS)} "
            f"(also with {', '.join(_PACKED)}); convert it, or name the files with a glob such as '*.csv'"
        )
    return kind


def _unpacked(path: Path, cache: Path) -> Path:
    codec = _PACKED.get(path.suffix.lower())
    if codec is None:
        return path
    import pyarrow as pa

    folder = cache / "unpacked"
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / f"{_file_hash(path)[:24]}{_suffix(path)}"
    if not plain.exists():
        # appears by a rename: nobody finds half a file, and of two processes at once the last one wins
        handle, temporary = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as out, pa.input_stream(str(path), compression=codec) as stream:
                shutil.copyfileobj(stream, out, _HASH_BLOCK)
            os.replace(temporary, plain)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return plain


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
