"""Tables of `compare`: regret by family and budget, ratio to the best rival, ranks and how far apart they must be.

block   one (family, instance) at one budget: the unit that methods are ranked on, its seeds averaged
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

from benchmarks.data import Array

Records = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """Mean regret, its standard error over the runs (NaN for one), and their number."""

    mean: float
    error: float
    n: int


def cell(values: Sequence[float]) -> Cell:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Cell(float(np.mean(values)), error, len(values))


def order(records: Records, name: str) -> list[Any]:
    """Distinct values in the order of appearance."""
    return list(dict.fromkeys(r[name] for r in records))


def by_family(records: Records, budget: float) -> dict[tuple[str, str], Cell]:
    """(family, method) -> Cell over instances x seeds."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for r in records:
        if r["budget"] == budget:
            groups[r["family"], r["method"]].append(r["regret"])
    return {key: cell(values) for key, values in groups.items()}


def over_families(cells: dict[tuple[str, str], Cell], method: str, families: Sequence[str]) -> Cell | None:
    """Mean of the families' means, each family counting alike; None where the method lacks one of them."""
    own = [cells[f, method] for f in families if (f, method) in cells]
    if len(own) < len(families):
        return None
    error = np.sqrt(np.sum([c.error**2 for c in own])) / len(own)
    return Cell(float(np.mean([c.mean for c in own])), float(error), sum(c.n for c in own))


def blocks(records: Records, methods: Sequence[str]) -> Array:
    """blocks x methods mean regrets, of the blocks that every method has."""
    groups: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        groups[r["family"], r["instance"], r["budget"]][r["method"]].append(r["regret"])
    full = [g for g in groups.values() if all(m in g for m in methods)]
    return np.array([[np.mean(g[m]) for m in methods] for g in full]).reshape(-1, len(methods))


@dataclass(frozen=True)
class Ranking:
    """Average rank of each method (1 = best), p of Friedman's test, and Nemenyi's critical difference at .05."""

    ranks: dict[str, float]
    p: float
    critical: float
    blocks: int


def rank(records: Records, methods: Sequence[str]) -> Ranking | None:
    """None for fewer than two methods or blocks. Two methods: p is NaN (Friedman's test needs three)."""
    table = blocks(records, methods)
    n, k = table.shape
    if n < 2 or k < 2:
        return None
    ranks = rankdata(np.round(table, 9), axis=1).mean(0)
    p = float("nan")
    if k > 2 and np.any(np.ptp(table, axis=1) > 0):
        p = float(friedmanchisquare(*np.round(table, 9).T)[1])
    q = float(studentized_range.ppf(0.95, k, np.inf)) / np.sqrt(2)
    return Ranking(dict(zip(methods, ranks.tolist(), strict=True)), p, float(q * np.sqrt(k * (k + 1) / (6 * n))), n)


def report(records: Records) -> str:
    """Everything as text."""
    families = order(records, "family")
    methods = order(records, "method")
    out = []
    for budget in sorted({r["budget"] for r in records}):
        cells = by_family(records, budget)
        out += [table(cells, families, methods, f"C = {budget:g}"), ""]
        if placed := rank([r for r in records if r["budget"] == budget], methods):
            out += [ranking_line(placed), ""]
    if len({r["budget"] for r in records}) > 1 and (placed := rank(records, methods)):
        out.append("all budgets: " + ranking_line(placed))
    return "\n".join(out)


def table(cells: dict[tuple[str, str], Cell], families: Sequence[str], methods: Sequence[str], title: str) -> str:
    """A row a family, a column a method; the last rows are the mean over families and ours against the best rival."""
    width = max(13, *(len(m) + 1 for m in methods))
    head = f"{title:16s}" + "".join(f"{m:>{width}s}" for m in methods)
    lines = ["mean normalised regret +- standard error over instances x seeds", head, "-" * len(head)]
    for family in families:
        own = {m: cells[family, m] for m in methods if (family, m) in cells}
        best = min((c.mean for c in own.values()), default=0.0)
        lines.append(f"{family:16s}" + "".join(f"{show(own.get(m), best):>{width}s}" for m in methods))
    means = {m: c for m in methods if (c := over_families(cells, m, families))}
    best = min((c.mean for c in means.values()), default=0.0)
    lines.append(f"{'mean':16s}" + "".join(f"{show(means.get(m), best):>{width}s}" for m in methods))
    rivals = {m: c.mean for m, c in means.items() if not ours(m)}
    if rivals and any(ours(m) for m in means):
        first = min(rivals, key=lambda m: rivals[m])
        if rivals[first] > 0:
            ratios = [f"{m} {means[m].mean / rivals[first]:.2f}" for m in means if ours(m)]
            lines.append(f"ratio to the best rival ({first}): " + ", ".join(ratios))
    lines += [f"{m}: " + losses for m in methods if ours(m) and (losses := behind(cells, families, methods, m))]
    return "\n".join(lines)


def show(got: Cell | None, best: float) -> str:
    if got is None:
        return "-"
    error = "" if np.isnan(got.error) else f"+-{got.error:.2f}".replace("0.", ".")
    return f"{got.mean:.3f}{error}{'*' if got.mean <= best else ' '}"


def ours(method: str) -> bool:
    return method.startswith("jobs")


def behind(cells: dict[tuple[str, str], Cell], families: Sequence[str], methods: Sequence[str], method: str) -> str:
    """Families where `method` is worse than the better of random and ASHA by more than one standard error."""
    found = []
    for family in families:
        others = [cells[family, m] for m in ("random", "asha") if m in methods and (family, m) in cells]
        own = cells.get((family, method))
        if own is None or not others:
            continue
        best = min(others, key=lambda c: c.mean)
        gap, error = own.mean - best.mean, float(np.hypot(own.error, best.error))
        if gap > error:
            found.append(f"{family} (+{gap:.2f}, se {error:.2f})")
    return (
        "worse than the better of random and ASHA by more than one standard error: " + ", ".join(found) if found else ""
    )


def ranking_line(placed: Ranking) -> str:
    ordered = sorted(placed.ranks.items(), key=lambda item: item[1])
    ranks = ", ".join(f"{m} {r:.2f}" for m, r in ordered)
    return (
        f"average rank over {placed.blocks} instances: {ranks}\n"
        f"Friedman p = {placed.p:.2g}; ranks differ at .05 (Nemenyi) when {placed.critical:.2f} apart"
    )


def write_csv(records: Records, path: Path) -> None:
    """A row a (family, instance, budget, method): mean, standard error, n, CPU seconds."""
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
