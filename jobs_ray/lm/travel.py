"""What of a domain travels to the workers: names, files and rows by value; of what only the driver can ask, its key.

A name on the hub is asked once, in the user's process, and a loaded `Dataset` stays on its disk: what was packed of
them is found by the key of their content (`Domain.known`) in the task's cache. So trials work on nodes without the
internet, all of them train the same revision, and sixteen workers do not ask the hub for ten data sets each.
"""

from __future__ import annotations

import functools
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs_ray.lm import sources, streams
from jobs_ray.lm.domain import Domain
from jobs_ray.lm.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Left:
    """In the place of a `Dataset` on a disk: how it pickles, which is as paths, opened only where they are needed."""

    shown: str
    pickled: bytes

    def rows(self) -> Dataset:
        """Raises DataError where its files are not."""
        try:
            found: Dataset = pickle.loads(self.pickled)
        except OSError as error:
            raise DataError(
                f"{self.shown} lies on a disk that this process does not see, and what was packed of it is not in its "
                "Task.cache_dir; let all nodes share one of the two, or `save_to_disk` it where they all see it and "
                f"name that folder ({error})"
            ) from error
        return found


def settled(domain: Domain, cache: Path, *, look: bool = True) -> Domain:
    """The domain with its local files named by absolute paths and its content known; or of its rows as they were read,
    where its source is a stream without a name. look: False leaves what only `datasets` knows unknown.

    Such a stream is read in the user's process, once, and does not travel to the workers: reading it changes it.
    Raises DataError when a name on the hub, whose content nobody knows yet, cannot be read.
    """
    if domain.known:
        return domain
    if domain.streaming is None:
        return replace(domain, source=sources.absolute(domain.source), known=content_of(domain) if look else None)
    if isinstance(domain.source, str):
        return domain
    stream = streams.opened(domain.source, domain.subset, domain.split, domain.revision)
    folder = streams.kept_by_content(stream, domain.streaming, cache.expanduser() / "streams")
    return replace(domain, source=str(folder), streaming=None)


def without_rows(domain: Domain) -> Domain:
    """A settled domain whose rows are packed, as it travels: a `Dataset` on disk pickles as paths of this machine."""
    data = None if isinstance(domain.source, Left) or not domain.known else loaded(domain)
    if data is None or not data.cache_files:
        return domain
    return replace(domain, source=Left(f"the loaded Dataset {data.cache_files[0]['filename']}", pickle.dumps(data)))


def loaded(domain: Domain) -> Any:
    """The `Dataset` that is the domain's source; None where it has another one."""
    if domain.streaming or sources.is_rows(domain.source):
        return None
    return sources.in_memory(domain.source, domain.split)


def content_of(domain: Domain) -> str | None:
    """The key of what only `datasets` knows; None for files, rows and streams, which are looked at themselves."""
    if domain.streaming or sources.is_rows(domain.source):
        return None
    if (data := sources.in_memory(domain.source, domain.split)) is not None:
        return str(data._fingerprint)
    return None if sources.find(domain.source) else str(from_hub(domain)._fingerprint)


def from_hub(domain: Domain) -> Dataset:
    """All rows of a name on the hub, asked once a process. Raises DataError naming it."""
    try:
        return _asked(str(domain.source), domain.subset, domain.split, domain.revision)
    except Exception as error:
        raise sources.unreadable(domain.source, domain.split, error) from error


@functools.cache
def _asked(name: str, subset: str | None, split: str, revision: str | None) -> Dataset:
    from datasets import load_dataset

    with sources.quiet():
        return load_dataset(name, subset, split=split, revision=revision)
