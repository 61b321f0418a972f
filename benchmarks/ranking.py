"""Tables of `compare`: regret by family and budget, ratio to the best rival, ranks and how far apart they must be.

block   one (family, instance): the independent unit. Its seeds, and for ranks its budgets, are averaged; standard
        errors are over blocks, those of a difference over its value in each block.

All but `report`, `shared` and `write_csv` take records whose runs every method has (`shared`).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from benchmarks.methods import RIVALS

Records = Sequence[dict[str, Any]]
Means = dict[tuple[str, str], dict[int, float]]
"""(family, method) -> instance -> regret, the mean over seeds."""


@dataclass(frozen=True)
class Cell:
    """Mean, its standard error (NaN for one value), and the number of values."""

    mean: float
    error: float
    n: int


def cell(values: Sequence[float]) -> Cell:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Cell(float(np.mean(values)), error, len(values))


def order(records: Records, name: str) -> list[Any]:
    """Distinct values in the order of appearance."""
    return list(dict.fromkeys(r[name] for r in records))


def run_of(record: dict[str, Any]) -> tuple[Any, ...]:
    """What methods are compared on."""
    return record["family"], record["instance"], record["budget"], record["seed"]


def shared(records: Records) -> list[dict[str, Any]]:
    """The records of the runs that every method has: other means would be of unequal problems."""
    have: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for r in records:
        have[run_of(r)].add(r["method"])
    methods = set(order(records, "method"))
    return [r for r in records if have[run_of(r)] == methods]


def over_seeds(records: Records) -> Means:
    """Of records of one budget."""
    groups: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        groups[r["family"], r["method"]][r["instance"]].append(r["regret"])
    return {key: {i: float(np.mean(v)) for i, v in instances.items()} for key, instances in groups.items()}


def by_family(records: Records, budget: float) -> dict[tuple[str, str], Cell]:
    """(family, method) -> Cell over instances."""
    means = over_seeds([r for r in records if r["budget"] == budget])
    return {key: cell(list(instances.values())) for key, instances in means.items()}


def over_families(cells: dict[tuple[str, str], Cell], method: str) -> Cell:
    """Mean of the families' means, each family counting alike."""
    own = [c for (_, m), c in cells.items() if m == method]
    error = np.sqrt(np.sum([c.error**2 for c in own])) / len(own)
    return Cell(float(np.mean([c.mean for c in own])), float(error), sum(c.n for c in own))


@dataclass(frozen=True)
class Ranking:
    """Average rank of each method (1 = best), p of Friedman's test, and Nemenyi's critical difference at .05."""

    ranks: dict[str, float]
    p: float
    critical: float
    blocks: int


def rank(records: Records) -> Ranking | None:
    """None for fewer than two methods or blocks. Two methods: p is NaN (Friedman's test needs three).

    A block's ranks are averaged over its budgets, which are no independent blocks: the critical difference, that of one
    rank a block, is then on the safe side.
    """
    methods = order(records, "method")
    of_block: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for budget in order(records, "budget"):
        own = [r for r in records if r["budget"] == budget]
        means = over_seeds(own)
        for family, instance in dict.fromkeys((r["family"], r["instance"]) for r in own):
            regrets = [means[family, m][instance] for m in methods]
            of_block[family, instance].append(rankdata(np.round(regrets, 9)))
    table = np.array([np.mean(ranks, axis=0) for ranks in of_block.values()]).reshape(-1, len(methods))
    n, k = table.shape
    if n < 2 or k < 2:
        return None
    p = float("nan")
    if k > 2 and np.any(np.ptp(table, axis=1) > 0):
        p = float(friedmanchisquare(*np.round(table, 9).T)[1])
    q = float(studentized_range.ppf(0.95, k, np.inf)) / np.sqrt(2)
    ranks = dict(zip(methods, table.mean(0).tolist(), strict=True))
    return Ranking(ranks, p, float(q * np.sqrt(k * (k + 1) / (6 * n))), n)


