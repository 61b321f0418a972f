"""`Tuner.restore` with `restart_errored` or `resume_errored`: the run ends, and the ledger is what was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from tune_trainables import STEPS, Class, half

from jobs_ray import JoBSScheduler, JoBSSearcher
from jobs_ray.tune.results import load_session


class Counted(Class):
    """Writes down each step it trains; fails at its second one while the cluster is `broken`."""

    def step(self) -> dict[str, Any]:
        folder = Path(self.config["folder"])
        if self.t == 1 and self.config["x"] > 0.6 and (folder / "broken").exists():
            raise RuntimeError("the trainable fails on purpose")
        with open(folder / "steps", "a") as file:
            file.write(".")
        return super().step()


@pytest.mark.parametrize("how", [pytest.param("restart_errored", marks=pytest.mark.slow), "resume_errored"])
def test_failed_trials_train_again_within_the_budget(
    fit: Callable[..., tune.ResultGrid], tmp_path: Path, how: str
) -> None:
    (tmp_path / "broken").touch()
    searcher = JoBSSearcher(max_t=STEPS, short_t=3, budget=2, seed=0)
    space = {"x": tune.uniform(0.0, 1.0), "folder": str(tmp_path)}
    results = fit(
        half(Counted), space, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=1, reuse_actors=True
    )
    failed = [row["trial_id"] for row in searcher.report()["trials"] if row["status"] == "failed"]
    assert len(results.errors) == len(failed) > 1
    (tmp_path / "broken").unlink()

    tune.Tuner.restore(str(tmp_path / "run"), trainable=half(Counted), **{how: True}).fit()
    session = load_session(tmp_path / "run")
    rows = {row["trial_id"]: row for row in session.report()["trials"]}
    assert not session.core.budget.committed > session.core.budget.spent
    trained = len((tmp_path / "steps").read_text())
    assert session.core.budget_spent * STEPS == pytest.approx(trained)
    # at most one report of each, if nothing was left
    assert trained <= 2 * STEPS + len(failed)
    if how == "resume_errored":
        assert {rows[name]["status"] for name in failed} <= {"stopped", "completed"}
    else:
        assert len(rows) == len(searcher.report()["trials"]) + len(failed)
        assert {rows[name]["status"] for name in failed} == {"failed"}
