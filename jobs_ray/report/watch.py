"""`jobs-ray watch`: where a search stands that runs elsewhere, from what its driver saves every ten seconds."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from jobs_ray.report.command import ReportError, require_ray

if TYPE_CHECKING:
    from jobs_ray.tune.live import Standing

_QUIET_S = 60.0  # without a change in the folder, and with no trial running: it is over


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `jobs-ray watch`."""
    parser.add_argument("experiment", metavar="EXPERIMENT_DIR", help="folder or URI of the experiment")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="time between two looks (5)")
    parser.add_argument("--once", action="store_true", help="one look, then end")


def run(arguments: argparse.Namespace) -> int:
    """Shows the line until the search is over. Raises ReportError when there is no search to be seen."""
    require_ray()
    from jobs_ray.tune.live import LiveLine

    line, changed, before = LiveLine(), time.monotonic(), ""
    try:
        while True:
            found = look(arguments.experiment)
            text = found.line()
            if text != before:
                changed, before = time.monotonic(), text
                line.show(found)
            spent = found.total is not None and found.spent >= found.total - 1e-9
            if arguments.once or (not found.running and (spent or time.monotonic() - changed > _QUIET_S)):
                break
            time.sleep(max(arguments.every, 0.1))
    finally:
        line.close()
    if not arguments.once:
        print(f"{before}\nThe search is over: jobs-ray report {arguments.experiment}")
    return 0


def look(folder: str) -> Standing:
    """The standing as last saved. Raises ReportError."""
    from jobs_ray.report import ray_folder
    from jobs_ray.report.predictions import predictions
    from jobs_ray.tune.live import standing
    from jobs_ray.tune.results import load_session, locate

    try:
        session = load_session(folder)
        filesystem, path = locate(folder)
        times = ray_folder.read(filesystem, path).trials.values()
    except (OSError, ValueError) as error:  # StateError is a ValueError
        raise ReportError(str(error)) from error
    found = predictions(session.core)
    known = {name: (p.mean, p.stddev) for name, p in found.trials.items()}
    starts = [trial.started for trial in times if trial.started is not None]
    ends = [trial.ended for trial in times if trial.ended is not None]
    seconds = max(ends) - min(starts) if starts and ends else 0.0
    return standing(session, known, found.own.rmse if found.own else None, seconds, 0.0)
