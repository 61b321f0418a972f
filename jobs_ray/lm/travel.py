"""What of a domain travels to the workers: names, files and rows by value; of what only the driver can ask, its key.

A name on the hub is asked once, in the user's process, and a loaded `Dataset` stays there: what was packed of them is
found by the key of their content (`Domain.known`) in the task's cache. So trials work on nodes without the internet,
all of them train the same revision, and sixteen workers do not ask the hub for ten data sets each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs_ray.lm import sources, streams
from jobs_ray.lm.domain import Domain

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Left:
    """In the place of a `Dataset` that stayed with the process which loaded it; `str` of it is for people."""

    shown: str

    def __str__(self) -> str:
        return self.shown


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
    return replace(domain, source=Left(f"the loaded Dataset {data.cache_files[0]['filename']}"))


def keep_rows(domain: Domain, cache: Path) -> None:
    """Keep the rows of a settled domain in `cache`, where they are known by their content only: `load` finds them."""
    if domain.known and not kept_rows(domain, cache).exists():
        data = loaded(domain)
        streams.saved(from_hub(domain) if data is None else data, kept_rows(domain, cache))


def kept_rows(domain: Domain, cache: Path) -> Path:
    return cache.expanduser() / "rows" / str(domain.known)


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
    """All rows of a name on the hub. Raises DataError naming it."""
    from datasets import load_dataset

    try:
        with sources.quiet():
            return load_dataset(str(domain.source), domain.subset, split=domain.split, revision=domain.revision)
    except Exception as error:
        raise sources.unreadable(domain.source, domain.split, error) from error
