"""Every figure that there is data for, with a sentence that says how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs_ray.report import figures_space, figures_trials, sensitivity
from jobs_ray.report.experiment import Report
from jobs_ray.report.figures_columns import Column, columns, most_important, of_rows


@dataclass(frozen=True)
class Figure:
    """A plotly `figure`; `name`: of its file and its place in the page."""

    name: str
    title: str
    note: str
    figure: Any


def figures(report: Report) -> list[Figure]:
    """In the order of the page: what was trained, how far it can be believed, what it depends on, what it cost."""
    return [*_trials(report), *_space(report), *_cost(report)]


def _trials(report: Report) -> list[Figure]:
    found = []
    if any(row.curve for row in report.trials):
        note = "One line a trial; diamonds are finals of full runs."
        if any(row.predicted is not None and row.final is None for row in report.trials):
            note += " On the right: what the short runs are predicted to reach, with 90 % intervals."
        title = "Learning curves by phase" if report.ours else "Learning curves"
        found.append(Figure("curves", title, note, figures_trials.curves(report)))
    pairs = [row for row in report.trials if row.final is not None and row.predicted is not None]
    if pairs and report.plan:
        note = (
            f"Each full run as predicted from its reports up to {report.time_attr} = {report.plan['short_t']:g}, by a "
            "predictor that has not seen it, with its 90 % interval; on the line the prediction is right. "
            + figures_trials.calibration_sentence(report, pairs)
        )
        figure = figures_trials.calibration(report, pairs)
        found.append(Figure("predictions", "Predicted and confirmed finals", note, figure))
    return found


def _space(report: Report) -> list[Figure]:
    found: list[Figure] = []
    surface = sensitivity.fit(report)
    effects = sensitivity.effects(report.space, surface) if surface and report.space is not None else []
    rows = sensitivity.known(report)
    if effects:
        note = (
            f"By a Gaussian process over {len(rows)} configurations: how much of the variance of {report.metric} over "
            "the whole search space goes back to each parameter (Sobol indices). Few configurations tell little."
            + _of(f"the {figures_space.PANELS} most important parameters", figures_space.PANELS, len(effects))
        )
        found.append(Figure("importance", "What the value depends on", note, figures_space.importance(effects)))
    if surface and effects and (strongest := sensitivity.strongest_interaction(report, surface)):
        note = (
            f"Data and model hang together most in the weight of {strongest.domain} and {strongest.parameter}. Colour: "
            f"{report.metric} by the same Gaussian process, all else as in the best configuration. Where the line "
            "bends, the best setting is another one for another mixture."
        )
        figure = figures_space.interaction(report, strongest)
        found.append(Figure("interaction", "Mixture and model together", note, figure))
    every = columns(report, report.trials)
    number_of = {row.trial_id: number for number, row in enumerate(report.trials)}
    estimated = [row for row in report.trials if row.estimate is not None]
    if there := of_rows(every, [number_of[row.trial_id] for row in estimated]):
        note = "Filled: confirmed by a full run; open: predicted." if report.ours else "Trials that ran to the end."
        note += (" Most important first." if effects else "") + _kept(figures_space.PANELS, there, bool(effects))
        shown = most_important(there, effects, figures_space.PANELS)
        figure = figures_space.against_parameters(report, estimated, shown)
        found.append(Figure("parameters", f"{report.metric} against each parameter", note, figure))
    best = report.best_first()
    lines = best[: figures_space.LINES]
    of_best = of_rows(every, [number_of[row.trial_id] for row in best])
    if len(lines) > 1 and (there := of_rows(of_best, range(len(lines)))):
        note = "One line a configuration. Drag along an axis to keep only the lines that pass there."
        note += _kept(figures_space.AXES, there, bool(effects))
        note += _of(f"the {figures_space.LINES} best configurations", figures_space.LINES, len(best))
        shown = most_important(there, effects, figures_space.AXES)
        figure = figures_space.parallel(report, lines, [column for column in there if column in shown])
        found.append(Figure("parallel", "All parameters at once", note, figure))
    weights = [column for column in of_best if column.domain is not None]
    names = list(dict.fromkeys(column.block for column in weights))
    for number, name in enumerate(names, 1):
        note = f"Best first, by confirmed or predicted {report.metric}; * is a confirmed final."
        title, suffix = ("", "") if len(names) == 1 else (f": {name}", f"-{number}")
        figure = figures_space.mixtures(report, best, [column for column in weights if column.block == name])
        found.append(Figure(f"mixtures{suffix}", f"Mixture of the trials{title}", note, figure))
    return found


def _kept(most: int, there: Sequence[Column], ranked: bool) -> str:
    """What `most_important` kept."""
    which = f"the {most} most important" if ranked else f"the first {most}"
    if all(column.domain is None for column in there):
        return _of(f"{which} parameters", most, len(there))
    rule = "every parameter before a second weight of any mixture, and of its weights those that vary most"
    return _of(f"{which} parameters and weights", most, len(there), f" ({rule})")


def _of(shown: str, most: int, count: int, rule: str = "") -> str:
    return f" Shown: {shown} of {count}{rule}." if count > most else ""


def _cost(report: Report) -> list[Figure]:
    found = []
    if any(row.final is not None for row in report.trials):
        note = "Trials in the order they were asked for, each charged for all it trained."
        found.append(Figure("progress", "Budget spent and best confirmed", note, figures_trials.progress(report)))
    if any(row.charged for row in report.trials):
        note = "What each part of the search cost, and for how many trials." if report.ours else "What was trained."
        found.append(
            Figure("budget", "Budget by phase" if report.ours else "Budget", note, figures_trials.budget(report))
        )
    if report.wall_s is not None:
        note = "From the start of each trial to its last report, as Ray's own state has it."
        note += " The time in which no driver lived is left out." if report.pauses else ""
        found.append(Figure("time", "Wall time", note, figures_trials.timeline(report)))
    return found
