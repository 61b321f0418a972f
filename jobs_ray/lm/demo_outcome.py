"""What the demo found, as data and as a table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What the demo found. Losses are on the test slice, one a final seed; costs in full runs, times in seconds."""

    seed: int
    max_steps: int
    final_seeds: list[int]
    recommended: dict[str, Any]
    default: dict[str, Any]
    confirmed: bool
    phases: dict[str, int]
    losses_recommended: list[float]
    losses_default: list[float]
    search_cost: float
    search_seconds: float
    final_seconds: dict[str, float]
    startup_share: float
    workers: int
    experiment: str

    @property
    def loss_recommended(self) -> float:
        """The mean of the final seeds."""
        return fmean(self.losses_recommended)

    @property
    def loss_default(self) -> float:
        """The mean of the final seeds."""
        return fmean(self.losses_default)

    @property
    def won(self) -> bool:
        return self.loss_recommended < self.loss_default


def table(outcome: Outcome) -> str:
    """The outcome for people."""
    mixture = outcome.recommended["mixture"]
    rest = {k: v for k, v in outcome.recommended.items() if k != "mixture"}
    uniform = ", ".join(f"{name} {1 / len(mixture):.2f}" for name in mixture)
    phases = ", ".join(f"{count} {phase}" for phase, count in outcome.phases.items())
    rows = [
        ("", "test loss", "trained in", "mixture", "the rest"),
        (
            "JoBS", _spread(outcome.losses_recommended), f"{outcome.final_seconds['recommended']:.0f} s",
            ", ".join(f"{n} {w:.2f}" for n, w in mixture.items()), json.dumps(rest),
        ),
        (
            "default", _spread(outcome.losses_default), f"{outcome.final_seconds['default']:.0f} s",
            uniform, json.dumps(outcome.default),
        ),
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [
            "",
            *lines,
            "",
            f"Both: {outcome.max_steps} steps, seeds {', '.join(map(str, outcome.final_seeds))} (in brackets), "
            f"{outcome.workers} workers. "
            f"The search cost {outcome.search_cost:.1f} full runs in {outcome.search_seconds:.0f} s ({phases}); "
            f"start-up took {outcome.startup_share:.0%} of its trials' time.",
            f"jobs-ray report {outcome.experiment}",
        ]
    )


def _spread(losses: list[float]) -> str:
    return f"{fmean(losses):.3f} ({', '.join(f'{loss:.3f}' for loss in losses)})"
