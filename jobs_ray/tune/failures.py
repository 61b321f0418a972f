"""Whether the trainable is broken: every trial that has ended failed, and the last three with the same error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ENOUGH = 3
_TAIL = 65536  # bytes of an error file


class Failures:
    """`verdict`: a sentence with the error that the trials have in common, once more of them would only repeat it;
    withdrawn when one that was in flight ends in order.

    `any_good`: a trial has ended in order, so the configurations are to blame, and the search learns which.
    """

    def __init__(self) -> None:
        self.any_good = False
        self.verdict: str | None = None
        self._kind, self._count = "", 0

    def ended(self, failed: bool, why: str | None) -> None:
        """A trial has ended; `why`: the error, None for a failure of the configuration (it diverged) or unknown."""
        self.any_good = self.any_good or not failed
        if self.any_good or why is None:
            self._kind, self._count = "", 0
            self.verdict = None if self.any_good else self.verdict
            return
        kind = re.sub(r"\S*\d\S*", "#", why)  # ids, addresses and values differ
        self._count = self._count + 1 if kind == self._kind else 1
        self._kind = kind
        if self._count >= ENOUGH:
            self.verdict = f"all trials failed, the last {ENOUGH} alike: {why}"


def error_of(trial_id: str, trials: Iterable[Any]) -> str | None:
    """The last line of what Ray wrote down when one of its trials failed."""
    path = next((trial.error_file for trial in trials if trial.trial_id == trial_id), None)
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            file.seek(max(Path(path).stat().st_size - _TAIL, 0))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return None
    return next((line.strip() for line in reversed(lines) if line.strip()), None)
