"""`jobs-ray watch`: where a search stands that runs elsewhere, from what its driver saves every ten seconds."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobs_ray.report.command import ReportError, require_ray
from jobs_ray.report.numbers import positive
from jobs_ray.report.terminal import visible

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
    from jobs_ray.tune.live import readable

    found = look(arguments.experiment) if arguments.once else _followed(arguments.experiment, arguments.every)
    name = visible(arguments.experiment)
    if arguments.once:
        print(found.standing.line())
    if found.silent:
        print(
            f"Nothing was saved for {readable(found.silent_s)} while trials run: the driver may be dead. What there "
            f"is: jobs-ray report {name}; to go on: Tuner.restore"
        )
    elif not arguments.once:
        print(f"The search is over: jobs-ray report {name}")
    return 0


def _followed(folder: str, every: float) -> Look:
    """The last look, at the end of the search, of its driver, or after a minute in which nothing ran or changed; the
    line of each was printed."""
    from jobs_ray.tune.live import LiveLine

    line, changed, before = LiveLine(), time.monotonic(), ""
    found = None
    try:
        while True:
            found = look(folder, found)
            text = found.standing.line()
            if text != before:
                changed, before = time.monotonic(), text
                line.show(found.standing)
            quiet = not found.standing.running and time.monotonic() - changed > _QUIET_S
            if found.over or found.silent or quiet:
                break
            time.sleep(max(every, 0.1))
    finally:
        line.close()
    if line.transient:
        print(text)
    return found


@dataclass(frozen=True)
class Look:
    """over: nothing runs, and the search would ask for nothing. saved: when the driver last did, 0 if unknown.

    silent_s: seconds since then.
    """

    standing: Standing
    over: bool
    saved: float
    silent_s: float

    @property
    def silent(self) -> bool:
        """Whether a driver that lives would have saved: it does so every ten seconds."""
        return self.standing.running > 0 and self.silent_s > _SILENT_S


def look(folder: str, before: Look | None = None) -> Look:
    """As last saved; `before`, with the time that has passed, while nothing was saved since. Raises ReportError."""
    from jobs_ray.report import ray_folder
    from jobs_ray.report.gather import sound
    from jobs_ray.report.predictions import predictions
    from jobs_ray.search.optimizer import FINISHED
    from jobs_ray.tune.live import standing
    from jobs_ray.tune.results import last_saved, load_session, locate

    try:
        filesystem, path = locate(folder)
        saved = last_saved(filesystem, path)
        if before is not None and saved and saved == before.saved:
            return _timed(replace(before, silent_s=time.time() - saved))
        seconds = ray_folder.read(filesystem, path).wall_s or 0.0
        with sound(path):
            session = load_session(folder)
            found = predictions(session.core, left_out=False)
            known = {name: (p.mean, p.stddev) for name, p in found.trials.items()}
            now = standing(session, known, found.own.rmse if found.own else None, seconds, 0.0)
            over = not now.running and session.core.propose(quick=True) is FINISHED
    except (OSError, ValueError) as error:  # StateError is a ValueError
        raise ReportError(str(error)) from error
    now = replace(now, metric=visible(str(now.metric)), unit=visible(str(now.unit)))  # the folder's, of any type
    return _timed(Look(now, over, saved, time.time() - saved))


def _timed(seen: Look) -> Look:
    """Without the time that is left, where nothing goes on."""
    return replace(seen, standing=replace(seen.standing, left_s=None)) if seen.over or seen.silent else seen
