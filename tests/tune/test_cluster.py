"""Two raylets, eight trials at once, one node killed mid-run with FailureConfig(max_failures=2)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_killed_node_costs_what_was_trained_and_nothing_else(tmp_path: Path) -> None:
    driver = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("cluster_driver.py")), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    lines = [line for line in driver.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, driver.stdout[-3000:] + driver.stderr[-3000:]
    answer = json.loads(lines[-1].removeprefix("ANSWER "))
    assert answer["nodes"] == [2, 1]
    assert answer["errors"] == 0
    assert answer["trials"] == 10
    assert answer["recovered"] >= 1
    assert set(answer["status"]) <= {"stopped", "completed"}
    # every report that Tune delivered is one step that was trained, also those that were lost with the node
    assert answer["spent"] == pytest.approx(answer["results"] / answer["max_t"])
