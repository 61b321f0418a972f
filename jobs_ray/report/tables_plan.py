"""The first two tables of the report: what was planned, and what was started and spent in each phase."""

from __future__ import annotations

from collections.abc import Sequence

from jobs_ray.report.experiment import Report, Row
from jobs_ray.report.terminal import Section
from jobs_ray.trials import Phase, TrialStatus


def plan_table(report: Report) -> Section:
    """What is fixed before the first trial starts, and the length of a short run."""
    rows = [("metric", f"{report.metric}, {report.direction}")]
    plan, unit = report.plan, report.time_attr
    if plan is not None:
        rows.append(("full run", f"to {unit} = {plan['max_t']:g}"))
    if plan is not None and report.stops:
        share = plan["short_t"] / plan["max_t"]
        rows.append(("short run", f"to {unit} = {plan['short_t']:g}: {share:.3g} of a full run"))
    total = report.budget["total"]
    if not report.ours:
        longest = next((row.last_t / row.charged for row in report.trials if row.charged), 0.0)  # what costs are in
        rows += [("searcher", report.searcher), (report.longest.removeprefix("the "), f"to {unit} = {longest:g}")]
        if report.repeats > 1:
            rows.append(("repeats", f"each configuration trained {report.repeats} times, each a trial here"))
        return Section("Experiment", rows=tuple(rows), left=2)
    rows.append(("budget", "no limit" if total is None else f"{total:g} {report.unit_of(total)}"))
    if report.repeats > 1:
        rows.append(("repeats", f"each configuration trained {report.repeats} times; budget and costs are of one"))
    if report.num_samples is not None:
        rows.append(("trials", f"at most {report.num_samples}"))
    notes = () if plan else ("The length of a full run is not known yet: no trial has ended (or set max_t).",)
    return Section("Plan", rows=tuple(rows), notes=notes, left=2)


def phases_table(report: Report) -> Section:
    """Runs planned, started and failed, and what they cost."""
    plan, rows = report.plan, []
    charged = [row for row in report.trials if not row.observed]
    endless = report.budget["total"] is None and report.num_samples is None
    names = {
        (Phase.LEARN, False): "learn_short", (Phase.LEARN, True): "learn_full",
        (Phase.SEARCH, False): "search_short", (Phase.CONFIRM, True): "confirm",
    }  # fmt: skip
    for phase in Phase:
        for full in (False, True):
            mine = [row for row in charged if row.phase is phase and row.full is full]
            name = names.get((phase, full))
            planned = plan[name] if plan and name and report.stops else 0
            if mine or planned:
                hide = not planned or (endless and phase is not Phase.LEARN)
                rows.append(_counts(phase.value, "full" if full else "short", "-" if hide else str(planned), mine))
    total = report.budget["total"]
    rows.append(_counts("all", "", "", charged))
    notes = [
        f"Spent, in {report.unit}: {report.budget['spent']:.2f}"
        + (f" of {total:g}; {max(total - report.budget['spent'], 0.0):.2f} left." if total is not None else ".")
    ]
    if not report.stops:
        cut = sum(row.status is TrialStatus.STOPPED for row in charged)
        if cut:
            notes.append(f"Ended early by something else than the search: {cut}.")
        else:
            notes.append("Every trial ran to its own end.")
        notes.append("With scheduler=JoBSScheduler() (or steps_key) most would be short runs.")
    promoted = [row for row in charged if row.promotes]
    if promoted:
        resumed = sum(row.resumed for row in promoted)
        notes.append(
            f"Promoted short runs: {len(promoted)}; {resumed} went on from a checkpoint, "
            f"{len(promoted) - resumed} were trained anew."
        )
    observed = len(report.trials) - len(charged)
    if observed:
        notes.append(f"Observations from elsewhere, not charged: {observed}.")
    running = sum(row.status is TrialStatus.RUNNING for row in report.trials)
    if running:
        notes.append(f"Running when this state was saved (the search may have been killed): {running}.")
    header = ("phase", "runs", "planned", "started", "failed", "spent")
    return Section("Phases and budget", header, tuple(rows), tuple(notes), left=2)


def _counts(phase: str, kind: str, planned: str, rows: Sequence[Row]) -> tuple[str, ...]:
    failed = sum(row.status is TrialStatus.FAILED for row in rows)
    return phase, kind, planned, str(len(rows)), str(failed), f"{sum(row.charged for row in rows):.2f}"
