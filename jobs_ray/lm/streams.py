"""Data sets read as a stream: their first rows, read once and kept as an Arrow folder that all later readers map.

A stream has no length and no index, and both the mixture's plan and a resumed run need them: so its rows are written
down once, and what is kept is what was asked for, not the whole data set.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jobs_ray.lm.errors import DataError


def opened(source: Any, subset: str | None, split: str, revision: str | None) -> Any:
    """The `datasets.IterableDataset` of a name on the hub, or the source itself. Raises DataError for other sources."""
    from datasets import IterableDataset, IterableDatasetDict, load_dataset

    from jobs_ray.lm import sources

    if isinstance(source, IterableDatasetDict):
        if split not in source:
            raise DataError(f"the data set has the splits {list(source)}, not {split!r}; name one of them with split=")
        return source[split]
    if isinstance(source, IterableDataset):
        return source
    if not isinstance(source, str) or sources.find(source) is not None:
        raise DataError(
            f"only a data set's name and an IterableDataset are streamed, not {sources.shown(source)}; leave streaming "
            "out, or set max_examples"
        )
    try:
        return load_dataset(source, subset, split=split, revision=revision, streaming=True)
    except Exception as error:
        raise DataError(f"cannot stream {source!r} (split {split!r}): {type(error).__name__}: {error}") from error


def kept(stream: Any, count: int, folder: Path) -> Path:
    """`folder`, with at most the first `count` rows of the stream; read and written there by the first who asks."""
    return _once(folder, lambda temporary: _written(stream, count, temporary))


def saved(rows: Any, folder: Path) -> Path:
    """`folder`, with a `Dataset`'s rows; written there by the first who asks."""
    from jobs_ray.lm.sources import quiet

    def write(temporary: Path) -> Path:
        with quiet():
            rows.save_to_disk(str(temporary / "rows"))
        return temporary / "rows"

    return _once(folder, write)


def _once(folder: Path, write: Callable[[Path], Path]) -> Path:
    """`folder`, made by the first who asks: `write` is given a temporary folder and says where in it the result is."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
                os.replace(write(Path(temporary)), folder)
    return folder


_known: weakref.WeakKeyDictionary[Any, dict[tuple[int, Path], Path]] = weakref.WeakKeyDictionary()


def kept_by_content(stream: Any, count: int, parent: Path) -> Path:
    """As `kept`, for a stream that has no name: read once a process, in a folder named after what was read.

    `datasets` has no key for such a stream (its hash changes as it is read and as it is pickled).
    """
    known = _known.setdefault(stream, {})
    found = known.get((count, parent))
    if found is None or not found.exists():
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".stream-", dir=parent) as temporary:
            made = _written(stream, count, Path(temporary))
            digest = hashlib.sha256()
            for file in sorted(made.glob("*.arrow")):
                digest.update(file.read_bytes())
            found = parent / digest.hexdigest()[:24]
            if not found.exists():
                os.replace(made, found)
        known[count, parent] = found
    return found


def _written(stream: Any, count: int, temporary: Path) -> Path:
    from datasets import Dataset

    from jobs_ray.lm.sources import quiet

    def rows() -> Iterator[dict[str, Any]]:
        yield from stream.take(count)

    with quiet():
        made = Dataset.from_generator(rows, cache_dir=str(temporary / "cache"), fingerprint="stream")
        made.save_to_disk(str(temporary / "rows"))
    return temporary / "rows"
