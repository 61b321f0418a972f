"""The comparison on a language model: its ledger, its table, and a small one whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("optuna")

from properties import examples

from benchmarks import lm_compare
from benchmarks.lm_budget import Account, OnSimplex, off_simplex
from benchmarks.lm_table import table

FULL, INTERVAL = 20, 5


def _begin(account: Account, name: str) -> None:
    account.running.append(name)


def _report(account: Account, name: str, step: int, value: float = 1.0) -> bool:
    return account(name, {"config": {"lr": 1.0}, "step": step, "eval_loss": value})


def _end(account: Account, name: str) -> None:
    account.on_trial_complete(0, [], SimpleNamespace(trial_id=name))


@examples(100)
@given(
    budget=st.integers(4, 40).map(lambda n: n * INTERVAL),
    least=st.sampled_from([INTERVAL, 2 * INTERVAL, FULL]),
    parallel=st.integers(1, 3),
    stops=st.lists(st.integers(1, FULL // INTERVAL), min_size=60, max_size=60),
)
def test_a_budget_is_never_overspent_and_is_used_up(budget: int, least: int, parallel: int, stops: list[int]) -> None:
    """`stops`: after so many reports a scheduler stops each trial by itself."""
    account, begun, cut = Account(budget, FULL, INTERVAL, least), 0, []
    while True:
        while len(account.running) < parallel and account.admits():
            _begin(account, str(begun))
            begun += 1
        if not account.running:
            break
        for name in list(account.running):
            reports = len(account.curves.get(name, ())) + 1
            stopped = _report(account, name, reports * INTERVAL)
            if stopped and reports < stops[int(name) % 60]:
                cut.append(name)
            if stopped or reports == stops[int(name) % 60]:
                _end(account, name)
    assert account.spent <= budget
    assert account.spent > budget - least
    if least == FULL:
        assert not cut


def test_running_trials_are_owed_their_full_run_the_older_first() -> None:
    account = Account(30, FULL, INTERVAL, INTERVAL)
    for name in "ab":
        _begin(account, name)
    assert not account.admits()
    assert not _report(account, "a", 5)
    assert not _report(account, "b", 5), "5 of the 10 beyond what a is owed"
    assert _report(account, "b", 10)
    _end(account, "b")
    assert not any(_report(account, "a", step) for step in (10, 15))
    assert account.spent == 25


def test_the_best_is_a_full_run_where_there_is_one() -> None:
    account = Account(100, FULL, INTERVAL, INTERVAL)
    assert account.best() is None
    _report(account, "short", 5, 0.1)
    assert account.best() == ({"lr": 1.0}, 0.1)
    for step in (5, 10, 15, 20):
        _report(account, "long", step, 3.0 / step)
    _report(account, "diverged", 20, float("nan"))
    assert account.best() == ({"lr": 1.0}, 3.0 / 20)


def test_a_searcher_off_the_simplex_gets_onto_it() -> None:
    class Searcher:
        def suggest(self, trial_id: str) -> Any:
            return {"lr": 1.0, "mixture": {"a": float(np.exp(-1.0)), "b": float(np.exp(-3.0))}} if trial_id else None

    class Both(OnSimplex, Searcher):
        pass

    assert set(off_simplex({"lr": 1.0, "mixture": None}, ("a", "b"))["mixture"]) == {"a", "b"}
    assert Both().suggest("") is None
    suggested = Both().suggest("t")
    assert suggested["lr"] == 1.0
    assert suggested["mixture"] == pytest.approx({"a": 0.25, "b": 0.75})


def test_the_table_counts_wins_over_shared_seeds() -> None:
    def of(method: str, *losses: float) -> list[dict[str, Any]]:
        return [{"method": method, "seed": seed, "test_loss": loss} for seed, loss in enumerate(losses)]

    lines = table([*of("jobs", 1.0, 2.0), *of("asha", 2.0, 1.0, 3.0)]).splitlines()
    assert lines[2:4] == [
        "| jobs | 1.500 ± 0.500 | 1.000 | 2.000 |  | 1.5 |  |",
        "| asha | 2.000 ± 0.577 | 2.000 | 1.000 | 3.000 | 1.5 | 1 of 2 |",
    ]
    assert table([]) == "no results"


def test_a_mean_over_fewer_seeds_comes_before_nothing() -> None:
    """Its only seed was an easy one, and lost."""
    rows = [{"method": "jobs", "seed": seed, "test_loss": loss} for seed, loss in enumerate([5.0, 6.0])]
    lines = table([*rows, {"method": "asha", "seed": 0, "test_loss": 5.1}]).splitlines()
    assert [line.split()[1] for line in lines[2:4]] == ["jobs", "asha"]


def test_what_was_cut_short_is_done_again_and_the_last_of_a_key_counts(tmp_path: Path) -> None:
    def line(seed: int, loss: float, size: str = "full") -> str:
        record = {"method": "jobs", "seed": seed, "size": size, "budget": 10.0, "test_loss": loss}
        return json.dumps(record)

    path = tmp_path / "results.jsonl"
    path.write_text("\n".join([line(0, 3.0), line(0, 2.0), line(1, 1.0, "tiny"), line(2, 9.0)[:30]]))
    assert [(r["seed"], r["test_loss"]) for r in lm_compare.read(path, "full", 10.0)] == [(0, 2.0)]


@pytest.mark.slow
def test_a_small_comparison_runs_whole_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_compare, "_FINALS", 1)
    before = dict(os.environ)
    args = ["--size", "tiny", "--seeds", "0:1", "--out", str(tmp_path), "--methods"]
    lm_compare.main([*args, "jobs,default"])
    lm_compare.main([*args, "jobs,optuna-asha"])
    out = capsys.readouterr().out
    assert "2 searches, 1 to do" in out
    assert os.environ.get("RAY_AIR_NEW_OUTPUT") == before.get("RAY_AIR_NEW_OUTPUT"), "what runs later prints as it did"
    records = {r["method"]: r for r in lm_compare.read(tmp_path / "results.jsonl", "tiny", 2.0)}
    assert set(records) == {"default", "jobs", "optuna-asha"}
    for method in ("jobs", "optuna-asha"):
        assert 1.0 < records[method]["spent"] <= 2.0
        assert sum(records[method]["config"]["mixture"].values()) == pytest.approx(1.0, abs=1e-6)
    assert all(2.0 < r["test_loss"] < 12.0 for r in records.values())
    assert len({tuple(r["finals"]) for r in records.values()}) == 1, "the same seeds for all"
