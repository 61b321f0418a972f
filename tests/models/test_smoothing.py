"""Denoised curves: the noise is found where there is some, and a curve without it stays as it was reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from jobs_ray.models.smoothing import Denoiser, Smoothing, _quartiles, fit_smoothing
from jobs_ray.trials import LearningCurve, Phase, Trial

TIMES = np.arange(1.0, 26.0)


def curve(values: Any) -> LearningCurve:
    return LearningCurve(tuple(TIMES[: len(values)].tolist()), tuple(float(v) for v in values))


def losses(n: int, noise: float, seed: int = 0) -> list[LearningCurve]:
    """Maximised: power laws to finals of sd .15; every third run is a full one, the others have four reports."""
    rng = np.random.default_rng(seed)
    finals, amplitudes = rng.normal(-2.5, 0.15, n), rng.uniform(0.6, 1.0, n)
    values = finals[:, None] - amplitudes[:, None] * (TIMES**-0.5 - 0.2) + noise * rng.normal(size=(n, 25))
    return [curve(row if i % 3 == 0 else row[:4]) for i, row in enumerate(values)]


def accuracies(n: int, noise: float, seed: int = 0) -> list[LearningCurve]:
    """From chance level up to finals of sd .1."""
    rng = np.random.default_rng(seed)
    finals, onset = rng.normal(0.6, 0.1, n), rng.uniform(6, 12, n)
    rise = 1.0 / (1.0 + np.exp(-(TIMES - onset[:, None]) / 1.5))
    return [curve(row) for row in 0.25 + (finals[:, None] - 0.25) * rise + noise * rng.normal(size=(n, 25))]


def trial(name: str, curve: LearningCurve, **kwargs: Any) -> Trial:
    return Trial(name, {}, (), Phase.SEARCH, 25.0, curve=curve, **kwargs)


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_losses_with_hardly_any_noise_stay_what_was_reported(noise: float) -> None:
    curves = losses(24, noise)
    smoothing = fit_smoothing(curves)
    assert not smoothing
    assert all(smoothing.apply(c) is c for c in curves)
    assert smoothing.variance(25) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_the_noise_of_an_accuracy_is_found_and_mostly_removed(seed: int) -> None:
    noisy, clean = accuracies(8, 0.04, seed), accuracies(8, 0.0, seed)
    smoothing = fit_smoothing(noisy)
    one = smoothing.variances[-1] * (2.0 - smoothing.weights[-1]) / smoothing.weights[-1]
    assert np.sqrt(one) == pytest.approx(0.04, rel=0.4)
    # the same draws give the same finals, but the noise-free ones have not drawn the noise: compare with their level
    finals = np.array([c.value[-1] for c in clean])
    before = np.array([c.value[-1] for c in noisy]) - finals
    after = np.array([smoothing.apply(c).value[-1] for c in noisy]) - finals
    assert np.sqrt(np.mean(after**2)) < 0.75 * np.sqrt(np.mean(before**2))


def test_a_few_reports_or_runs_say_nothing_of_the_noise() -> None:
    noisy = accuracies(8, 0.04)
    assert not fit_smoothing([])
    assert not fit_smoothing(noisy[:2])
    assert not fit_smoothing([curve(c.value[:2]) for c in noisy])


@pytest.mark.parametrize("irregular", [0, 1, 2])
def test_one_irregular_run_is_no_noise_of_the_others(irregular: int) -> None:
    """Of three full runs one trains its first step twice. Finals of .073, .071, .1625 became .0945, .0603, .1518."""
    finals = (0.0016, 0.0085, 0.1)
    curves = [
        curve([-(final + 0.5 / max(t - (i == irregular), 1.0)) for t in range(1, 9)]) for i, final in enumerate(finals)
    ]
    assert not fit_smoothing(curves)
    assert not fit_smoothing([*curves, curve([-0.9, -0.65, -0.55])])


def test_what_all_runs_have_in_common_is_not_averaged() -> None:
    """An average of a falling curve lags behind it; the drift is taken out first."""
    smoothing = Smoothing(tuple(TIMES[:5].tolist()), (0.2,) * 5, (0.1,) * 5, (0.0, 1.0, 3.0, 4.0, 4.5))
    moved = curve(np.array(smoothing.drift) + 7.0)
    np.testing.assert_allclose(smoothing.apply(moved).value, moved.value)
    seldom = LearningCurve(moved.t[1::2], moved.value[1::2])  # nor of a run that reports at other times
    np.testing.assert_allclose(smoothing.apply(seldom).value, seldom.value)


def test_an_average_is_the_exponential_one() -> None:
    smoothing = Smoothing((1.0, 2.0, 3.0), (1.0, 0.5, 0.25), (0.0,) * 3, (0.0,) * 3)
    averaged = smoothing.apply(curve([1.0, 2.0, 4.0, 9.0]))
    expected = (1.0, (0.5 * 1 + 2) / 1.5, (0.5625 * 1 + 0.75 * 2 + 4) / 2.3125, 9.0)  # nothing is known of the fourth
    np.testing.assert_allclose(averaged.value, expected)
    assert averaged.t == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("every", [2, 3])
def test_runs_that_report_at_other_times_are_not_averaged_report_by_report(every: int) -> None:
    """Half of them: of every run the last value stays. A few of many: they get no worse and no better than they are."""
    rng = np.random.default_rng(0)
    finals = 0.6 + 0.02 * rng.random(40)
    Y = finals[:, None] - 0.3 * (1.0 - TIMES / 25.0) + 0.02 * rng.standard_normal((40, 25))

    def thinned(which: Any) -> list[LearningCurve]:
        whole = [curve(row) for row in Y]
        at = slice(every - 1, None, every)
        return [LearningCurve(c.t[at], c.value[at]) if which(i) else c for i, c in enumerate(whole)]

    assert not fit_smoothing(thinned(lambda i: i % 2))
    curves = thinned(lambda i: i % 4 == 3)
    smoothing = fit_smoothing(curves)
    assert smoothing
    finals += 0.3 * (np.array([c.t[-1] for c in curves]) / 25.0 - 1.0)
    bias = np.array([smoothing.apply(c).value[-1] for c in curves]) - finals
    assert abs(bias[3::4].mean()) < 0.01
    assert np.abs(bias).mean() < 0.01


def test_times_in_seconds_are_averaged_too() -> None:
    """Of machines that differ by a tenth."""
    rng = np.random.default_rng(1)
    finals = 0.6 + 0.05 * rng.random(20)
    Y = finals[:, None] - 0.3 * np.exp(-TIMES / 6.0) + 0.04 * rng.standard_normal((20, 25))
    curves = [
        LearningCurve(tuple((TIMES * speed).tolist()), tuple(row))
        for speed, row in zip(1.0 + 0.1 * rng.standard_normal(20), Y.tolist(), strict=True)
    ]
    smoothing = fit_smoothing(curves)
    errors = [np.array([c.value[-1] for c in cs]) - finals for cs in (curves, [smoothing.apply(c) for c in curves])]
    before, after = (np.sqrt(np.mean(error**2)) for error in errors)
    assert after < 0.6 * before


def test_a_report_that_was_lost_moves_nothing() -> None:
    """What the run has in common with all others is taken out at the times of its reports, not at their numbers."""
    smoothing = Smoothing(tuple(TIMES.tolist()), (0.2,) * 25, (0.1,) * 25, tuple((0.3 * TIMES / 25.0).tolist()))
    whole = curve(0.3 + 0.3 * TIMES / 25.0)
    lost = LearningCurve(whole.t[:2] + whole.t[5:], whole.value[:2] + whole.value[5:])
    np.testing.assert_allclose(smoothing.apply(lost).value, lost.value)


@examples(30)
@given(factor=st.floats(0.01, 100.0), shift=st.floats(-100.0, 100.0), seed=st.integers(0, 5))
def test_the_unit_of_the_metric_does_not_matter(factor: float, shift: float, seed: int) -> None:
    curves = accuracies(6, 0.05, seed)
    first = fit_smoothing(curves)
    other = fit_smoothing([curve(factor * np.array(c.value) + shift) for c in curves])
    np.testing.assert_allclose(other.weights, first.weights, atol=0.0101)
    np.testing.assert_allclose(other.variances, factor**2 * np.array(first.variances), rtol=0.05)


@examples(100)
@given(rows=st.lists(st.lists(st.floats(-1e3, 1e3), min_size=0, max_size=8), max_size=8))
def test_any_curves_give_finite_averages_within_their_range(rows: list[list[float]]) -> None:
    curves = [curve(row) for row in rows]
    smoothing = fit_smoothing(curves)
    for before in curves:
        after = smoothing.apply(before)
        assert after.t == before.t
        assert np.all(np.isfinite(after.value))
    assert all(0.0 < w <= 1.0 for w in smoothing.weights)
    assert all(v >= 0.0 for v in smoothing.variances)


def test_the_denoiser_gives_what_a_fresh_one_gives_and_keeps_what_did_not_change() -> None:
    curves = accuracies(8, 0.04)
    trials = [trial(f"t{i}", c) for i, c in enumerate(curves[:6])]
    denoiser = Denoiser()
    first = denoiser(trials)
    assert all(a is b for a, b in zip(first, denoiser(trials), strict=True))
    later = [*trials, trial("t6", curves[6])]
    assert denoiser(later) == Denoiser()(later)
    twin = denoiser.copy()
    twin([*later, trial("t7", curves[7])])
    assert denoiser(later) == Denoiser()(later)


def test_a_run_that_resumes_another_is_counted_once() -> None:
    curves = accuracies(5, 0.04)
    short = trial("short", curves[0].up_to(6.0))
    rest = [trial(f"t{i}", c) for i, c in enumerate(curves[1:])]
    promoted = trial("promoted", curves[0], promotes="short")
    with_both, without = Denoiser(), Denoiser()
    with_both([short, *rest, promoted])
    without([*rest, promoted])
    assert with_both.fitted == without.fitted


def test_as_fitted_nothing_is_fitted() -> None:
    curves = accuracies(8, 0.04)
    denoiser = Denoiser()
    denoiser([trial(f"t{i}", c) for i, c in enumerate(curves[:5])])
    before = denoiser.fitted
    averaged = denoiser([trial(f"t{i}", c) for i, c in enumerate(curves)], fit=False)
    assert denoiser.fitted == before
    assert averaged[7].curve == before.apply(curves[7])


@examples(100)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(1, 30))
def test_quartiles_are_those_of_numpy_to_the_last_bit(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    Y = np.round(rng.standard_normal((n, m)), int(rng.integers(0, 9)))  # ties, too
    for row in Y[1:]:
        row[rng.integers(0, m + 1) :] = np.nan
    low, high = np.nanpercentile(Y, [25, 75], axis=0)
    found = _quartiles(Y)
    np.testing.assert_array_equal(found[0], low)
    np.testing.assert_array_equal(found[1], high)
