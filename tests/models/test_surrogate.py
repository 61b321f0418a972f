"""One GP holds confirmed finals and predictions: noise counts, pending points, bounded cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs_ray.models.surrogate import fit_surrogate
from jobs_ray.models.training_points import MAX_POINTS, informative, winsorised


def problem(n: int, seed: int = 0, p: int = 3) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    F = rng.standard_normal((n, p))
    return F, -((F[:, 0] - 0.5) ** 2) + 0.3 * F[:, 1]


def test_it_learns_the_function_and_knows_where_it_does_not() -> None:
    F, z = problem(60)
    surrogate = fit_surrogate(F, z, np.zeros(60))
    new, truth = problem(40, seed=1)
    mean, stddev = surrogate.posterior(new)
    assert np.corrcoef(mean, truth)[0, 1] > 0.9
    at_data = surrogate.posterior(F)[1]
    assert surrogate.posterior(np.full((1, 3), 50.0))[1][0] > 3 * at_data.max()
    assert np.all(stddev > 0)


def test_confirmed_values_are_met_and_vague_predictions_are_not_believed() -> None:
    F, z = problem(30)
    exact = fit_surrogate(F, z, np.zeros(30))
    kept = z > np.median(z) - 2.0 * (z.max() - np.median(z))  # what is not pulled in as an outlier
    np.testing.assert_allclose(exact.posterior(F)[0][kept], z[kept], atol=0.2 * z.std())
    wrong, noise = z.copy(), np.full(30, 1e-6)
    wrong[7], noise[7] = z.max() + 3.0, 100.0
    vague = fit_surrogate(F, wrong, noise)
    assert abs(vague.posterior(F[7:8])[0][0] - z[7]) < abs(vague.posterior(F[7:8])[0][0] - wrong[7])


def test_more_noise_means_more_uncertainty() -> None:
    F, z = problem(20)
    spread = [float(fit_surrogate(F, z, np.full(20, v)).posterior(F)[1].mean()) for v in (1e-6, 0.05, 1.0)]
    assert spread[0] < spread[1] < spread[2]


def test_pending_points_take_away_uncertainty_and_leave_the_mean() -> None:
    F, z = problem(25)
    surrogate = fit_surrogate(F, z, np.zeros(25))
    pending = np.array([[1.5, -1.0, 0.5], [-2.0, 1.0, 1.0]])
    mean, stddev = surrogate.posterior(pending)
    later_mean, later_stddev = surrogate.with_pending(pending).posterior(pending)
    np.testing.assert_allclose(later_mean, mean, atol=0.05 * z.std())
    assert np.all(later_stddev < 0.5 * stddev)
    assert surrogate.with_pending(F[:0]) is surrogate
    np.testing.assert_array_equal(surrogate.posterior(pending)[1], stddev)


def test_many_pending_points_at_one_place_do_no_harm() -> None:
    F, z = problem(10)
    crowded = fit_surrogate(F, z, np.zeros(10)).with_pending(np.zeros((256, 3)))
    mean, stddev = crowded.posterior(F)
    assert np.all(np.isfinite(mean))
    assert np.all(np.isfinite(stddev))


def test_one_diverged_run_does_not_hide_how_the_others_differ() -> None:
    F, z = problem(30)
    diverged = z.copy()
    diverged[3] = -1e9
    mean = fit_surrogate(F, winsorised(diverged), np.zeros(30)).posterior(F)[0]
    others = np.arange(30) != 3
    assert np.corrcoef(mean[others], z[others])[0, 1] > 0.8
    assert mean[3] < np.median(z)


@pytest.mark.parametrize(
    ("F", "z", "noise"),
    [
        (np.zeros((1, 2)), [1.0], [0.0]),
        (np.zeros((5, 2)), [1.0] * 5, [0.0] * 5),
        (np.zeros((4, 2)), [1.0, 2.0, 3.0, 4.0], [0.0] * 4),
        (np.eye(3), [1e-30, 2e-30, 3e-30], [0.0] * 3),
        (np.eye(3), [1e8, 1e8 + 1, 1e8 + 2], [1e-9] * 3),
        (np.eye(3), [-1e60, 0.0, 1e60], [0.0, 1e100, 0.0]),
    ],
    ids=["one", "constant", "one place", "tiny", "far from zero", "huge"],
)
def test_degenerate_data_give_a_finite_posterior(F: Any, z: list[float], noise: list[float]) -> None:
    mean, stddev = fit_surrogate(F, winsorised(np.array(z)), np.array(noise)).posterior(np.vstack([F, F + 0.5]))
    assert np.all(np.isfinite(mean))
    assert np.all(np.isfinite(stddev))


def test_data_that_do_not_fit_are_refused() -> None:
    F, z = problem(5)
    good = np.zeros(5)
    with pytest.raises(ValueError, match="as many rows"):
        fit_surrogate(F[:4], z, good)
    with pytest.raises(ValueError, match="as many rows"):
        fit_surrogate(F[:0], z[:0], good[:0])
    with pytest.raises(ValueError, match="finite"):
        fit_surrogate(F * np.nan, z, good)
    with pytest.raises(ValueError, match=">= 0"):
        fit_surrogate(F, z, good - 1)


def test_the_best_and_the_newest_points_survive_when_there_are_too_many() -> None:
    _, z = problem(2 * MAX_POINTS)
    rows = informative(z).tolist()
    assert len(rows) == MAX_POINTS
    assert rows == sorted(set(rows))
    assert {*np.argsort(-z)[:20].tolist(), *range(2 * MAX_POINTS - 20, 2 * MAX_POINTS)} <= set(rows)
    assert informative(z[:MAX_POINTS]).tolist() == list(range(MAX_POINTS))


def test_fitting_changes_nothing_of_the_caller_and_is_deterministic() -> None:
    F, z = problem(12)
    noise = np.full(12, 0.1)
    copies = F.copy(), z.copy(), noise.copy()
    one, two = fit_surrogate(F, z, noise), fit_surrogate(F, z, noise)
    np.testing.assert_array_equal(one.posterior(F)[0], two.posterior(F)[0])
    for array, copy in zip((F, z, noise), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_hyperparameters_are_fitted_on_a_schedule_of_the_trials_and_do_not_depend_on_the_cache() -> None:
    """The same answer with every fit remembered, with none, and after a restore in the middle."""
    F, z = problem(40)
    noise, fits = np.full(40, 0.01), {}  # type: ignore[var-annotated]
    for n in range(1, 41):
        remembered = fit_surrogate(F[:n], z[:n], noise[:n], fits=fits)
        anew = fit_surrogate(F[:n], z[:n], noise[:n])
        np.testing.assert_array_equal(remembered.posterior(F)[0], anew.posterior(F)[0])
    assert 10 < len(fits) < 25
