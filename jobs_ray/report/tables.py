"""The report as tables: sections of plain strings, for the terminal (`text.py`) or a page (`page.py`)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

from jobs_ray.report.answer import answer
from jobs_ray.report.experiment import Report, Row, leaves
from jobs_ray.report.tables_plan import phases_table, plan_table
from jobs_ray.report.terminal import Section, render, visible
from jobs_ray.space.base import is_number
from jobs_ray.trials import TrialStatus

TOP = 10
_FAILURES = 20
_REASON = 300  # characters of it: an exception may print a whole tensor on its last line
_ID = 12
_EXACT = 15  # significant digits that every float has


def text(report: Report) -> str:
    """The whole report for a terminal of 80 columns; the recommendation, which matters most, comes last."""
    head = f"{title(report)} of {visible(report.folder)}"
    return "\n".join([head, "", *(f"{render(section)}\n" for section in sections(report))]).rstrip()


def title(report: Report) -> str:
    """What kind of experiment it is: one of another searcher is called that."""
    return "JoBS report" if report.ours else f"Experiment by {report.searcher} (no JoBSSearcher took part)"


def sections(report: Report) -> list[Section]:
    """Every table of the report."""
    show = decimals(report)
    found = [
        plan_table(report), phases_table(report) if report.ours else None,
        _predictor(report, show) if report.ours else None,
        _top(report, show), _failures(report), _answer(report, show),
    ]  # fmt: skip
    return [section for section in found if section is not None]


def decimals(report: Report) -> Callable[[float], str]:
    """Formats values of the metric with the digits that tell trials apart, and errors of the predictor too."""
    values = [row.estimate for row in report.trials if row.estimate is not None]
    values = values or [row.curve[-1][1] for row in report.trials if row.curve]
    spread = statistics.pstdev(values) if len(values) > 1 else 0.0
    if report.quality is not None and report.quality.rmse > 0:
        spread = min(spread, report.quality.rmse)
    largest = max((abs(value) for value in values), default=0.0)
    digits = 2 - math.floor(math.log10(spread)) if spread > 0 else 4
    if 0 <= digits <= 7 and largest < 1e6:
        return lambda value: f"{value:.{digits}f}"
    apart = math.ceil(math.log10(largest) - math.log10(spread)) + 2 if spread > 0 and largest > 0 else 0
    if apart <= 5:
        return lambda value: f"{value:.5g}"
    return lambda value: f"{round(value, digits):.{min(apart, _EXACT)}g}"


def config_line(row: Row, report: Report) -> str:
    """What the search chose, in short: `mixture: code 0.30, prose 0.70; lr 0.0031`."""
    mixtures: dict[str, list[str]] = {}
    rest = []
    for path, value in leaves(row.config):
        if share := report.share_of(path):
            head, name = share
            mixtures.setdefault(head, []).append(f"{name} {value:.2f}" if is_number(value) else f"{name} {value}")
        elif path in report.searched:
            rest.append(f"{path} {short(value)}")
    return "; ".join([*(f"{name}: {', '.join(shares)}" for name, shares in mixtures.items()), *rest])


def shorten(trial_id: str) -> str:
    """The end of a long id: the beginning is often the same for all."""
    return trial_id if len(trial_id) <= _ID else f"~{trial_id[1 - _ID :]}"


def _predictor(report: Report, show: Callable[[float], str]) -> Section:
    title, quality = "Predictor of final values", report.quality
    if quality is None:
        full = sum(row.final is not None for row in report.trials)
        return Section(title, notes=(f"None yet: it learns from three full runs or more, there are {full}.",))
    finals = [row.final for row in report.trials if row.final is not None]
    both = (report.left_out, quality)
    rows = (
        ("typical error (RMSE)", *(show(q.rmse) if q else "-" for q in both)),
        ("variance explained (R2)", *(f"{q.r2:.2f}" if q else "-" for q in both)),
        ("finals within the 90 % interval", *(f"{q.coverage:.0%}" if q else "-" for q in both)),
    )
    sampled = report.left_out is not None and report.left_out.n < quality.n
    each = f"each of {report.left_out.n} of them" if report.left_out and sampled else "each run"
    notes = [
        f"From reports up to {report.time_attr} = {quality.t:g}, over {quality.n} full runs, whose finals have a "
        f"standard deviation of {show(statistics.stdev(finals))}. Left out: {each} predicted by a fit without it. "
        "Own estimate: leave-one-out with the parameters of the one fit, which the search reckons with."
    ]
    if report.left_out is None:
        notes.append("To leave one out takes four full runs.")
    if (report.left_out or quality).r2 <= 0:
        notes.append("It predicts no better than the mean: distrust what is not confirmed; a longer short_t may help.")
    elif quality.n < 8:
        notes.append("These are few full runs to judge by.")
    return Section(title, ("", "left out", "own estimate"), rows, tuple(notes))


def _top(report: Report, show: Callable[[float], str]) -> Section:
    best = report.best_first()
    listed = {row.trial_id for row in best}
    others = [row for row in report.trials if row.curve and not row.superseded and row.trial_id not in listed]
    best += sorted(others, key=lambda row: -report.sign * row.curve[-1][1])
    title = "Top trials"
    if not best:
        return Section(title, notes=("No trial has reported a usable value yet.",))
    shown = best[:TOP]
    rows = [
        (
            f"{rank}.", shorten(row.trial_id), row.phase or "-", f"{row.last_t:g}", show(row.curve[-1][1]),
            f"{show(row.predicted.mean)} +- {show(row.predicted.stddev)}" if row.predicted else "-",
            _final(row, show),
        )
        for rank, row in enumerate(shown, 1)
    ]  # fmt: skip
    notes = [f"Best first, by final or predicted final. last: the value of the last report, at t = {report.time_attr}."]
    if report.plan and any(row.predicted for row in shown):
        notes.append(
            "predicted final (+- standard deviation): of a full run from its reports up to "
            f"t = {report.plan['short_t']:g}, by a predictor that has not seen it; of any other from all its reports."
        )
    if not all(row.estimate is not None for row in shown):
        notes.append("Trials with neither a final nor a predicted value come last, by their last one.")
    if len(best) > TOP:
        notes.append(f"More configurations: {len(best) - TOP}.")
    header = ("", "trial", "phase", "t", "last", "predicted final", "final")
    details = tuple(config_line(row, report) for row in shown)
    return Section(title, header, tuple(rows), tuple(notes), details, left=3)


def _final(row: Row, show: Callable[[float], str]) -> str:
    if row.final is not None:
        return show(row.final)
    return row.status.value if row.status in (TrialStatus.RUNNING, TrialStatus.FAILED) else "-"


def _failures(report: Report) -> Section | None:
    failed = [row for row in report.trials if row.status is TrialStatus.FAILED]
    if not failed:
        return None
    rows = tuple((shorten(row.trial_id), row.phase or "-", f"{row.last_t:g}") for row in failed[:_FAILURES])
    more = (f"More failed trials: {len(failed) - _FAILURES}.",) if len(failed) > _FAILURES else ()
    details = tuple(why(row) or "no reason known" for row in failed[:_FAILURES])
    header = ("trial", "phase", "t")
    return Section("Failed trials", header, rows, more, details, left=2)


def why(row: Row) -> str | None:
    """Why a trial failed, its beginning if that is long; None: it did not, or nothing is known."""
    reason = row.reason
    return reason if reason is None or len(reason) <= _REASON else f"{reason[:_REASON]}..."


def _answer(report: Report, show: Callable[[float], str]) -> Section:
    if (found := answer(report, show)) is None:
        missing = "no trial has reported a usable value" if report.ours else "no trial has trained to the end"
        return Section("Recommendation" if report.ours else "Best trial", notes=(f"None: {missing}.",))
    rows = [
        (f"{path}/{domain}", "0" if not weight else f"{weight:.3f}")
        for path, shares in found.mixtures.items()
        for domain, weight in shares.items()
    ]
    rows += [(path, short(value, 6)) for path, value in (*found.settings.items(), *found.fixed.items())]
    notes = [found.headline]
    best = report.best_first()[:1]
    if report.ours and report.recommendation and report.recommendation.confirmed and best[0].final is None:
        predicted = best[0].predicted
        if predicted is not None:
            notes.append(
                f"Predicted to be better, not confirmed: trial {best[0].trial_id}, "
                f"{show(predicted.mean)} +- {show(predicted.stddev)}."
            )
    notes += [f"{what[:1].upper()}{what[1:]}: {sentence}." for what, sentence in found.facts]
    if report.ours:
        notes.append("In Python, with all digits: jobs_ray.recommend(EXPERIMENT_DIR).config")
    return Section(found.title, rows=tuple(rows), notes=tuple(notes), left=2)


def short(value: Any, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) and is_number(value) else str(value)
