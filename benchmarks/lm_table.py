"""The table of `lm_compare`, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata


def table(records: Sequence[dict[str, Any]]) -> str:
    """A row a method, best rank first: mean test loss +- standard error over its seeds, each seed's, mean rank, wins.

    A record has `method`, `seed` and `test_loss`. Ranks are over the seeds that every method has: a mean over fewer
    seeds than another's compares luck, so it orders rows only where there is no such seed. Wins of `jobs` are counted
    over the seeds that it shares with the method.
    """
    if not records:
        return "no results"
    seeds = sorted({r["seed"] for r in records})
    losses: dict[str, dict[int, float]] = {}
    for r in records:
        losses.setdefault(r["method"], {})[r["seed"]] = r["test_loss"]
    shared = [seed for seed in seeds if all(seed in own for own in losses.values())]
    ranks = [rankdata([own[seed] for own in losses.values()]) for seed in shared]
    rank = dict(zip(losses, np.mean(ranks, axis=0), strict=True)) if ranks else {}
    head = ["method", "test loss", *(f"seed {seed}" for seed in seeds), "mean rank", "jobs is better on"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    means = {method: float(np.mean(list(own.values()))) for method, own in losses.items()}
    for method, own in sorted(losses.items(), key=lambda item: (rank.get(item[0], 0.0), means[item[0]])):
        values = list(own.values())
        error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else ""
        rows.append(
            [
                method,
                f"{means[method]:.3f}{error}",
                *(f"{own[seed]:.3f}" if seed in own else "" for seed in seeds),
                f"{rank[method]:.1f}" if method in rank else "",
                "" if method == "jobs" else _wins(losses.get("jobs", {}), own),
            ]
        )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", f"Mean ranks over {len(shared)} seeds that every method has."])


def _wins(jobs: dict[int, float], own: dict[int, float]) -> str:
    """How often `jobs` has the lower loss, `a of n`; empty where it has no seed in common."""
    both = [seed for seed in own if seed in jobs]
    return f"{sum(jobs[seed] < own[seed] for seed in both)} of {len(both)}" if both else ""
