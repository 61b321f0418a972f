"""Folders of other searchers, made by hand as Ray writes them: no Ray runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Lines = Sequence[Mapping[str, Any]]


def made(folder: Path, trials: Mapping[str, tuple[Mapping[str, Any], Lines]], metric: str | None = "loss") -> Path:
    """Trials by id: the configuration, and what was reported. Ray's own numbers are added."""
    data = []
    for name, (config, lines) in trials.items():
        static = {"trial_id": name, "status": "TERMINATED", "config": config, "relative_logdir": name}
        running = {"start_time": 1000.0, "last_result": {"timestamp": 1010}}
        data.append([json.dumps(static), json.dumps(running)])
        (folder / name).mkdir()
        rays = {"pid": 1, "time_total_s": 1.5, "iterations_since_restore": 3, "config": {"seed": 1}}
        written = [json.dumps({"training_iteration": i, **rays, **line}) for i, line in enumerate(lines, 1)]
        (folder / name / "result.json").write_text("\n".join(written))
    content = {"trial_data": data, "runner_data": {"_metric": metric}, "stats": {"start_time": 990.0}}
    (folder / "experiment_state-2026.json").write_text(json.dumps(content))
    return folder


def losses(*values: float) -> Lines:
    return [{"loss": value} for value in values]


def with_status(folder: Path, **status: str) -> Path:
    """The folder with these trials at other states than TERMINATED."""
    file = folder / "experiment_state-2026.json"
    content = json.loads(file.read_text())
    for pair in content["trial_data"]:
        static = json.loads(pair[0])
        pair[0] = json.dumps(static | {"status": status.get(static["trial_id"], static["status"])})
    file.write_text(json.dumps(content))
    return folder
