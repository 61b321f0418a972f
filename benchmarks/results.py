"""results.jsonl: a record a line, appended as runs end, so that an interrupted program goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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


def read(path: Path, key: Sequence[str]) -> list[dict[str, Any]]:
    """The records, the last of equal `key` fields. Left out: a line cut short by an interruption, or without those."""
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
            records[tuple(record[name] for name in key)] = record
        except (json.JSONDecodeError, KeyError):
            continue
    return list(records.values())
