"""The paper's questions, as pictures: what searching both sides at once is worth, and how many full runs to learn from.

    python -m benchmarks.search --methods jobs,jobs-data-only,jobs-model-only,optuna-tpe-hb,gp-ei --json budget.json
    python -m benchmarks.search --budgets 10 --methods jobs,jobs-n1,jobs-n2,jobs-n3,jobs-n4,jobs-n6 --json split.json
    python -m benchmarks.questions --budget budget.json --split split.json --out benchmarks/images

Needs the extra `[report]` and a Chrome. (The third question, the interaction of mixture and model, has its picture in
docs/how-it-works.md. The emulator has none: over random settings of the rest, the best rank, alpha and number of layers
are at the same bound for every share of every domain.)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.data import MAX_T
from benchmarks.plots import COLOURS
from benchmarks.search import summarise
from jobs_ray.search.budget import first_short_t, optimal_num_full

NAMES = {
    "jobs": "JoBS, both sides",
    "jobs-data-only": "JoBS, data only",
    "jobs-model-only": "JoBS, model only",
    "optuna-tpe-hb": "multi-fidelity BO (Optuna TPE + Hyperband)",
    "gp-ei": "BO on full runs (GP + EI)",
}
DIMENSIONS = 19  # of the space of the tables


def by_budget(records: Sequence[dict[str, Any]]) -> Any:
    """A line a method: mean regret +- standard error against the budget."""
    from plotly.graph_objects import Figure, Scatter

    figure, summary = Figure(), summarise(records)
    for method, colour in zip(dict.fromkeys(s["method"] for s in summary), cycle(COLOURS), strict=False):
        own = sorted((s for s in summary if s["method"] == method), key=lambda s: float(s["budget"]))
        figure.add_trace(Scatter(
            x=[s["budget"] for s in own], y=[s["regret"] for s in own], line={"color": colour},
            error_y={"array": [s["stderr"] or 0.0 for s in own]}, name=NAMES.get(method, method),
        ))  # fmt: skip
    figure.update_xaxes(type="log", tickvals=sorted({s["budget"] for s in summary}), title="budget (full runs)")
    figure.update_layout(legend={"orientation": "h", "y": -0.3}, yaxis={"title": "regret", "rangemode": "tozero"})
    return figure


def by_split(records: Sequence[dict[str, Any]]) -> Any:
    """Regret against N for methods `jobs-nN`, the adaptive split as a line, and the N* of the bound."""
    from plotly.graph_objects import Figure, Scatter

    if len(budgets := sorted({r["budget"] for r in records})) != 1:
        raise SystemExit(f"--split: expected the records of one budget, came those of {budgets}")
    summary = {s["method"]: s for s in summarise(records)}
    fixed = sorted((int(method.removeprefix("jobs-n")), s) for method, s in summary.items() if method != "jobs")
    adaptive, budget = summary["jobs"], float(summary["jobs"]["budget"])
    figure = Figure(Scatter(
        x=[n for n, _ in fixed], y=[s["regret"] for _, s in fixed], name="N random full runs first",
        error_y={"array": [s["stderr"] or 0.0 for _, s in fixed]}, line={"color": COLOURS[0]},
    ))  # fmt: skip
    figure.add_hline(
        y=adaptive["regret"], line={"color": COLOURS[1], "dash": "dash"},
        annotation_text=f"adaptive split {adaptive['regret']:.3f} +- {adaptive['stderr'] or 0.0:.3f}",
    )  # fmt: skip
    best = optimal_num_full(budget, first_short_t(MAX_T, budget) / MAX_T, DIMENSIONS)
    figure.add_vline(x=best, line={"dash": "dot"}, annotation_text=f"N* = {best}", annotation_position="top right")
    figure.update_layout(xaxis_title="full runs to learn from, N", yaxis={"title": "regret", "rangemode": "tozero"})
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.questions", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--budget", type=Path, required=True, help="records of benchmarks.search over budgets")
    parser.add_argument("--split", type=Path, required=True, help="records of benchmarks.search over jobs-nN")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/images"))
    args = parser.parse_args(argv)
    figures = {
        "budget": by_budget(json.loads(args.budget.read_text())["runs"]),
        "split": by_split(json.loads(args.split.read_text())["runs"]),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.update_layout(paper_bgcolor="white", template="plotly_white", margin={"t": 40})
        figure.write_image(args.out / f"{name}.svg", width=760, height=460)
        print(args.out / f"{name}.svg")


if __name__ == "__main__":
    main()
