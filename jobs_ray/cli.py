"""`jobs-ray demo | report | watch | plan`. Every failure that a user can cause is one sentence and exit code 2.

Nothing heavy is imported until a command needs it: `jobs-ray --help` answers at once, also without the extras.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from jobs_ray import __version__
from jobs_ray.lm import demo
from jobs_ray.report import command as report_command
from jobs_ray.report import watch
from jobs_ray.report.numbers import full_runs, positive, whole
from jobs_ray.report.terminal import visible
from jobs_ray.search.budget import Allocation, allocate, first_short_t, optimal_num_full

_LM = ("ray", "torch", "transformers", "datasets", "peft", "accelerate")
_DIM = 19  # of the paper's joint space


class UsageError(Exception):
    """Something the user can put right; its message is all that is shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code: 0, or 2 after a usage error, or 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.command(arguments)
    except UsageError as error:
        print(f"jobs-ray: {visible(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `jobs-ray report ... | head`; Python would complain once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jobs-ray", description="Joint search of data mixture and model configuration from short training runs."
    )
    parser.add_argument("--version", action="version", version=f"jobs-ray {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser(
        "demo", help="search mixture and model of a small language model on text of this Python installation",
        description="Searches the data mixture, learning rate, depth and width of a small language model and compares "
        "what it finds with the default. Needs no network and no GPU; under ten minutes on two free cores.",
    )  # fmt: skip
    demo.add_arguments(one)
    one.set_defaults(command=_demo)

    one = commands.add_parser(
        "report", help="what an experiment found: tables, and figures with --html",
        description="What a Ray Tune experiment with a JoBSSearcher found; also while it runs, or after it was killed. "
        "Of an experiment with another searcher it shows what there is; several experiments are compared.",
    )  # fmt: skip
    report_command.add_arguments(one)
    one.set_defaults(command=_report)

    one = commands.add_parser(
        "watch", help="where a search stands that runs elsewhere",
        description="Phase, budget, time left, best confirmed and predicted value of a search, from its folder.",
    )  # fmt: skip
    watch.add_arguments(one)
    one.set_defaults(command=_watch)

    one = commands.add_parser(
        "plan", help="what a budget buys",
        description="How a budget is split into short and full runs, before anything is trained.",
    )  # fmt: skip
    add = one.add_argument
    add("--budget", type=full_runs, required=True, metavar="C", help="budget in full-run equivalents")
    add("--max-t", type=positive, required=True, metavar="T", help="length of a full run (steps, iterations, ...)")
    add("--short-t", type=positive, metavar="K", help="length of a short run, same unit (default: as the search does)")
    add("--dim", type=whole, default=_DIM, metavar="D", help=f"dimensions of the space, for the theory ({_DIM})")
    add("--resume", action="store_true", help="promoted runs go on from a checkpoint (resume_key)")
    add("--num-trials", type=whole, metavar="N", help="limit on the trials, if there is one (num_samples)")
    one.set_defaults(command=_plan)
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    missing = [name for name in _LM if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f'the demo needs {", ".join(missing)}: pip install "jobs-ray[lm]"')
    if arguments.workers is not None and arguments.workers < 1:
        raise UsageError(f"--workers is {arguments.workers}; expected a whole number from 1 on")
    try:
        Path(arguments.out).expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out: cannot write into {arguments.out}: {error.strerror or error}") from error
    return demo.run(arguments)


def _report(arguments: argparse.Namespace) -> int:
    try:
        return report_command.run(arguments)
    except report_command.ReportError as error:
        raise UsageError(str(error)) from error


def _watch(arguments: argparse.Namespace) -> int:
    try:
        return watch.run(arguments)
    except report_command.ReportError as error:
        raise UsageError(str(error)) from error


def _plan(arguments: argparse.Namespace) -> int:
    budget, max_t, short_t = arguments.budget, arguments.max_t, arguments.short_t
    try:
        said = plan_text(
            budget, max_t, short_t=short_t, dim=arguments.dim, resume=arguments.resume, num_trials=arguments.num_trials
        )
    except ArithmeticError as error:
        short = "" if short_t is None else f" and --short-t {short_t:g}"
        raise UsageError(
            f"--budget {budget:g} with --max-t {max_t:g}{short} buys more runs than can be counted"
        ) from error
    print(said)
    return 0


