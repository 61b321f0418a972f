"""python -m benchmarks.problems [--families ...] [--instances 0:2]: every problem, its optimum and the check of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.problems.suite import make, names


def span(text: str) -> range:
    """`2:5` -> 2, 3, 4; `3` -> 3."""
    first, _, last = text.partition(":")
    found = range(int(first), int(last)) if last else range(int(first), int(first) + 1)
    if not found or found[0] < 0:
        raise argparse.ArgumentTypeError(f"expected a number, or a:b for a, ..., b - 1, came {text!r}")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.problems", description=__doc__)
    parser.add_argument("--families", nargs="+", default=names(), help="of: " + ", ".join(names()))
    parser.add_argument("--instances", type=span, default=range(2), help="seeds of the generator, a:b")
    parser.add_argument("--data", help="folder of the public runs (regmix)")
    args = parser.parse_args(argv)
    print(
        f"{'problem':16s} {'d':>3s} {'T':>4s} {'noise':>6s} {'optimum':>8s} {'median':>8s} {'gap of 3':>9s} "
        f"{'known':>7s} {'rank with the final':>20s} {'best of 20':>11s} {'largest weight':>15s}"
    )
    for family in args.families:
        for instance in args.instances:
            made = make(family, instance, args.data)
            check, layout = made.check, made.drawn.layout
            known = "" if check.known is None else f"{check.known:.4f}"
            rank = " ".join(f"{r:.2f}" for r in check.rank)
            top = f"{made.best_row[: layout.domains].max():.2f}" if layout.domains else ""
            print(
                f"{made.problem.name:16s} {layout.dim:3d} {made.problem.max_t:4d} {made.problem.noise:6.3f} "
                f"{check.optimum:8.4f} {check.median:8.4f} {check.gap:9.5f} {known:>7s} {rank:>20s} "
                f"{check.best20:11.3f} {top:>15s}",
                flush=True,
            )


if __name__ == "__main__":
    main()