def report(records: Records) -> str:
    """Everything as text."""
    kept = shared(records)
    count, every = (len({run_of(r) for r in rs}) for rs in (kept, records))
    out = [f"{count} runs (family, instance, budget, seed) that every method has; {every - count} left out", ""]
    budgets = sorted({r["budget"] for r in kept})
    for budget in budgets:
        of_budget = [r for r in kept if r["budget"] == budget]
        out += [table(of_budget, f"C = {budget:g}"), ""]
        if placed := rank(of_budget):
            out += [ranking_line(placed), ""]
    if len(budgets) > 1 and (placed := rank(kept)):
        out.append("all budgets: " + ranking_line(placed))
    return "\n".join(out)


def table(records: Records, title: str) -> str:
    """Of records of one budget: a row a family, a column a method, the mean over families, ours against the rivals."""
    families, methods = order(records, "family"), order(records, "method")
    cells = by_family(records, records[0]["budget"])
    width = max(13, *(len(m) + 1 for m in methods))
    head = f"{title:16s}" + "".join(f"{m:>{width}s}" for m in methods)
    lines = ["mean normalised regret +- standard error over instances", head, "-" * len(head)]
    means = {m: over_families(cells, m) for m in methods}
    for name, own in [*((f, {m: cells[f, m] for m in methods}) for f in families), ("mean", means)]:
        best = min(c.mean for c in own.values())
        lines.append(f"{name:16s}" + "".join(f"{show(own[m], best):>{width}s}" for m in methods))
    rivals, ours = [m for m in methods if m in RIVALS], [m for m in methods if m not in RIVALS]
    first = min(rivals, key=lambda m: means[m].mean, default=None)
    if ours and first and means[first].mean > 0:
        ratios = ", ".join(f"{m} {means[m].mean / means[first].mean:.2f}" for m in ours)
        lines.append(f"ratio to the best rival ({first}): {ratios}")
    spent = {m: np.mean([r["spent"] for r in records if r["method"] == m]) for m in methods}
    lines.append("mean of what was spent: " + ", ".join(f"{m} {value:.2f}" for m, value in spent.items()))
    return "\n".join([*lines, *(f"{m}: {losses}" for m in ours if (losses := behind(over_seeds(records), m)))])


def show(got: Cell, best: float) -> str:
    error = "" if np.isnan(got.error) else f"+-{got.error:.2f}".replace("0.", ".")
    return f"{got.mean:.3f}{error}{'*' if got.mean <= best else ' '}"


def behind(means: Means, method: str) -> str:
    """Families where `method` is worse than the better of random and ASHA by more than one standard error, or by
    anything where one instance gives no error."""
    found = []
    for family in dict.fromkeys(family for family, _ in means):
        others = [means[family, m] for m in ("random", "asha") if (family, m) in means]
        if not others:
            continue
        best = min(others, key=lambda own: cell(list(own.values())).mean)
        gap = cell([regret - best[instance] for instance, regret in means[family, method].items()])
        if gap.mean > (gap.error if gap.n > 1 else 0.0):
            found.append(f"{family} (+{gap.mean:.2f}, se {gap.error:.2f})")
    return (
        "worse than the better of random and ASHA by more than one standard error: " + ", ".join(found) if found else ""
    )


def ranking_line(placed: Ranking) -> str:
    ordered = sorted(placed.ranks.items(), key=lambda item: item[1])
    ranks = ", ".join(f"{m} {r:.2f}" for m, r in ordered)
    return (
        f"average rank over {placed.blocks} instances (independent blocks): {ranks}\n"
        f"Friedman p = {placed.p:.2g}; ranks differ at .05 (Nemenyi) when {placed.critical:.2f} apart"
    )


def write_csv(records: Records, path: Path) -> None:
    """A row a (family, instance, budget, method), of all records: mean, standard error over seeds, n, CPU seconds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for r in records:
        groups[r["family"], r["instance"], r["budget"], r["method"]].append(r)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["family", "instance", "budget", "method", "regret", "stderr", "n", "spent", "cpu_s"])
        for key, rs in groups.items():
            got = cell([r["regret"] for r in rs])
            spent, cpu = (float(np.mean([r[name] for r in rs])) for name in ("spent", "cpu_s"))
            writer.writerow([*key, f"{got.mean:.5f}", f"{got.error:.5f}", got.n, f"{spent:.3f}", f"{cpu:.3f}"])