def plan_text(
    budget: float,
    max_t: float,
    *,
    short_t: float | None = None,
    dim: int = _DIM,
    resume: bool = False,
    num_trials: int | None = None,
) -> str:
    """The split of `budget` (full-run equivalents) as a table. Raises UsageError unless 0 < short_t < max_t."""
    short_t = first_short_t(max_t, budget) if short_t is None else short_t
    if not 0 < short_t < max_t:
        raise UsageError(f"--short-t is {short_t:g}; expected more than 0 and less than --max-t = {max_t:g}")
    short_cost = short_t / max_t
    promotion = 1.0 - short_cost if resume else 1.0
    split = allocate(budget, num_trials, short_cost, promotion)
    finer = "" if short_t >= 1 else " With max_t in reports no run is stopped before its first: give --max-t in steps."
    rest = f"trains the other {max_t - short_t:g}" if resume else f"trains {max_t:g} anew"
    paragraphs = [
        f"Budget: {_full_runs(budget)} of {max_t:g} steps (in the unit of --max-t), {budget * max_t:g} in all. "
        f"A short run trains {short_t:g} steps and costs {short_cost:.3g} full runs; promoting one {rest} and costs "
        f"{promotion:.3g}.{finer}",
        "\n".join(_table(split, short_t, max_t, short_cost, promotion)),
        _expected(split, budget, short_cost, promotion) + _limited(num_trials, budget, short_cost, promotion),
        _theory(budget, short_cost, dim),
    ]
    return "\n\n".join(p if "\n" in p else textwrap.fill(p, 80) for p in paragraphs)


def _table(split: Allocation, short_t: float, max_t: float, short_cost: float, promotion: float) -> list[str]:
    rows = [
        ("learn", "short runs, spread over the space", split.learn_short, short_t, short_cost),
        ("learn", "full runs, the best of them promoted", split.learn_full, max_t, promotion),
        ("search", "short runs, chosen by the surrogate", split.search_short, short_t, short_cost),
        ("confirm", "full runs, the most promising promoted", split.confirm, max_t, promotion),
    ]
    lines = [f"{'phase':<9}{'what':<40}{'runs':>6}{'to step':>11}{'cost':>12}"]
    for phase, what, runs, t, cost in rows:
        lines.append(f"{phase:<9}{what:<40}{runs:>6}{t:>11g}{runs * cost:>12.2f}")
    total = sum(row[2] * row[4] for row in rows)
    lines.append(f"{'all':<49}{split.trials:>6}{'':>11}{total:>12.2f}")
    return lines


def _expected(split: Allocation, budget: float, short_cost: float, promotion: float) -> str:
    configs, full = split.learn_short + split.search_short, split.learn_full + split.confirm
    said = (
        f"Expected: about {split.trials} trials (configurations: {configs}, fully trained: {full}). Search and "
        "confirm take turns; a short run that looks best may go on to the end on the spot."
    )
    if configs * short_cost + full * promotion > budget + 1e-9:
        said += " The budget is too small for all of this: the search leaves out what it cannot pay for."
    return said


def _limited(num_trials: int | None, budget: float, short_cost: float, promotion: float) -> str:
    wanted = allocate(budget, None, short_cost, promotion).trials
    if num_trials is None or num_trials >= wanted:
        return ""
    return (
        f" Limited to {num_trials} trials, the search ends before the budget is spent: leave the limit out "
        f"(num_samples=-1), or allow at least {wanted}."
    )


def _theory(budget: float, short_cost: float, dim: int) -> str:
    best = optimal_num_full(budget, short_cost, dim)
    short = int((budget - best) / short_cost + 1e-9)
    return (
        f"Theory (arXiv 2602.08351; {dim} dimensions, unknown constants set to 1): the bound on the regret is lowest "
        f"with N* = {_full_runs(best)} to learn from, then {short} short ones. The search uses the adaptive split "
        "above, which measures better; JoBSSearcher(num_full=N) gives the paper's two phases."
    )


def _full_runs(number: float) -> str:
    return f"{number:g} full run{'' if number == 1 else 's'}"
