import numpy as np
import pytest

from benchmarks import gp
from benchmarks.data import random_rows, to_config, to_rows
from benchmarks.emulator import accuracy, build, describe, fit_model, search_optimum


@pytest.fixture(scope="module")
def emulators(tasks):
    return build(tasks, "eval_loss", cache=False, check=False)[0]


def test_gp_gradient_matches_finite_differences():
    rng = np.random.default_rng(0)
    Z, y, g = rng.normal(size=(12, 3)), rng.normal(size=12), np.repeat([0, 1], 6)
    theta = np.array([-0.3, -1.0, -2.0, -1.5, 0.2, 0.6, 1.0])
    _, gradient = gp.negative_log_posterior(theta, Z, g, y, True)
    for i in range(len(theta)):
        e = np.zeros_like(theta)
        e[i] = 1e-5
        up, down = (gp.negative_log_posterior(theta + s * e, Z, g, y, True)[0] for s in (1, -1))
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-6)


def test_gp_interpolates_and_is_unsure_far_away():
    Z = np.linspace(-2, 2, 9)[:, None]
    model = gp.fit(Z, np.zeros(9, dtype=int), np.sin(Z[:, 0]), own=False)
    np.testing.assert_allclose(model.mean(np.array([[0.25]]), 0), np.sin(0.25), atol=0.05)
    near, far = model.sd(np.array([[0.0], [8.0]]))
    assert far > 3 * near


def test_curves_are_deterministic_and_single_equals_batch(tasks, emulators):
    configs = [to_config(r) for r in random_rows(5, np.random.default_rng(3))]
    batch = emulators[0].curves(configs)
    assert batch.shape == (5, 25)
    np.testing.assert_allclose(np.stack([emulators[0].curve(c) for c in configs]), batch, rtol=1e-10)
    again = fit_model(tasks, "eval_loss")
    np.testing.assert_array_equal(again.curves(to_rows(configs), 0), batch)
    np.testing.assert_array_equal(search_optimum(again, 0), emulators[0].best_row)


def test_leave_out_accuracy_is_high_where_curves_follow_the_configuration(tasks):
    records = accuracy(tasks, "eval_loss")
    assert [r["task"] for r in records] == ["one", "two"]
    assert all(r["r2@25"] > 0.9 and r["spearman@25"] > 0.9 for r in records)
    assert "POOR" not in describe(records)
    assert "POOR: it explains only 30%" in describe([{**records[0], "r2@25": 0.3}])


def test_normalisation(tasks, emulators):
    emulator = emulators[0]
    best = to_config(emulator.best_row)
    assert emulator.regret(best) == pytest.approx(0, abs=1e-9)
    configs = [to_config(r) for r in random_rows(2000, np.random.default_rng(5))]
    finals = emulator.curves(configs)[:, -1]
    regrets = (finals - emulator.optimum) / (emulator.median - emulator.optimum)
    assert np.median(regrets) == pytest.approx(1, abs=0.05)
    assert regrets.min() > 0  # the searched optimum beats 2,000 random ones
    assert emulator.regret(configs[0]) == pytest.approx(regrets[0])


def test_optimum_finds_the_known_corner(emulators):
    row = emulators[0].best_row  # the synthetic loss falls with domain 0 and layers, rises with rank
    assert row[0] > 0.8
    assert row[15] <= 2
    assert row[9] >= 28


def test_accuracy_is_maximised(tasks):
    model = fit_model(tasks, "performance")
    best = search_optimum(model, 0, samples=500)
    some = model.curves(random_rows(500, np.random.default_rng(6)), 0)[:, -1]
    assert model.curves(best[None], 0)[0, -1] >= some.max()


def test_no_flag_at_all_is_no_better_than_the_worst_single_flag(emulators):
    rows = random_rows(4, np.random.default_rng(7))
    rows[:, 10:15] = 0
    got = emulators[0].model.curves(rows, 0)
    for i in range(4):
        singles = np.repeat(rows[i : i + 1], 5, axis=0)
        singles[:, 10:15] = np.eye(5)
        assert (got[i] >= emulators[0].model.curves(singles, 0).max(0)).all()


def test_cache_gives_the_same_emulator(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.emulator.CACHE", tmp_path / "cache")
    first, saved = build(tasks[:1], "eval_loss")
    second, loaded = build(tasks[:1], "eval_loss")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    config = to_config(tasks[0].rows[0])
    np.testing.assert_allclose(first[0].curve(config), second[0].curve(config), rtol=1e-10)
    assert first[0].optimum == pytest.approx(second[0].optimum)
    assert saved == loaded


def test_emulator_of_the_real_tables_is_good_on_loss(real_tasks):
    records = accuracy(real_tasks, "eval_loss", folds=2)
    assert np.mean([r["r2@25"] for r in records]) > 0.8
    for r in records:  # curves cross as the real ones do
        np.testing.assert_allclose(r["rank_real"], r["rank_emulated"], atol=0.12)
