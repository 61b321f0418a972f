"""Domains loaded through `datasets`, whatever they are stored as.

`load` turns a `Domain` into a `datasets.Dataset`, and `fingerprint` into a key of its *content*, so that packed tokens
are reused exactly when nothing has changed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from jobs_ray.lm import formatting, sources, streams, travel
from jobs_ray.lm.domain import Domain
from jobs_ray.lm.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

_FORMATTED = 2  # part of the name of the rows that a function as format made: raise it when those would change


def load(domain: Domain, cache: Path) -> Dataset:
    """The rows of the domain's part, in source order. Raises DataError naming the source."""
    from datasets import load_from_disk

    domain = travel.settled(domain, cache)
    kept = _kept(domain, cache) if domain.known else None
    rows = load_from_disk(str(kept)) if kept and kept.exists() else _part(_all_rows(domain, cache), domain)
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


def keep(domain: Domain, cache: Path) -> None:
    """Keep the rows of a settled domain's part in `cache`, where workers could not ask for them: `load` finds them."""
    data = travel.loaded(domain)
    if domain.known and (data is None or data.cache_files):  # what is in memory travels
        streams.saved(_part(_all_rows(domain, cache), domain), _kept(domain, cache))


def _kept(domain: Domain, cache: Path) -> Path:
    return cache.expanduser() / "rows" / fingerprint(domain)


def _all_rows(domain: Domain, cache: Path) -> Dataset:
    if isinstance(domain.source, travel.Left):
        return domain.source.rows()
    rows = _from_stream(domain, cache) if domain.streaming else sources.in_memory(domain.source, domain.split)
    if rows is not None:
        return rows
    found = sources.find(domain.source)
    if found is None:
        return travel.from_hub(domain)
    try:
        return sources.read(found, domain.source, domain.split, domain.sample_by, cache)
    except DataError:
        raise
    except Exception as error:
        raise sources.unreadable(domain.source, domain.split, error) from error


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
