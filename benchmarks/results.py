"""results.jsonl: a record a line, appended as runs end, so that an interrupted program goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read(path: Path, key: Sequence[str]) -> list[dict[str, Any]]:
    """The records; a line cut short by an interruption is left out, the last of equal `key` fields counts."""
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        records[tuple(record[name] for name in key)] = record
    return list(records.values())
