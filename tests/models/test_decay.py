"""The rest of a curve in proportion to what it has come down: ratio, values at a common time, the predictor's head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jobs_ray import ScalingLawPredictor
from jobs_ray.models.decay import at_common_time, decay_ratio, lasting
from jobs_ray.trials import LearningCurve, Phase, Trial, TrialStatus


def curve(level: float, amplitude: float, last: int, sign: float = -1.0) -> LearningCurve:
    """exp(level + amplitude / t) at t = 1 ... last: a loss (sign -1), or something that is maximised and falls."""
    t = [float(i) for i in range(1, last + 1)]
    return LearningCurve(tuple(t), tuple(sign * float(np.exp(level + amplitude / s)) for s in t))


def short(name: str, level: float, amplitude: float, last: int = 4) -> Trial:
    return Trial(name, {}, (0.5,), Phase.SEARCH, 4.0, curve=curve(level, amplitude, last), status=TrialStatus.STOPPED)


def full(name: str, level: float, amplitude: float) -> Trial:
    return Trial(name, {}, (0.5,), Phase.LEARN, 25.0, curve=curve(level, amplitude, 25), status=TrialStatus.COMPLETED)


@pytest.mark.parametrize(
    ("gain", "drop", "ratio"),
    [
        ([1.0, 3.0], [2.0, 6.0], 0.5),
        ([1.0], [-1.0], 0.0),
        ([-1.0], [1.0], 0.0),
        ([1.0], [0.01], 5.0),
        ([1.0], [0.0], 0.0),
    ],
)
def test_the_ratio_is_that_of_the_means_within_bounds(gain: list[float], drop: list[float], ratio: float) -> None:
    assert decay_ratio(np.array(gain), np.array(drop)) == pytest.approx(ratio)


def test_one_full_run_tells_where_the_others_come_down_to() -> None:
    """Of two short runs the worse one at t = 4 is the better one at the end; the ratio is the same for all."""
    slow, fast = short("slow", 0.0, 1.5), short("fast", 0.2, 0.5)
    assert slow.curve.value[-1] < fast.curve.value[-1]
    before = at_common_time([], [slow, fast])
    assert before == {"slow": slow.curve.value[-1], "fast": fast.curve.value[-1]}
    after = at_common_time([full("whole", 0.1, 1.0)], [slow, fast])
    assert after["slow"] == pytest.approx(curve(0.0, 1.5, 25).value[-1])
    assert after["fast"] == pytest.approx(curve(0.2, 0.5, 25).value[-1])
    assert after["whole"] == pytest.approx(curve(0.1, 1.0, 25).value[-1])


def test_what_does_not_last_is_not_carried_on() -> None:
    """Runs that start late come down more at first, not in the end: their large drop earns them nothing."""
    rng = np.random.default_rng(0)
    first, noise = rng.uniform(0.1, 1.0, 30), 0.01 * rng.standard_normal(30)
    assert lasting(first, 0.4 * first + noise) > 0.95
    assert lasting(first, 0.5 - 0.3 * first + noise) == 0.0
    assert lasting(first, 0.3 + noise) < 0.1
    assert lasting(first, 0.4 * (0.5 * first + 0.5 * first.mean())) == pytest.approx(0.5)
    assert lasting(np.full(5, 0.3), first[:5]) == 0.0


def test_two_reports_do_not_tell_whether_a_drop_lasts() -> None:
    """Both get the mean drop: their order stays that of their values."""
    slow, fast, whole = (
        Trial(name, {}, (0.5,), Phase.SEARCH, 4.0, curve=LearningCurve(c.t[1::2], c.value[1::2]))
        for name, c in (("slow", curve(0.0, 1.5, 4)), ("fast", curve(0.2, 0.5, 4)), ("whole", curve(0.1, 1.0, 24)))
    )
    values = at_common_time([whole], [slow, fast])
    assert np.log(values["slow"] / values["fast"]) == pytest.approx(np.log(slow.curve.value[-1] / fast.curve.value[-1]))
    assert values["slow"] > slow.curve.value[-1]  # maximised: nearer to 0


def test_what_is_no_loss_is_compared_as_it_stands() -> None:
    rising = [
        Trial(name, {}, (0.5,), Phase.SEARCH, 4.0, curve=LearningCurve((1.0, 2.0, 4.0), values))
        for name, values in (("a", (0.2, 0.3, 0.5)), ("b", (0.1, 0.2, 0.4)))
    ]
    whole = Trial(
        "whole", {}, (0.5,), Phase.LEARN, 25.0, status=TrialStatus.COMPLETED,
        curve=LearningCurve((1.0, 4.0, 25.0), (0.1, 0.3, 0.9)),
    )  # fmt: skip
    assert at_common_time([whole], rising) == {"whole": 0.3, "a": 0.5, "b": 0.4}


def test_runs_that_others_stopped_are_carried_on_by_the_mean_gain() -> None:
    """Eight stopped at t = 1, four of twelve went on to 4: they tell of 4, and what the others would have come to."""
    stopped = [short(f"s{i}", 0.1 * i, 1.0, last=1) for i in range(8)]
    went_on = [short(f"w{i}", 0.05 * i, 1.5, last=4) for i in range(4)]
    values = at_common_time([], [*stopped, *went_on])
    gain = np.mean([t.curve.value[-1] - t.curve.value[0] for t in went_on])
    for t in went_on:
        assert values[t.trial_id] == t.curve.value[-1]
    for t in stopped:
        assert values[t.trial_id] == pytest.approx(t.curve.value[0] + gain)
    fewer = at_common_time([], [*stopped, *went_on[:3]])
    assert fewer["w0"] == went_on[0].curve.value[0], "three do not tell of 4"


def test_promotions_do_not_move_the_common_time() -> None:
    promoted = [replace(short(f"p{i}", 0.0, 1.0, last=9), promotes=f"s{i}") for i in range(4)]
    values = at_common_time([], [*(short(f"x{i}", 0.1, 1.0) for i in range(5)), *promoted])
    assert values["x0"] == short("x0", 0.1, 1.0).curve.value[-1]


def test_a_run_that_got_worse_later_counts_as_what_it_became() -> None:
    diverged = Trial(
        "diverged", {}, (0.5,), Phase.LEARN, 25.0, curve=LearningCurve((1.0, 4.0, 9.0), (-3.0, -1.0, -8.0))
    )
    assert at_common_time([], [short("a", 0.0, 1.0), short("b", 0.0, 1.0), diverged])["diverged"] == -8.0


def test_where_amplitudes_differ_the_drop_tells_the_final() -> None:
    """Amplitudes that the configuration does not explain: the mean gain cannot know them, a run's own drop does."""
    rng = np.random.default_rng(0)
    F, level, amplitude = rng.standard_normal((46, 4)), rng.normal(0.0, 0.2, 46), rng.uniform(0.3, 1.2, 46)
    noise = 1.0 + 0.002 * rng.standard_normal((46, 25))
    curves = [
        LearningCurve(c.t, tuple((np.array(c.value) * e).tolist()))
        for c, e in zip((curve(b, a, 25) for b, a in zip(level, amplitude, strict=True)), noise, strict=True)
    ]
    ends = np.log([-c.value[-1] for c in curves])
    at_4 = np.log([-c.value[3] for c in curves])
    fitted = ScalingLawPredictor().fit(F[:6], curves[:6], 25.0)
    predicted = fitted.predict(F[6:], [c.up_to(4.0) for c in curves[6:]])
    error = np.log(-predicted.mean) - ends[6:]
    by_mean_gain = at_4[6:] + (ends[:6] - at_4[:6]).mean() - ends[6:]
    assert np.sqrt(np.mean(error**2)) < 0.5 * np.sqrt(np.mean(by_mean_gain**2))
