"""`jobs-ray report`: its options, and which of the other modules each one calls."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from jobs_ray.report.experiment import Report


class ReportError(Exception):
    """Something the user can put right; its message is all that is shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `jobs-ray report`."""
    add = parser.add_argument
    add("experiment", metavar="EXPERIMENT_DIR", nargs="+", help="folder or URI (ResultGrid.experiment_path); several "
        "are compared")  # fmt: skip
    add("--html", metavar="FILE", help="also write one self-contained page with figures")
    add("--csv", metavar="FILE", help="also write one row a trial (-: to the terminal, instead of the tables)")
    add("--json", metavar="FILE", help="also write everything as JSON (-: to the terminal, instead of the tables)")
    add("--png", metavar="FOLDER", help="also write each figure as a picture (needs kaleido and a Chrome)")
    add("--metric", metavar="NAME", help="what to show of an experiment without a JoBSSearcher")
    add("--mode", choices=("min", "max"), help="of --metric (default: min for a loss or an error, else max)")
    add("--time-attr", metavar="NAME", help="progress in such an experiment (default: training_iteration)")


def run(arguments: argparse.Namespace) -> int:
    """Writes the files, then prints the tables. Raises ReportError with one sentence."""
    require_ray()
    if arguments.html or arguments.png:
        option = "--html" if arguments.html else "--png"
        _require("plotly", f'{option} needs plotly: pip install "jobs-ray[report]" (without {option} the tables work)')
    if arguments.png:
        _require("kaleido", '--png needs kaleido: pip install "jobs-ray[report]"')
    several = len(arguments.experiment) > 1
    if several and (arguments.csv or arguments.json or arguments.png):
        raise ReportError("--csv, --json and --png are of one experiment; call jobs-ray report once for each folder")
    reports = [_collect(name, arguments) for name in arguments.experiment]
    written = _written(
        reports, arguments
    )  # before the tables: `jobs-ray report ... --html FILE | head` leaves the page
    if "-" not in (arguments.csv, arguments.json):
        print("\n\n".join([_tables(reports), *written]), flush=True)
    return 0


def require_ray() -> None:
    """Raises ReportError without ray."""
    _require("ray", 'reading an experiment needs ray: pip install "jobs-ray[tune]"')


def _require(module: str, otherwise: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ReportError(otherwise)


def _collect(name: str, arguments: argparse.Namespace) -> Report:
    from jobs_ray.report.gather import collect

    try:
        found = collect(name, arguments.metric, arguments.mode, arguments.time_attr)
    except (OSError, ValueError) as error:  # StateError is a ValueError
        raise ReportError(str(error)) from error
    except RecursionError as error:
        raise ReportError(f"{name} is nested deeper than any search space is") from error
    for option, given, own in (
        ("--metric", arguments.metric, found.metric), ("--mode", arguments.mode, found.mode),
        ("--time-attr", arguments.time_attr, found.time_attr),
    ):  # fmt: skip
        if given not in (None, own):
            raise ReportError(f"{option} is {given!r}, but {name} is a search by {own!r}, which knows; leave it out")
    return found


def _tables(reports: list[Report]) -> str:
    from jobs_ray.report.compare import compare
    from jobs_ray.report.tables import text
    from jobs_ray.report.terminal import render

    return text(reports[0]) if len(reports) == 1 else render(compare(reports))


def _written(reports: list[Report], arguments: argparse.Namespace) -> list[str]:
    from jobs_ray.report import export

    report, said = reports[0], []
    if arguments.csv:
        _write(arguments.csv, lambda file: export.write_csv(report, file))
        said.append(f"Trials: {arguments.csv}")
    if arguments.json:
        _write(arguments.json, lambda file: export.write_json(report, file))
        said.append(f"Data: {arguments.json}")
    if arguments.html:
        with _writing(arguments.html):
            said.append(f"Figures: {_page(reports, arguments.html)}")
    if arguments.png:
        try:
            with _writing(arguments.png):
                said.append("Figures: " + ", ".join(map(str, export.write_png(report, arguments.png))))
        except RuntimeError as error:
            raise ReportError(f"{error}; install Chrome or Chromium, or use --html") from error
    return said


def _page(reports: list[Report], path: str) -> Path:
    from jobs_ray.report.compare import write_comparison
    from jobs_ray.report.page import write_html

    return write_html(reports[0], path) if len(reports) == 1 else write_comparison(reports, path)


def _write(path: str, write: Callable[[TextIO], None]) -> None:
    if path == "-":
        write(sys.stdout)
        return
    with _writing(path), Path(path).expanduser().open("w", encoding="utf-8", newline="") as file:
        write(file)


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from error
