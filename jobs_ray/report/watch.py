"""`jobs-ray watch`: where a search stands that runs elsewhere, from what its driver saves every ten seconds."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobs_ray.report.command import ReportError, require_ray
from jobs_ray.report.numbers import positive

if TYPE_CHECKING:
    from jobs_ray.tune.live import Standing

_QUIET_S = 60.0  # without a change in the folder, and with no trial running: it is over
_SILENT_S = 300.0  # without a save, while trials run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `jobs-ray watch`."""
    parser.add_argument("experiment", metavar="EXPERIMENT_DIR", help="folder or URI of the experiment")
    parser.add_argument("--every", type=positive, default=5.0, metavar="SECONDS", help="time between two looks (5)")
    parser.add_argument("--once", action="store_true", help="one look, then end")


def run(arguments: argparse.Namespace) -> int:
    """Shows the line until the search is over, or its driver is. Raises ReportError when there is none to be seen."""
    require_ray()
    from jobs_ray.tune.live import LiveLine, readable

    line, changed, before = LiveLine(), time.monotonic(), ""
    try:
        while True:
            found = look(arguments.experiment)
            text = found.standing.line()
            if text != before:
                changed, before = time.monotonic(), text
                line.show(found.standing)
            quiet = not found.standing.running and time.monotonic() - changed > _QUIET_S
            if arguments.once or found.over or found.silent or quiet:
                break
            time.sleep(max(arguments.every, 0.1))
    finally:
        line.close()
    if not arguments.once:
        print(before)
    if found.silent:
        print(
            f"Nothing was saved for {readable(found.silent_s)} while trials run: the driver may be dead. What there "
            f"is: jobs-ray report {arguments.experiment}; to go on: Tuner.restore"
        )
    elif not arguments.once:
        print(f"The search is over: jobs-ray report {arguments.experiment}")
    return 0


@dataclass(frozen=True)
class Look:
    """over: nothing runs, and the search would ask for nothing. silent_s: seconds since the driver saved."""

    standing: Standing
    over: bool
    silent_s: float

    @property
    def silent(self) -> bool:
        """Whether a driver that lives would have saved: it does so every ten seconds."""
        return self.standing.running > 0 and self.silent_s > _SILENT_S


def look(folder: str) -> Look:
    """As last saved. Raises ReportError."""
    from jobs_ray.report import ray_folder
    from jobs_ray.report.predictions import predictions
    from jobs_ray.search.optimizer import FINISHED
    from jobs_ray.tune.live import standing
    from jobs_ray.tune.results import last_saved, load_session, locate

    try:
        session = load_session(folder)
        filesystem, path = locate(folder)
        silent_s = time.time() - last_saved(filesystem, path)
        times = ray_folder.read(filesystem, path).trials.values()
    except (OSError, ValueError) as error:  # StateError is a ValueError
        raise ReportError(str(error)) from error
    found = predictions(session.core)
    known = {name: (p.mean, p.stddev) for name, p in found.trials.items()}
    starts = [trial.started for trial in times if trial.started is not None]
    ends = [trial.ended for trial in times if trial.ended is not None]
    seconds = max(ends) - min(starts) if starts and ends else 0.0
    now = standing(session, known, found.own.rmse if found.own else None, seconds, 0.0)
    over = not now.running and session.core.propose(quick=True) is FINISHED
    seen = Look(now, over, silent_s)
    return replace(seen, standing=replace(now, left_s=None)) if over or seen.silent else seen
