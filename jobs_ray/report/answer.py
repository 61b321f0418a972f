"""The answer that a search was run for: what to train, how good it is, what it gained, what it cost; in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs_ray.report.experiment import Report, Row, leaves
from jobs_ray.space.base import is_number
from jobs_ray.trials import Phase, TrialStatus

SMALL = 1e-3
"""A weight below a thousandth is shown as 0."""


@dataclass(frozen=True)
class Answer:
    """`mixtures`: weights by domain, by the path of each; `settings`: everything else that was searched, by path.

    `fixed`: what the search did not vary. `facts`: (what, sentence) on gain and cost.
    """

    title: str
    headline: str
    mixtures: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, Any]
    fixed: Mapping[str, Any]
    facts: tuple[tuple[str, str], ...]


def answer(report: Report, show: Callable[[float], str]) -> Answer | None:
    """None while no trial has reported a usable value. `show`: formats values of the metric."""
    found = report.recommendation
    best = next(iter(report.best_first()), None)
    if (report.ours and found is None) or (not report.ours and best is None):
        return None
    row = best if found is None else next(row for row in report.trials if row.trial_id == found.trial_id)
    config = found.config if found is not None else row.config if row is not None else {}
    assert row is not None
    mixtures: dict[str, dict[str, float]] = {}
    settings: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    for path, value in leaves(config):
        if (share := report.share_of(path)) and is_number(value):
            mixtures.setdefault(share[0], {})[share[1]] = value if value >= SMALL else 0.0
        else:
            (settings if path in report.searched else fixed)[path] = value
    value = found.mean if found is not None else row.estimate
    gains = _gains(report, row, value, show) if value is not None else []
    title = "Recommendation" if report.ours else "Best trial"
    return Answer(title, _headline(report, row, show), mixtures, settings, fixed, (*gains, ("cost", cost(report))))


def cost(report: Report) -> str:
    """Trials, budget and time that the experiment took."""
    total, wall = report.budget["total"], report.wall_s
    trials = [row for row in report.trials if not row.observed]  # an observation took nothing
    full = sum(row.final is not None for row in trials)
    failed = sum(row.status is TrialStatus.FAILED for row in trials)
    of = "" if total is None else f" of {total:g}"
    unit = report.unit
    if unit == "full runs":
        unit = "full run's worth of training" if total == 1 else "full runs' worth of training"
    unit = unit if report.ours else f"times {report.longest}"
    times = (
        "" if report.repeats == 1 or not report.ours else f" (times {report.repeats}: each configuration was repeated)"
    )
    return (
        f"{report.budget['spent']:.2f}{of} {unit}{times}, {len(trials)} trials ({full} to the end"
        + (f", {failed} failed" if failed else "")
        + ")"
        + ("" if wall is None else f", {duration(wall)}")
    )


def duration(seconds: float) -> str:
    """`3 h 20 min`, `12 min`, `45 s`."""
    minutes, hours = seconds / 60.0, seconds / 3600.0
    if hours >= 1:
        return f"{int(hours)} h {int(minutes % 60)} min"
    return f"{minutes:.0f} min" if minutes >= 3 else f"{seconds:.0f} s"


def _headline(report: Report, row: Row, show: Callable[[float], str]) -> str:
    found, unit = report.recommendation, report.time_attr
    if found is None:
        end = f"{report.metric} = {show(row.estimate or 0.0)} at {unit} = {row.last_t:g}, as long as {report.longest}"
        return f"The best trial that trained to the end: {row.trial_id}, {end}."
    if found.confirmed:
        by = "an observation from elsewhere" if row.observed else "a full run"
        said = f"CONFIRMED by {by} (trial {found.trial_id}): {report.metric} = {show(found.mean)}."
        if row.predicted is not None:
            inside = row.predicted.low <= found.mean <= row.predicted.high
            said += (
                f" From its first reports {show(row.predicted.mean)} was predicted, with "
                f"[{show(row.predicted.low)}, {show(row.predicted.high)}] as 90 % interval"
                + ("." if inside else ": the prediction was wrong, the full run counts.")
            )
        return said
    spread = f" +- {show(found.stddev)}" if found.stddev else ""
    if row.predicted is not None and found.stddev:
        spread += f", 90 % interval [{show(row.predicted.low)}, {show(row.predicted.high)}]"
    basis = found.basis(report.plan["max_t"] if report.plan else None, unit)
    return (
        f"NOT CONFIRMED: no full run has ended yet; the most promising of the short ones (trial {found.trial_id}): "
        f"{report.metric} = {show(found.mean)}{spread} ({basis}). Train it fully before you rely on it."
    )


def _gains(report: Report, mine: Row, value: float, show: Callable[[float], str]) -> list[tuple[str, str]]:
    found = []
    learn = [row for row in report.trials if row.phase is Phase.LEARN and not row.observed]
    learn = [row for row in learn if row.estimate is not None]
    # a short run that LEARN itself trained on to the end counts with what it came to
    learn = [row for row in learn if all(row.trial_id != other.promotes for other in learn)]
    learn = [row for row in learn if row.trial_id not in report.default]
    if learn:
        best = max(learn, key=lambda row: report.sign * (row.estimate or 0.0))
        found.append(("gain over the best LEARN run", _gain(report, mine, value, best, show)))
    default = [row for row in report.best_first() if row.trial_id in report.default]
    if default:
        found.append(("gain over the default", _gain(report, mine, value, default[0], show)))
    elif report.default:
        found.append(("gain over the default", "not known: it was neither trained fully nor can it be predicted"))
    return found


def _gain(report: Report, mine: Row, value: float, other: Row, show: Callable[[float], str]) -> str:
    if mine is other or dict(mine.config) == dict(other.config):
        return f"none: it is that run ({other.trial_id})"
    assert other.estimate is not None
    better = report.sign * (value - other.estimate)
    basis = "" if other.final is not None else ", as predicted"
    share = f" ({100 * better / abs(other.estimate):.1f} %)" if other.estimate else ""
    word = "better" if better >= 0 else "WORSE"
    return f"{show(abs(better))} {word}{share} than its {show(other.estimate)} (trial {other.trial_id}{basis})"
