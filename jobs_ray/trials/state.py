"""Versioned JSON state, written atomically: a killed process leaves the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FORMAT = "jobs-ray"
VERSION = 1


class StateError(ValueError):
    """A saved state that cannot be used: damaged, of another version, or of another search space."""


def wrap(payload: dict[str, Any]) -> dict[str, Any]:
    """`payload` with the format's name and version."""
    return {"format": FORMAT, "version": VERSION, **payload}


def unwrap(state: Any) -> dict[str, Any]:
    """The inverse of `wrap`; raises StateError when `state` is not a state of this version."""
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise StateError("this is not a saved state of jobs-ray; expected a JSON object with format 'jobs-ray'")
    if state.get("version") != VERSION:
        raise StateError(
            f"the state has version {state.get('version')!r}, this jobs-ray reads version {VERSION}; "
            "restore it with the jobs-ray that wrote it"
        )
    return {key: value for key, value in state.items() if key not in ("format", "version")}


def dump(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write `state` as JSON, as `write` does."""
    write(path, json.dumps(state, allow_nan=False))  # `json.dump` would encode in Python: ten times as long


def write(path: str | os.PathLike[str], text: str) -> None:
    """To a temporary file beside `path`, flushed to the disk, then renamed. Raises OSError, the old file untouched."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk is not made fuller
        raise


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `dump` wrote. Raises StateError when the file is not JSON; OSError when it cannot be read."""
    return loads(Path(path).read_bytes(), path)


def loads(data: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file holds that was read from `path`, wherever that is. Raises StateError, which names it."""
    try:
        state = json.loads(data.decode("utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise StateError(f"{path} is damaged: not JSON ({error})") from None
    except RecursionError:
        raise StateError(f"{path} is damaged: nested deeper than any state is") from None
    if not isinstance(state, dict):
        raise StateError(f"{path} is damaged: expected a JSON object, got {type(state).__name__}")
    return state
