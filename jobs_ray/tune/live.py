"""Where a search stands, as one line: kept up to date in place on a terminal, now and then a plain line elsewhere.

rich draws it where it is installed and the output is a terminal: what others print meanwhile goes above it.
"""

from __future__ import annotations

import atexit
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs_ray.tune.session import Session

_TERMINAL_S, _PLAIN_S = 1.0, 30.0  # least time between two updates

Predicted = tuple[float, float]
"""Mean and standard deviation of a final value, in the user's sign."""


@dataclass(frozen=True)
class Standing:
    """What the line shows, values in the user's sign. `left_s`: seconds until the budget is spent, as paced."""

    metric: str
    phase: str
    trials: int
    running: int
    spent: float
    total: float | None
    left_s: float | None
    confirmed: float | None
    predicted: Predicted | None
    error: float | None
    unit: str = "full runs"

    def line(self) -> str:
        """`JoBS search | 4.2 of 10 full runs | ...`; what is not known is left out."""
        of = "" if self.total is None else f" of {self.total:g}"
        parts = [
            f"JoBS {self.phase}",
            f"{self.spent:.1f}{of} {self.unit}",
            f"{self.trials} trials, {self.running} running",
        ]
        if self.left_s is not None:
            parts.append(f"about {readable(self.left_s)} left")
        if self.confirmed is not None:
            parts.append(f"best confirmed {self.metric} {self.confirmed:.4g}")
        if self.predicted is not None:
            parts.append(f"best predicted {self.predicted[0]:.4g} +- {self.predicted[1]:.2g}")
        if self.error is not None:
            parts.append(f"predictor error {self.error:.2g}")
        return " | ".join(parts)


def standing(
    session: Session, predictions: Mapping[str, Predicted], error: float | None, seconds: float, before: float
) -> Standing:
    """`predictions`: known ones, by trial id. `seconds`: since `before` of the budget was spent, for the time left."""
    core, sign = session.core, session.core.settings.sign
    trials = core.trials
    budget = core.budget
    finals = [trial.final for trial in trials.values() if trial.final is not None]
    done = {trial.promotes for trial in trials.values() if trial.final is not None}
    open_ = [
        found for name, found in predictions.items()
        if name in trials and trials[name].final is None and name not in done
    ]  # fmt: skip
    rate = (budget.spent - before) / seconds if seconds > 0 else 0.0
    left = None if budget.total is None or rate <= 0 else max(budget.total - budget.spent, 0.0) / rate
    return Standing(
        metric=session.metric,
        phase=core.phase.value,
        trials=len(trials),
        running=sum(trial.running for trial in trials.values()),
        spent=budget.spent,
        total=budget.total,
        left_s=left,
        confirmed=sign * max(finals) if finals else None,
        predicted=max(open_, key=lambda found: sign * found[0], default=None),
        error=error,
        unit=core.settings.unit,
    )


def readable(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class LiveLine:
    """Shows the newest standing; it is asked for only when it is time to show one.

    `transient`: on one line of a terminal, which `close` takes away; elsewhere each is a line that stays.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown = clock()
        self._last = ""
        self._live: Any = None
        self.transient = sys.stdout.isatty() and importlib.util.find_spec("rich") is not None

    def update(self, newest: Callable[[], Standing]) -> None:
        """Shows `newest()` if enough time has passed."""
        now = self._clock()
        if now - self._shown < (_TERMINAL_S if self.transient else _PLAIN_S):
            return
        self._shown = now
        self.show(newest())

    def show(self, found: Standing) -> None:
        """Shows it at once, unless it says what the last one said."""
        line = found.line()
        if line == self._last:
            return
        self._last = line
        if not self.transient:
            print(line, flush=True)
            return
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(auto_refresh=False, transient=True)
            self._live.start()
            atexit.register(self.close)  # an experiment that is broken off must not leave the cursor hidden
        text = Text(line, overflow="ellipsis", no_wrap=False)
        text.highlight_regex(r"JoBS \w+", "bold")
        self._live.update(text, refresh=True)

    def close(self) -> None:
        """Takes the line away from a terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            atexit.unregister(self.close)
