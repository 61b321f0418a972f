"""results.jsonl: a record a line, appended as runs end, so that an interrupted program goes on where it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def append(path: Path, record: Mapping[str, Any]) -> None:
    """One line more, never on the half line of a program that was killed: the two would be lost together.

    The file is opened for each line, since another Python may be writing into the same one.
    """
    with path.open("a+b") as file:
        file.seek(max(0, file.tell() - 1))
        cut = file.read() not in (b"", b"\n")
        file.write(b"\n" * cut + json.dumps(record).encode() + b"\n")


def whole(path: Path) -> Iterator[dict[str, Any]]:
    """Every record whose line was not cut short by an interruption; none where there is no file."""
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def read(path: Path, key: Sequence[str]) -> list[dict[str, Any]]:
    """The records, the last of equal `key` fields. Left out: those without these."""
    records = [record for record in whole(path) if all(name in record for name in key)]
    return list({tuple(record[name] for name in key): record for record in records}.values())
