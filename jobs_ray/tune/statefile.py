"""The searcher's file: a session's state as versioned JSON under the name that Ray gives, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs_ray.trials import StateError, state

FORMAT = "jobs-ray-searcher"
VERSION = 1


def text(session_text: str) -> str:
    """The whole file around a session's JSON text."""
    head = json.dumps({"format": FORMAT, "searcher_version": VERSION})
    return f'{head[:-1]}, "session": {session_text}}}'


def save(path: str | Path, session_text: str) -> None:
    """Writes a session's JSON text to `path`, atomically. Raises OSError, the old file untouched."""
    state.write(path, text(session_text))


def load(path: str | Path) -> dict[str, Any]:
    """Reads what `save` wrote. Raises StateError, naming file, expectation and remedy, on anything else."""
    return loads(Path(path).read_bytes(), path)


def loads(content: bytes, path: str | Path) -> dict[str, Any]:
    """`load` of what was read from `path`, in whatever storage that is."""
    data = state.loads(content, path)
    found = data.get("format"), data.get("searcher_version")
    if found != (FORMAT, VERSION):
        raise StateError(
            f"{path} holds {found[0]!r} version {found[1]!r}; expected {FORMAT!r} version {VERSION}: "
            "restore with the version of jobs-ray that wrote it, or start a new experiment"
        )
    session = data.get("session")
    if not isinstance(session, dict):
        raise StateError(f"{path} is damaged: it holds no session; restore an older copy of it")
    return session
