import numpy as np
import pytest

from benchmarks.data import data_folder
from benchmarks.problems import language, make, slimpajama
from benchmarks.problems.families import FAMILIES
from benchmarks.problems.layout import Choice, Layout, Number
from benchmarks.problems.regmix import leave_out_r2
from benchmarks.problems.shapes import decay
from benchmarks.problems.suite import WORST, draw, ranks, search_optimum
from benchmarks.problems.varied import VARIED
from jobs_ray import SearchSpace

LAYOUT = Layout(3, (Number("lr", 1e-4, 1e-1, log=True), Number("r", 1, 64, log=True, integer=True),
                    Number("layers", 2, 9, integer=True), Choice("opt", ("a", "b", "c"))))  # fmt: skip


def test_rows_and_configurations_are_inverse():
    rows = LAYOUT.random(200, np.random.default_rng(0))
    configs = [LAYOUT.to_config(row) for row in rows]
    np.testing.assert_allclose(LAYOUT.to_rows(configs), rows, atol=1e-12)
    assert {type(configs[0]["model"][name]) for name in ("r", "layers")} == {int}
    assert {c["model"]["layers"] for c in configs} == set(range(2, 10))
    assert {c["model"]["opt"] for c in configs} == {"a", "b", "c"}


@pytest.mark.parametrize("scope", ["all", "data", "model"])
def test_the_core_accepts_what_the_layout_makes_and_the_other_way_round(scope):
    space = SearchSpace(LAYOUT.space(scope))
    own = space.decode(space.sample(1, np.random.default_rng(0))[0])
    row = LAYOUT.to_row(own)
    np.testing.assert_allclose(LAYOUT.snap(row[None])[0], row, atol=1e-9)
    assert row[:3].sum() == pytest.approx(1)
    if scope == "all":
        space.encode(LAYOUT.to_config(row))


def test_a_side_that_is_not_there_cannot_be_searched_alone():
    with pytest.raises(ValueError, match="no mixture"):
        Layout(0, LAYOUT.model).space("data")
    with pytest.raises(ValueError, match="no model dimension"):
        Layout(4).space("model")


def test_moves_stay_valid_and_features_have_unit_variance():
    rng = np.random.default_rng(0)
    rows = LAYOUT.random(4000, rng)
    moved = LAYOUT.moves(rows, 10 ** rng.uniform(-2, 0, 4000), rng)
    np.testing.assert_allclose(LAYOUT.snap(moved), moved, atol=1e-12)
    assert np.mean(np.any(moved != rows, axis=1)) > 0.9
    spread = LAYOUT.features(rows).std(0)
    assert np.all((spread > 0.7) & (spread < 1.3))


@pytest.mark.parametrize("family", [*FAMILIES, *VARIED])
def test_every_family_is_reproducible_and_its_curves_end_at_the_final(family):
    one, two, other = draw(family, 3), draw(family, 3), draw(family, 4)
    rows = one.layout.random(100, np.random.default_rng(1))
    curves = one.curves(rows)
    assert curves.shape == (100, one.max_t)
    np.testing.assert_array_equal(curves, two.curves(rows))
    np.testing.assert_allclose(curves[:, -1], one.final(rows), atol=1e-12)
    assert np.nanmin(curves) > 0
    single = one.curves(rows[:1])
    np.testing.assert_allclose(single[0], curves[0])  # a configuration's curve does not depend on its company
    if family != "constant":
        assert not np.array_equal(curves, other.curves(rows))
        assert np.nanstd(curves[:, -1]) > 0.05
    if family != "diverging":
        assert np.isfinite(curves).all()


@pytest.mark.parametrize("family", VARIED)
def test_a_varied_problem_differs_in_what_its_name_says(family):
    factor, value = family.split("=")
    drawn, base = draw(family, 0), draw("domains=5", 0)
    layout = drawn.layout

    def what(drawn):
        domains, model = drawn.layout.domains, len(drawn.layout.model)
        return {"domains": domains, "dims": model, "reports": drawn.max_t, "noise": drawn.noise}

    here, there = what(drawn), what(base)
    expected = {"noise": float(value) * 0.15}.get(factor, int(float(value)))
    assert here.pop(factor) == pytest.approx(expected)
    if factor == "dims":
        assert layout.domains == 0
        here.pop("domains")
        there.pop("domains")
    there.pop(factor)
    assert here == there
    if factor in ("reports", "noise"):
        rows = layout.random(16, np.random.default_rng(0))
        np.testing.assert_allclose(drawn.curves(rows)[:, -1], base.curves(rows)[:, -1])


