"""What every predictor must do, and that ours is accurate and calibrated on curves whose law is known."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs_ray.models.prediction import LastValuePredictor, Prediction, Predictor
from jobs_ray.models.predictor import MIN_FULL, ScalingLawPredictor
from jobs_ray.trials import LearningCurve

MAX_T = 25.0
PREDICTORS: list[Predictor] = [ScalingLawPredictor(), LastValuePredictor()]
every_predictor = pytest.mark.parametrize("predictor", PREDICTORS, ids=lambda p: type(p).__name__)
every_metric = pytest.mark.parametrize("metric", ["loss", "accuracy"])


def runs(n: int, seed: int, metric: str = "loss", noise: float = 0.01) -> tuple[Any, list[LearningCurve]]:
    """`n x 4` features and whole curves at t = 1 ... 25, maximised: a falling loss (negated) or a rising accuracy.

    Level and speed depend on the features; `noise` is the sd of each evaluation (in log loss, or of the accuracy).
    """
    rng = np.random.default_rng(seed)
    F = rng.standard_normal((n, 4))
    t = np.arange(1.0, MAX_T + 1)
    level = 0.2 * F[:, :1] + 0.1 * np.sin(2 * F[:, 1:2])
    left = np.exp(0.4 * F[:, 2:3]) * t**-0.7
    if metric == "loss":
        values = -np.exp(level + left + noise * rng.standard_normal((n, len(t))))
    else:
        values = 1.0 / (1.0 + np.exp(-level + left)) + noise * rng.standard_normal((n, len(t)))
    return F, [LearningCurve(tuple(t.tolist()), tuple(row)) for row in values.tolist()]


def finals(curves: Sequence[LearningCurve]) -> Any:
    return np.array([curve.value[-1] for curve in curves])


def cut(curves: Sequence[LearningCurve], t: float) -> list[LearningCurve]:
    return [curve.up_to(t) for curve in curves]


# -- the protocol -----------------------------------------------------------------------------------------------------


@every_predictor
@every_metric
@pytest.mark.parametrize("n", [MIN_FULL, 4, 7, 20])
def test_it_predicts_finite_numbers_for_prefixes_of_any_length(predictor: Predictor, metric: str, n: int) -> None:
    F, curves = runs(n, 0, metric)
    new_F, new = runs(6, 1, metric)
    prefixes = [curve.up_to(t) for curve, t in zip(new, (0.0, 1.0, 2.0, 4.0, 13.0, 25.0), strict=True)]
    prediction = predictor.fit(F, curves, MAX_T).predict(new_F, prefixes)
    assert prediction.mean.shape == prediction.stddev.shape == (6,)
    assert np.all(np.isfinite(prediction.mean))
    assert np.all(np.isfinite(prediction.stddev))
    assert np.all(prediction.stddev >= 0)


@every_predictor
def test_fitting_and_predicting_change_neither_data_nor_settings(predictor: Predictor) -> None:
    F, curves = runs(8, 0)
    before, settings = F.copy(), repr(predictor)
    first = predictor.fit(F, curves, MAX_T)
    prefixes = cut(curves, 3.0)
    one, two = first.predict(F, prefixes), predictor.fit(F, curves, MAX_T).predict(F, prefixes)
    np.testing.assert_array_equal(F, before)
    assert repr(predictor) == settings
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.stddev, two.stddev)


@every_predictor
def test_a_prediction_is_of_its_own_row_only(predictor: Predictor) -> None:
    """All at once or one by one, in any order, after other lengths or not: the same numbers."""
    F, curves = runs(10, 0)
    new_F, new = runs(6, 1)
    prefixes = [curve.up_to(t) for curve, t in zip(new, (2.0, 4.0, 2.0, 7.0, 1.0, 4.0), strict=True)]
    together = predictor.fit(F, curves, MAX_T).predict(new_F, prefixes)
    fitted = predictor.fit(F, curves, MAX_T)
    for i in (5, 3, 0, 4, 1, 2):
        alone = fitted.predict(new_F[i : i + 1], [prefixes[i]])
        np.testing.assert_allclose(alone.mean, together.mean[i : i + 1], rtol=1e-9)
        np.testing.assert_allclose(alone.stddev, together.stddev[i : i + 1], rtol=1e-9)


@every_predictor
def test_nothing_to_predict_is_an_empty_prediction(predictor: Predictor) -> None:
    F, curves = runs(5, 0)
    assert predictor.fit(F, curves, MAX_T).predict(F[:0], []).mean.shape == (0,)


@every_predictor
@every_metric
def test_a_whole_curve_predicts_itself(predictor: Predictor, metric: str) -> None:
    F, curves = runs(20, 0, metric)
    new_F, new = runs(10, 1, metric)
    prediction = predictor.fit(F, curves, MAX_T).predict(new_F, new)
    error = prediction.mean - finals(new)
    assert np.sqrt(np.mean(error**2)) < 0.2 * np.std(finals(new))


@every_predictor
def test_cross_validation_is_none_or_finite(predictor: Predictor) -> None:
    F, curves = runs(12, 0)
    fitted = predictor.fit(F, curves, MAX_T)
    for t in (1.0, 4.0, 25.0):
        quality = fitted.cross_validate(t)
        if isinstance(predictor, LastValuePredictor):
            assert quality is None
        else:
            assert quality is not None
            assert (quality.t, quality.n) == (t, 12)
            assert math.isfinite(quality.rmse)
            assert math.isfinite(quality.r2)
            assert 12 * quality.coverage == pytest.approx(round(12 * quality.coverage))  # a share of the twelve


@pytest.mark.parametrize(
    ("mean", "stddev"),
    [([1.0], [1.0, 2.0]), ([math.nan], [1.0]), ([1.0], [-1.0]), ([1.0], [math.inf]), ([[1.0]], [[1.0]])],
)
def test_a_prediction_that_is_none_is_refused(mean: Any, stddev: Any) -> None:
    with pytest.raises(ValueError, match="mean"):
        Prediction(np.array(mean), np.array(stddev))


@pytest.mark.parametrize("dof", [math.inf, 7.0])
def test_the_interval_holds_its_share_of_draws(dof: float) -> None:
    """Draws of the distribution itself, scaled to the stated standard deviation."""
    rng = np.random.default_rng(0)
    draws = rng.standard_normal(20000) if math.isinf(dof) else rng.standard_t(dof, 20000) * math.sqrt((dof - 2) / dof)
    low, high = Prediction(np.array([3.0]), np.array([2.0]), dof).interval(0.9)
    inside = np.mean((low <= 3.0 + 2.0 * draws) & (3.0 + 2.0 * draws <= high))
    assert inside == pytest.approx(0.9, abs=0.01)
    assert (low + high) / 2 == pytest.approx(3.0)


# -- ours -------------------------------------------------------------------------------------------------------------


def test_too_little_or_broken_data_is_refused_with_a_reason() -> None:
    F, curves = runs(5, 0)
    predictor = ScalingLawPredictor()
    with pytest.raises(ValueError, match="3 full runs"):
        predictor.fit(F[:2], curves[:2], MAX_T)
    with pytest.raises(ValueError, match="rows"):
        predictor.fit(F[:4], curves, MAX_T)
    with pytest.raises(ValueError, match="no value"):
        predictor.fit(F, [*curves[:4], LearningCurve()], MAX_T)
    with pytest.raises(ValueError, match="finite"):
        predictor.fit(F * math.nan, curves, MAX_T)
    with pytest.raises(ValueError, match="raw"):
        ScalingLawPredictor(scale="log").fit(F, runs(5, 0, "accuracy")[1], MAX_T)
    with pytest.raises(ValueError, match="scale"):
        ScalingLawPredictor(scale="sqrt").fit(F, curves, MAX_T)


def errors(metric: str, n: int, t: float, *, splits: int = 6, noise: float = 0.01) -> tuple[Any, Any, Any]:
    """Errors of ours, errors of the last value, and hits of the 90 % interval, over several draws of full runs."""
    ours, last, hits = [], [], []
    for split in range(splits):
        F, curves = runs(n, 2 * split, metric, noise)
        new_F, new = runs(60, 2 * split + 1, metric, noise)
        prediction = ScalingLawPredictor().fit(F, curves, MAX_T).predict(new_F, cut(new, t))
        low, high = prediction.interval(0.9)
        ours.append(prediction.mean - finals(new))
        last.append(np.array([c.at(t) for c in new]) - finals(new))
        hits.append((low <= finals(new)) & (finals(new) <= high))
    return np.concatenate(ours), np.concatenate(last), np.concatenate(hits)


@every_metric
@pytest.mark.parametrize("n", [5, 12, 25])
def test_it_beats_the_last_value_from_few_full_runs_on(metric: str, n: int) -> None:
    ours, last, _ = errors(metric, n, 3.0)
    assert np.sqrt(np.mean(ours**2)) < 0.75 * np.sqrt(np.mean(last**2))


@every_metric
def test_more_full_runs_and_longer_prefixes_give_smaller_errors(metric: str) -> None:
    few, many = (np.mean(errors(metric, n, 3.0)[0] ** 2) for n in (5, 30))
    assert many < few
    short, long = (np.mean(errors(metric, 12, t)[0] ** 2) for t in (1.0, 12.0))
    assert long < short


@every_metric
@pytest.mark.parametrize(("n", "t"), [(8, 2.0), (15, 4.0), (25, 4.0)])
def test_the_90_percent_interval_holds_about_90_percent(metric: str, n: int, t: float) -> None:
    _, _, hits = errors(metric, n, t, splits=8)
    assert 0.8 <= np.mean(hits) <= 0.98


@every_metric
def test_the_uncertainty_knows_what_is_easy(metric: str) -> None:
    """More of the curve: a smaller stddev. Nothing of it: the largest."""
    F, curves = runs(20, 0, metric)
    new_F, new = runs(20, 1, metric)
    fitted = ScalingLawPredictor().fit(F, curves, MAX_T)
    spread = [float(np.mean(fitted.predict(new_F, cut(new, t)).stddev)) for t in (0.0, 4.0, 20.0)]
    assert spread[0] > spread[1] > spread[2]


def test_an_empty_prefix_is_predicted_from_the_configuration() -> None:
    F, curves = runs(30, 0)
    new_F, new = runs(60, 1)
    prediction = ScalingLawPredictor().fit(F, curves, MAX_T).predict(new_F, [LearningCurve()] * 60)
    assert np.corrcoef(prediction.mean, finals(new))[0, 1] > 0.5


def test_report_times_need_not_coincide() -> None:
    """Prefixes that end between the reports of the full runs: as good as those that end on them."""
    F, curves = runs(20, 0)
    rng = np.random.default_rng(5)
    new_F, whole = runs(60, 1)
    odd = []
    for curve in whole:
        times = np.cumsum(rng.uniform(0.3, 1.2, 6))
        odd.append(LearningCurve(tuple(times.tolist()), tuple(curve.at(float(t)) for t in times)))
    fitted = ScalingLawPredictor().fit(F, curves, MAX_T)
    off = fitted.predict(new_F, odd).mean - finals(whole)
    on = fitted.predict(new_F, cut(whole, 4.0)).mean - finals(whole)
    assert np.sqrt(np.mean(off**2)) < 1.6 * np.sqrt(np.mean(on**2))


def test_full_runs_that_reported_rarely_or_at_other_times_are_used() -> None:
    F, curves = runs(20, 0)
    thinned = [
        LearningCurve(curve.t[i % 3 :: 3] + curve.t[-1:], curve.value[i % 3 :: 3] + curve.value[-1:])
        if curve.t[i % 3 :: 3][-1] < curve.t[-1]
        else LearningCurve(curve.t[i % 3 :: 3], curve.value[i % 3 :: 3])
        for i, curve in enumerate(curves)
    ]
    new_F, new = runs(60, 1)
    prediction = ScalingLawPredictor().fit(F, thinned, MAX_T).predict(new_F, cut(new, 5.0))
    last = np.array([curve.at(5.0) for curve in new])
    error = np.sqrt(np.mean((prediction.mean - finals(new)) ** 2))
    assert error < 0.75 * np.sqrt(np.mean((last - finals(new)) ** 2))


@pytest.mark.parametrize("lengths", [30, 60])
def test_any_number_of_prefix_lengths_asked_in_any_order_gives_the_same_predictions(lengths: int) -> None:
    """The fits that are kept per length are a cache: they may not show in the numbers."""
    F, curves = runs(8, 0)
    new_F, whole = runs(lengths, 1)
    rng = np.random.default_rng(0)
    prefixes = []
    for curve in whole:
        end = float(rng.uniform(1.0, 20.0))
        inner = curve.up_to(end)
        prefixes.append(LearningCurve((*inner.t, end), (*inner.value, curve.at(end))) if inner.last_t < end else inner)
    together = ScalingLawPredictor().fit(F, curves, MAX_T).predict(new_F, prefixes)
    fitted = ScalingLawPredictor().fit(F, curves, MAX_T)
    for i in reversed(range(lengths)):
        alone = fitted.predict(new_F[i : i + 1], [prefixes[i]])
        np.testing.assert_allclose(alone.mean, together.mean[i : i + 1], rtol=1e-9)
    np.testing.assert_allclose(fitted.predict(new_F, prefixes).mean, together.mean, rtol=1e-9)


def test_cross_validation_tells_the_error_on_new_runs() -> None:
    F, curves = runs(40, 0)
    quality = ScalingLawPredictor().fit(F, curves, MAX_T).cross_validate(3.0)
    ours, _, _ = errors("loss", 40, 3.0)
    assert 0.6 < quality.rmse / np.sqrt(np.mean(ours**2)) < 1.6
    assert quality.coverage > 0.7


def test_cross_validation_says_that_noise_cannot_be_predicted() -> None:
    rng = np.random.default_rng(0)
    t = tuple(np.arange(1.0, 26.0).tolist())
    curves = [LearningCurve(t, tuple(rng.standard_normal(25).tolist())) for _ in range(20)]
    assert ScalingLawPredictor().fit(rng.standard_normal((20, 3)), curves, MAX_T).cross_validate(4.0).r2 < 0.3


DEGENERATE = {
    "all the same": [LearningCurve((1.0, 25.0), (-2.0, -1.0))] * 4,
    "one report each": [LearningCurve((25.0,), (-float(i),)) for i in range(1, 5)],
    "zero loss": [LearningCurve((1.0, 25.0), (-1.0, 0.0 if i == 0 else -0.1 * i)) for i in range(4)],
    "huge spread": [LearningCurve((1.0, 25.0), (-1.0, -(10.0 ** (10 * i)))) for i in range(4)],
    "rewards of both signs": [LearningCurve((1.0, 25.0), (-5.0, 3.0 * i - 4)) for i in range(4)],
}


@every_predictor
@pytest.mark.parametrize("what", DEGENERATE)
def test_degenerate_full_runs_still_give_finite_predictions(predictor: Predictor, what: str) -> None:
    F = np.random.default_rng(0).standard_normal((4, 2))
    for features in (F, np.zeros((4, 2))):
        fitted = predictor.fit(features, DEGENERATE[what], MAX_T)
        prefixes = [
            LearningCurve(),
            LearningCurve((1.0,), (-2.0,)),
            LearningCurve((2.0,), (4.0,)),
            LearningCurve((30.0,), (-1.0,)),
        ]
        prediction = fitted.predict(features, prefixes)
        assert np.all(np.isfinite(prediction.mean))
        fitted.cross_validate(1.0)


# -- real curves ------------------------------------------------------------------------------------------------------


def real_runs(metric: str) -> list[tuple[Any, list[LearningCurve]]]:
    """Features as they stand in the tables (square roots of the mixture) and maximised curves, a pair per task."""
    root = Path(os.environ.get("JOBS_RAY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    files = sorted((root / "llama3_lora_curves").glob("*.json"))
    if not files:
        pytest.skip(f"no real curves in {root / 'llama3_lora_curves'} (set JOBS_RAY_DATA)")
    tasks = []
    for file in files:
        records = json.loads(file.read_text())
        X = np.array([record["input_X"] for record in records], dtype=float)
        X[:, :9], X[:, 15], X[:, 17] = np.sqrt(X[:, :9]), np.log2(X[:, 15]), np.log2(X[:, 17])
        sign = -1.0 if metric == "eval_loss" else 1.0
        curves = []
        for record in records:
            pairs = [(e["step"] / 25.0, sign * e[metric]) for e in record["evaluations"] if e["step"] > 0]
            curves.append(LearningCurve(*(tuple(column) for column in zip(*pairs, strict=True))))
        tasks.append(((X - X.mean(axis=0)) / X.std(axis=0), curves))
    return tasks


def predicted_real_runs(metric: str) -> Iterator[tuple[list[LearningCurve], list[LearningCurve], Prediction]]:
    """(20 full runs learned from, 50 held out, their predictions at k = 4), two splits of each task."""
    for F, curves in real_runs(metric):
        for split in range(2):
            order = np.random.default_rng(split).permutation(len(curves))
            train, test = order[:20], order[50:]
            learned, held = [curves[i] for i in train], [curves[i] for i in test]
            fitted = ScalingLawPredictor().fit(F[train], learned, MAX_T)
            yield learned, held, fitted.predict(F[test], cut(held, 4.0))


def test_on_real_losses_it_beats_the_last_value_and_is_calibrated() -> None:
    ours, last, hits = [], [], []
    for _, held, prediction in predicted_real_runs("eval_loss"):
        low, high = prediction.interval(0.9)
        ours.append(prediction.mean - finals(held))
        last.append(np.array([c.at(4.0) for c in held]) - finals(held))
        hits.append((low <= finals(held)) & (finals(held) <= high))
    rmse = [float(np.sqrt(np.mean(np.concatenate(e) ** 2))) for e in (ours, last)]
    assert rmse[0] < 0.5 * rmse[1]
    assert 0.8 <= np.mean(np.concatenate(hits)) <= 0.98


def test_on_real_accuracies_it_is_better_than_their_mean_and_calibrated() -> None:
    ours, mean, hits = [], [], []
    for train, held, prediction in predicted_real_runs("performance"):
        low, high = prediction.interval(0.9)
        ours.append(prediction.mean - finals(held))
        mean.append(finals(train).mean() - finals(held))
        hits.append((low <= finals(held)) & (finals(held) <= high))
    assert np.mean(np.concatenate(ours) ** 2) < 1.1 * np.mean(np.concatenate(mean) ** 2)
    assert 0.8 <= np.mean(np.concatenate(hits)) <= 0.98


@pytest.mark.parametrize("best", [3, 5, 8])
@every_metric
def test_the_worst_run_is_not_promoted_because_only_the_best_are_known(metric: str, best: int) -> None:
    """The full runs of a search are those that looked best; of a run far below them they say little, not wonders."""
    from scipy.stats import norm

    chosen, worst = [], []
    for seed in range(10):
        F, curves = runs(60, seed, metric)
        early = np.array([curve.at(4.0) for curve in curves])
        pool, rest = np.arange(40), np.arange(40, 60)
        full = pool[np.argsort(-early[pool])][:best]
        fitted = ScalingLawPredictor().fit(F[full], [curves[i] for i in full], MAX_T)
        found = fitted.predict(F[rest], cut([curves[i] for i in rest], 4.0))
        z = (found.mean - finals([curves[i] for i in full]).max()) / found.stddev
        improvement = found.stddev * (norm.pdf(z) + z * norm.cdf(z))
        truth = finals([curves[i] for i in rest])
        chosen.append(truth.max() - truth[int(np.argmax(improvement))])
        worst.append(truth.max() - np.median(truth))
    assert np.mean(chosen) < 0.6 * np.mean(worst)


def test_a_run_out_of_range_is_predicted_even_when_only_the_level_head_has_weight() -> None:
    F, curves = runs(8, 0)
    fitted = ScalingLawPredictor().fit(F, curves, MAX_T)
    far = LearningCurve((4.0,), (-1e6,))
    fitted.predict(F[:1], [far])
    fitted._heads[4.0] = dataclasses.replace(fitted._heads[4.0], weights=np.array([0.0, 0.0, 1.0]))
    prediction = fitted.predict(F[:1], [far])
    assert np.isfinite(prediction.mean[0])
    assert np.isfinite(prediction.stddev[0])


@pytest.mark.parametrize(("unit", "offset"), [(1e-10, 0.0), (1e12, 0.0), (1.0, 1e3), (1.0, -1e3)])
def test_the_unit_of_a_metric_and_where_its_zero_lies_change_no_prediction(unit: float, offset: float) -> None:
    F, curves = runs(12, 0, "accuracy")
    plain = ScalingLawPredictor().fit(F[:8], curves[:8], MAX_T).predict(F[8:], cut(curves[8:], 4.0))
    moved = [LearningCurve(c.t, tuple(offset + unit * value for value in c.value)) for c in curves]
    found = ScalingLawPredictor("raw").fit(F[:8], moved[:8], MAX_T).predict(F[8:], cut(moved[8:], 4.0))
    np.testing.assert_allclose((found.mean - offset) / unit, plain.mean, rtol=1e-3)
    np.testing.assert_allclose(found.stddev / unit, plain.stddev, rtol=1e-2)


def test_values_of_wildly_different_size_are_predicted() -> None:
    F, curves = runs(8, 0, "accuracy")
    tiny = [LearningCurve(c.t, tuple(1e-90 * value for value in c.value)) for c in curves]
    vast = LearningCurve((1.0, 4.0), (1e90, -1e90))
    for full in (tiny, [*tiny[1:], LearningCurve(curves[0].t, tuple(1e90 * value for value in curves[0].value))]):
        prediction = ScalingLawPredictor("raw").fit(F, full, MAX_T).predict(F[:2], [vast, tiny[0].up_to(4.0)])
        assert np.isfinite(prediction.mean).all()
        assert np.isfinite(prediction.stddev).all()
