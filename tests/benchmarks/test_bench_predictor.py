import json

import numpy as np
import pytest

from benchmarks import predictor
from benchmarks.baselines import Answer, Case, answer
from benchmarks.data import random_rows


def case(known, seen, metric="eval_loss"):
    rows = random_rows(len(known) + len(seen), np.random.default_rng(0))
    return Case(metric, rows[: len(known)], np.asarray(known), rows[len(known) :], np.asarray(seen), 0)


def test_last_value_and_mean_gain_by_hand():
    known = np.ones((3, 25))
    known[:, -1] = [0.5, 0.25, 0.5 * 0.25]  # of the value at k = 2: mean log gain is log .25
    got = case(known, [[3.0, 2.0], [5.0, 4.0]])
    np.testing.assert_allclose(answer("last", got).mean, [2, 4])
    gained = answer("last+gain", got)
    np.testing.assert_allclose(gained.mean, [0.5, 1.0])
    assert (gained.low < gained.mean).all()
    assert (gained.mean < gained.high).all()


def test_power_law_recovers_its_own_curves():
    t = np.arange(1.0, 26.0)
    curves = np.stack([1 + 2 * t**-0.5, 3 + 1 * t**-1.0])
    for k in (2, 6):
        got = answer("power-law", case(np.ones((3, 25)), curves[:, :k])).mean
        want = curves[:, -1] if k > 2 else [curves[0, -1]]
        np.testing.assert_allclose(got[: len(want)], want, rtol=0.01)


def test_scores_by_hand():
    truth, width = np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 2.0])
    got = Answer(np.array([2.0, 1.0, 4.0]), truth - [1, 1, -1], truth + width)
    scores = predictor.score(got, truth, "eval_loss")
    assert scores["rmse"] == pytest.approx(np.sqrt(2 / 3))
    assert scores["median_abs_error"] == 1
    assert scores["spearman"] == pytest.approx(0.5)
    assert scores["top1_regret"] == 1  # it picks the second, loss 2, the best is 1
    assert scores["coverage90"] == pytest.approx(2 / 3)
    assert predictor.score(got, truth, "performance")["top1_regret"] == 0
    assert np.isnan(predictor.score(Answer(truth), truth, "eval_loss")["coverage90"])


def test_splits_are_disjoint_and_nested_in_n():
    few, held = predictor.split_of(100, 5, 3)
    many, same = predictor.split_of(100, 50, 3)
    assert set(few) < set(many)
    assert not set(many) & set(held)
    assert (held == same).all()
    with pytest.raises(ValueError, match="at least 101"):
        predictor.split_of(100, 51, 0)


def test_program_writes_one_record_a_cell(tmp_path, capsys, real_tasks):
    out = tmp_path / "out.json"
    cells = ["--n-full", "5", "10", "--history", "2", "4", "--splits", "2"]
    argv = [*cells, "--methods", "jobs", "last", "last+gain", "power-law", "--tasks"]
    predictor.main([*argv, real_tasks[0].name, "--json", str(out)])
    records = json.loads(out.read_text())
    assert len(records) == 4 * 2 * 2
    at = {(r["method"], r["n_full"], r["history"]): r for r in records}
    assert at["jobs", 10, 4]["rmse"] < at["last", 10, 4]["rmse"]
    assert at["last", 5, 2]["coverage90"] is None
    assert 0.5 < at["jobs", 10, 4]["coverage90"] <= 1
    assert "rmse" in capsys.readouterr().out