def test_decay_does_not_depend_on_the_number_of_reports():
    for reports in (25, 200):
        shape = decay(np.arange(1, reports + 1) / reports, np.array([0.3, 0.9]))
        np.testing.assert_allclose(shape[:, reports // 25 - 1], 1)
        np.testing.assert_allclose(shape[:, -1], 0, atol=1e-12)
        assert np.all(np.diff(shape) < 0)


@pytest.mark.parametrize("family", ["mixing_law3", "accuracy"])
def test_regret_is_normalised(family):
    made = make(family, 0)
    configs = [made.drawn.layout.to_config(r) for r in made.drawn.layout.random(1000, np.random.default_rng(5))]
    regrets = np.array([made.problem.regret(c) for c in configs])
    assert np.median(regrets) == pytest.approx(1, abs=0.1)
    assert regrets.min() > -1e-9
    assert regrets.max() <= WORST
    assert made.problem.regret(made.drawn.layout.to_config(made.best_row)) == pytest.approx(0, abs=1e-9)
    assert made.problem.curve(configs[0])[-1] == pytest.approx(made.check.optimum + regrets[0]
                                                               * (made.check.median - made.check.optimum))  # fmt: skip
    assert made.check.gap < 0.01


def test_the_search_finds_the_optimum_that_is_known_by_construction():
    drawn = draw("corner", 0)
    best = search_optimum(drawn, 0)
    np.testing.assert_allclose(best, drawn.known, atol=1e-3)


def test_families_are_as_hard_as_they_say():
    def early(family):
        drawn = draw(family, 0)
        return ranks(drawn, drawn.layout.random(512, np.random.default_rng(2)))

    assert early("mixing_law5")[0] > 0.6
    assert early("crossing")[0] < 0.6 < early("crossing")[2]
    assert early("deceptive")[0] < -0.2
    assert early("accuracy")[0] < 0.6
    diverging = draw("diverging", 0)
    rows = diverging.layout.random(1000, np.random.default_rng(3))
    curves = diverging.curves(rows)
    crashed = np.isnan(curves).any(1)
    assert 0.05 < crashed.mean() < 0.4
    assert np.all(np.isnan(curves[crashed, -1]))
    climbed = np.nanmax(np.diff(curves[~crashed], axis=1), axis=1) > 0.01
    assert climbed.mean() > 0.05


def test_products_leave_little_to_main_effects():
    """First-order share of the variance by the pick-freeze estimate: dimensions (the mixture is one) taken alone."""

    def share(family):
        drawn = draw(family, 0)
        rng = np.random.default_rng(0)
        k, d = drawn.layout.domains, drawn.layout.dim
        a, b = drawn.layout.random(8192, rng), drawn.layout.random(8192, rng)
        fa = drawn.final(a)
        total = 0.0
        for columns in [slice(0, k), *(slice(j, j + 1) for j in range(k, d))]:
            mixed = b.copy()
            mixed[:, columns] = a[:, columns]
            total += np.cov(fa, drawn.final(mixed))[0, 1] / fa.var()
        return total

    assert share("non_additive") < 0.4
    assert share("corner") > 0.9


@pytest.mark.parametrize(("instance", "share"), [(2, 0.5), (3, 1.0)])
def test_a_seed_moves_what_is_seen_and_not_what_is_judged(instance, share):
    made = make("seeds", instance)
    rows = made.drawn.layout.random(400, np.random.default_rng(0))
    configs = [made.drawn.layout.to_config(row) for row in rows]
    seen = np.array([made.problem.curve(config) for config in configs])
    moved = seen - made.drawn.curves(rows)
    np.testing.assert_array_equal(seen[0], made.problem.curve(configs[0]))
    ends = moved[:, -1].std() / made.drawn.final(rows).std()
    assert ends == pytest.approx(share, rel=0.25)
    assert 0.6 < np.corrcoef(moved[:, 0], moved[:, -1])[0, 1] < 0.85  # half of it is there from the start
    assert made.problem.regret(configs[int(np.argmin(made.drawn.final(rows)))]) < 0.7


def test_costs_differ_by_the_configuration_and_are_one_on_average():
    problem, drawn = make("costs", 0).problem, make("costs", 0).drawn
    rows = drawn.layout.random(2000, np.random.default_rng(0))
    rates = drawn.rate(rows)
    assert rates.mean() == pytest.approx(1, abs=0.02)
    assert 4 < rates.max() / rates.min() < 6.5
    assert problem.step_cost(drawn.layout.to_config(rows[0])) == pytest.approx(rates[0])
    assert make("constant", 0).problem.step_cost is None


def test_a_constant_metric_has_no_regret():
    made = make("constant", 0)
    assert made.problem.regret(made.drawn.layout.to_config(made.best_row)) == 0
    row = made.drawn.layout.random(1, np.random.default_rng(1))[0]
    assert made.problem.regret(made.drawn.layout.to_config(row)) == 0


def test_unknown_family():
    with pytest.raises(ValueError, match="no family 'magic'"):
        make("magic", 0)


def test_regmix_is_a_good_regression_of_the_public_runs():
    if not (data_folder(child="regmix") / "train_mixture_1m.csv").exists():
        pytest.skip(f"the RegMix tables are not in {data_folder(child='regmix')} (set JOBS_RAY_DATA)")
    assert leave_out_r2(0) > 0.9
    drawn = draw("regmix", 0)
    assert drawn.curves(drawn.layout.random(5, np.random.default_rng(0))).shape == (5, 25)


@pytest.mark.parametrize("instance", [0, 1, 6])
def test_slimpajama_is_a_good_regression_of_real_curves(instance):
    if not slimpajama.table_path().exists():
        pytest.skip(f"there is no {slimpajama.table_path()} (set JOBS_RAY_DATA)")
    assert slimpajama.leave_out_r2(instance) > 0.85
    W, logs, curves = slimpajama.fitted(instance, None)
    assert W.shape[1] == 7
    assert np.ptp(W.sum(axis=1)) < 1e-9
    off = np.abs(curves(slimpajama.features(W)) - np.exp(logs)) / np.exp(logs[:, -1]).std()
    assert np.median(off) < 0.2
    drawn = draw("slimpajama", instance)
    rows = drawn.layout.random(20, np.random.default_rng(0))
    assert np.all(np.diff(drawn.curves(rows), axis=1) < 0.01)  # losses fall
    np.testing.assert_array_equal(drawn.curves(rows)[:, -1], drawn.final(rows))


def test_slimpajama_wants_another_size_and_other_losses_in_each_instance():
    wanted = [slimpajama.wanted(i) for i in range(8)]
    assert [size for size, _ in wanted] == list(slimpajama.SIZES) * 2
    assert len({weights.tobytes() for _, weights in wanted[4:]}) == 4
    assert all(weights.sum() == pytest.approx(1.0) for _, weights in wanted)


@pytest.mark.parametrize("instance", [0, 1])
def test_language_is_a_good_regression_of_real_curves(instance):
    assert language.leave_out_r2(instance) > 0.9
    rows, curves = language.load()
    assert rows.shape == (99, 7)
    assert curves.shape == (99, 2, 20)
    np.testing.assert_allclose(language.LAYOUT.snap(rows), rows, atol=1e-9)  # all are in the demo's space
    drawn = draw("language", instance)
    spread = curves[:, :, -1].mean(axis=1).std()
    assert np.median(np.abs(drawn.final(rows) - curves[:, :, -1].mean(axis=1))) < 0.15 * spread
    assert drawn.luck == pytest.approx((curves[:, 0, -1] - curves[:, 1, -1]).std() / np.sqrt(2), rel=0.3)
    np.testing.assert_array_equal(drawn.curves(rows)[:, -1], drawn.final(rows))


def test_another_instance_of_language_is_regressed_on_other_runs():
    rows = language.LAYOUT.random(20, np.random.default_rng(0))
    assert np.ptp([draw("language", i).final(rows) for i in range(3)], axis=0).max() > 0.02


@pytest.mark.parametrize("family", ["regmix", "slimpajama"])
def test_a_family_of_public_runs_says_what_is_missing(tmp_path, family):
    with pytest.raises(FileNotFoundError, match="--data"):
        draw(family, 0, str(tmp_path))
