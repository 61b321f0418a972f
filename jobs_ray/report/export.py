"""The report as files for other programs: one CSV row a trial, all of it as JSON, each figure as a picture."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from jobs_ray.report.answer import answer
from jobs_ray.report.experiment import Report, Row, leaves
from jobs_ray.report.tables import decimals
from jobs_ray.report.terminal import visible

_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula; such text gets an apostrophe in front."""


def write_csv(report: Report, file: TextIO) -> None:
    """One row a trial, configurations in columns `config/...`, numbers with all digits, nothing for what is unknown."""
    rows = [_flat(row) for row in report.trials]
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_cell(name) for name in names])
    writer.writerows([[_cell(row.get(name)) for name in names] for row in rows])


def as_json(report: Report) -> dict[str, Any]:
    """Plain data: the experiment, the answer with its gains in words, every trial with its curve."""
    found = answer(report, decimals(report))
    recommended = report.recommendation
    data = {
        "folder": report.folder,
        "searcher": report.searcher,
        "metric": report.metric,
        "mode": report.mode,
        "time_attr": report.time_attr,
        "plan": report.plan,
        "budget": report.budget,
        "num_samples": report.num_samples,
        "wall_s": report.wall_s,
        "predictor": report.quality and dataclasses.asdict(report.quality),
        "predictor_left_out": report.left_out and dataclasses.asdict(report.left_out),
        "recommendation": recommended and dataclasses.asdict(recommended),
        "best_trial": next((row.trial_id for row in report.best_first()), None),
        "facts": dict(found.facts) if found else {},
        "trials": [_trial(row) for row in report.trials],
    }
    plain: dict[str, Any] = _plain(data)
    return plain


def write_json(report: Report, file: TextIO) -> None:
    """Strict JSON, indented: an infinity or NaN in a configuration becomes text."""
    json.dump(as_json(report), file, indent=1, allow_nan=False)
    file.write("\n")


def write_png(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """Each figure as `NAME.png` in a folder, which is made. Raises RuntimeError where there is no Chrome to draw it.

    plotly draws with kaleido, and kaleido with a Chrome or Chromium that is installed.
    """
    from jobs_ray.report.figures import figures

    target = Path(folder).expanduser()
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for found in figures(report):
        found.figure.update_layout(
            paper_bgcolor="white", title={"text": found.title, "font": {"size": 16}}, margin_t=60
        )
        path = target / f"{found.name}.png"
        try:
            found.figure.write_image(path, width=1000, scale=2)
        except Exception as error:  # kaleido's ChromeNotFoundError is none of plotly's, and changes place
            raise RuntimeError(f"plotly could not draw {path.name}: {error}") from error
        written.append(path)
    return written


def _trial(row: Row) -> dict[str, Any]:
    data = {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.name != "x"}
    return data | {"predicted": row.predicted and dataclasses.asdict(row.predicted)}


def _flat(row: Row) -> dict[str, Any]:
    predicted = row.predicted
    return {
        "trial_id": row.trial_id,
        "phase": row.phase.value if row.phase else None,
        "status": row.status.value,
        "full": row.full,
        "t": row.last_t,
        "last": row.curve[-1][1] if row.curve else None,
        "final": row.final,
        "predicted": predicted and predicted.mean,
        "predicted_stddev": predicted and predicted.stddev,
        "predicted_low": predicted and predicted.low,
        "predicted_high": predicted and predicted.high,
        "cost": row.charged,
        "promotes": row.promotes,
        "started": row.started,
        "ended": row.ended,
        "error": row.reason,
        **{f"config/{path}": value for path, value in leaves(row.config)},
    }


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = visible(str(value))  # on one line: what follows a line break would be a cell of its own to some programs
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)
