"""What a trial costs, read from a counter: against processes whose kind of counter is known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from jobs_ray.trials import Meter, Phase, Trial
from jobs_ray.trials.meter import MAX_READINGS


def read(*pairs: tuple[float, float]) -> Meter:
    meter = Meter()
    for t, reading in pairs:
        meter = meter.read(t, reading)
    return meter


@pytest.mark.parametrize("wrong", [((1.0,), ()), ((1.0,), (float("nan"),)), ((), (), -1.0), ((), (), 0.0, -1.0)])
def test_a_meter_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="meter"):
        Meter(*wrong)


def test_the_last_reading_at_a_time_wins_and_a_duplicate_costs_nothing() -> None:
    once = read((1.0, 2.0), (2.0, 4.0))
    assert once.read(2.0, 4.0) == once
    assert once.read(2.0, 5.0).cost == 5.0
    assert [once.at(t) for t in (0.5, 1.0, 1.5, 2.0, 9.0)] == [0.0, 2.0, 2.0, 4.0, 4.0]


def test_a_counter_that_starts_again_with_its_process() -> None:
    """3 steps of 2, killed; from scratch, two more: 10."""
    assert read((1.0, 2.0), (2.0, 4.0), (3.0, 6.0), (1.0, 2.0), (2.0, 4.0)).cost == 10.0


def test_a_counter_that_the_checkpoint_holds() -> None:
    """3 steps of 2, killed; from the checkpoint at 1: steps 2 and 3 again."""
    meter = read((1.0, 2.0), (2.0, 4.0), (3.0, 6.0), (2.0, 4.0), (3.0, 6.0))
    assert (meter.cost, meter.reading) == (10.0, (2.0, 4.0, 6.0))


def test_a_counter_that_starts_again_although_the_steps_go_on() -> None:
    """time_since_restore: the checkpoint at 2 was the last report."""
    meter = read((1.0, 2.0), (2.0, 4.0), (3.0, 2.0))
    assert (meter.cost, meter.read(3.0, 2.0)) == (6.0, meter)
    assert meter.read(4.0, 4.0).cost == 8.0


def test_a_counter_outside_of_the_trial_has_counted_everything() -> None:
    assert read((1.0, 2.0), (2.0, 4.0), (1.0, 6.0), (2.0, 8.0)).cost == 8.0


def test_a_report_at_the_same_time_of_a_new_process_is_charged() -> None:
    meter = read((1.0, 2.0), (2.0, 4.0))
    assert meter.read(2.0, 4.0, restarted=True).cost == 6.0
    assert read((1.0, 2.0)).read(1.0, 2.0, restarted=True).cost == 4.0


@examples(200)
@given(
    kind=st.sampled_from(["process", "checkpoint", "outside"]),
    goes=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), min_size=1, max_size=5),
    twice=st.booleans(),
    rate=st.sampled_from([1.0, 0.25, 1000.0]),
)
def test_the_cost_is_the_sum_of_what_was_trained(
    kind: str, goes: list[tuple[int, int]], twice: bool, rate: float
) -> None:
    """It trains `forth` steps of `rate` each and is started anew from `back` steps ago (0: where it stood)."""
    trial = Trial("a", {}, (), Phase.SEARCH, None)
    at, trained, counter = 0, 0, 0
    for life, (forth, back) in enumerate(goes):
        for step in range(forth):
            at, trained, counter = at + 1, trained + 1, counter + 1
            restarted = life > 0 and step == 0
            trial = trial.report(float(at), -1.0, restarted=restarted, cost=rate * counter)
            if twice:
                assert trial.report(float(at), -1.0, cost=rate * counter) == trial
            assert trial.meter.cost == pytest.approx(rate * trained)
        at = max(at - back, 0)
        counter = {"process": 0, "checkpoint": at, "outside": counter}[kind]
    assert trial.steps == trained
    assert trial.rate == pytest.approx(rate)


def test_of_a_long_trial_the_meter_stays_small_and_right() -> None:
    meter = Meter()
    for t in range(1, 2_001):
        meter = meter.read(float(t), 3.0 * t)
    assert meter.cost == 6_000.0
    assert len(meter.t) <= MAX_READINGS
    assert meter.at(1_990.0) == 5_970.0
