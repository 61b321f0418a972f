"""A state written before the packages and the BoTorch models (commit 736cd85) goes on."""

from __future__ import annotations

import json
from pathlib import Path

from core_runs import make, search

STATE = Path(__file__).with_name("data") / "state_736cd85.json"


def test_a_state_of_the_old_version_restores_and_the_search_goes_on_to_its_end() -> None:
    state = json.loads(STATE.read_text())
    optimizer = make(budget=6.0)
    optimizer.load_state_dict(state)
    before = {t["id"]: (t["t"], t["status"]) for t in state["trials"]}
    after = {name: (list(t.curve.t), t.status.value) for name, t in optimizer.trials.items()}
    assert after == before
    search(optimizer, prefix="later")
    found = optimizer.recommendation()
    assert found is not None
    assert found.confirmed
    assert len(optimizer.trials) > len(before)
    assert optimizer.budget.spent <= 6.0 + 1e-9
