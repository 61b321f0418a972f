"""Records: curves are idempotent by t, restarts replace the tail, and every trained step is charged."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples

from jobs_ray.trials import LearningCurve, Phase, Trial, TrialStatus, TrialTable
from jobs_ray.trials.curve import MAX_REPORTS
from jobs_ray.trials.sums import Total
from jobs_ray.trials.trials import Kind

MANY = examples(40)


def trial(**kwargs: Any) -> Trial:
    return Trial(**({"trial_id": "a", "config": {}, "x": (0.5,), "phase": Phase.LEARN, "grant": 10.0} | kwargs))


def reported(start: Trial, *times: float, value: float | None = 1.0) -> Trial:
    for t in times:
        start = start.report(t, value)
    return start


# -- curves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "value", "failed"),
    [
        ((1.0, 2.0), (1.0,), ()),
        ((1.0, 1.0), (1.0, 2.0), ()),
        ((2.0, 1.0), (1.0, 2.0), ()),
        ((1.0,), (math.nan,), ()),
        ((1.0,), (math.inf,), ()),
        ((math.nan,), (1.0,), ()),
        ((), (), (3.0, 2.0)),
    ],
)
def test_a_curve_that_is_none_is_refused(t: Any, value: Any, failed: Any) -> None:
    with pytest.raises(ValueError, match="curve"):
        LearningCurve(t, value, failed)


def test_records_are_frozen() -> None:
    for record in (LearningCurve(), trial()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.curve = None  # type: ignore[union-attr]


def test_the_last_report_at_a_time_wins() -> None:
    curve = LearningCurve().add(1.0, 5.0).add(2.0, 4.0).add(2.0, 3.0)
    assert (curve.t, curve.value) == ((1.0, 2.0), (5.0, 3.0))
    assert curve.add(2.0, 3.0) == curve


def test_going_back_replaces_the_tail() -> None:
    curve = LearningCurve((1.0, 2.0, 3.0), (5.0, 4.0, 3.0)).add(2.0, 9.0)
    assert (curve.t, curve.value) == ((1.0, 2.0), (5.0, 9.0))


def test_failed_observations_are_times_and_never_numbers() -> None:
    curve = LearningCurve().add(1.0, 5.0).add(2.0, None)
    assert (curve.t, curve.value, curve.failed_at) == ((1.0,), (5.0,), (2.0,))
    assert curve.ends_failed
    assert curve.last_t == 2.0
    better = curve.add(3.0, 4.0)
    assert not better.ends_failed
    assert better.failed_at == (2.0,)
    repaired = curve.add(2.0, 4.5)
    assert (repaired.t, repaired.failed_at) == ((1.0, 2.0), ())
    broken = better.add(3.0, None)
    assert (broken.t, broken.failed_at) == ((1.0,), (2.0, 3.0))


@examples(60)
@given(st.lists(st.tuples(st.integers(1, 6), st.one_of(st.none(), st.integers(0, 9))), max_size=15))
def test_a_curve_is_what_was_reported_since_the_last_time_it_went_back(reports: list[tuple[int, int | None]]) -> None:
    """Against a dict: a report at t drops everything after t and sets t."""
    curve, expected = LearningCurve(), {}
    for t, value in reports:
        curve = curve.add(float(t), None if value is None else float(value))
        expected = {s: v for s, v in expected.items() if s < t} | {t: value}
    assert dict(zip(curve.t, curve.value, strict=True)) == {t: v for t, v in expected.items() if v is not None}
    assert list(curve.failed_at) == [t for t, v in expected.items() if v is None]
    assert curve.last_t == max(expected, default=0)


def test_values_between_reports_are_interpolated_in_log_t() -> None:
    curve = LearningCurve((1.0, 4.0), (10.0, 20.0))
    assert curve.at(2.0) == pytest.approx(15.0)
    assert [curve.at(t) for t in (0.5, 1.0, 4.0, 9.0)] == [10.0, 10.0, 20.0, 20.0]
    with pytest.raises(ValueError, match="empty"):
        LearningCurve().at(1.0)


def test_a_prefix_keeps_values_and_failures_up_to_its_end() -> None:
    curve = LearningCurve((1.0, 3.0, 5.0), (9.0, 8.0, 7.0), (2.0, 4.0))
    assert curve.up_to(3.0) == LearningCurve((1.0, 3.0), (9.0, 8.0), (2.0,))
    assert curve.up_to(0.5) == LearningCurve()


# -- trials -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"grant": 0.0}, {"grant": math.nan}, {"start": -1.0}, {"wasted": -1.0}])
def test_a_trial_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="trial 'a'"):
        trial(**wrong)


def test_steps_count_failed_reports() -> None:
    assert reported(reported(trial(), 1.0, 2.0), 3.0, value=None).steps == 3.0


def test_a_duplicate_is_not_charged_twice() -> None:
    once = reported(trial(), 1.0, 2.0, 3.0)
    assert once.report(3.0, 1.0) == once


def test_steps_trained_again_are_charged_again() -> None:
    """1, 2, 3 trained; restarted from scratch: 1, 2 again: five steps."""
    again = reported(trial(), 1.0, 2.0, 3.0, 1.0, 2.0)
    assert again.steps == 5.0
    assert again.curve.t == (1.0, 2.0)


def test_a_restart_from_a_checkpoint_charges_from_the_checkpoint() -> None:
    """1 ... 5 trained, restarted from the checkpoint at 2: 3 again: six steps."""
    assert reported(trial(), 1.0, 2.0, 3.0, 4.0, 5.0, 3.0).steps == 6.0


SHORT = LearningCurve((1.0, 2.0), (5.0, 4.0))


def test_a_resumed_trial_is_charged_what_it_adds() -> None:
    resumed = trial(curve=SHORT, start=2.0, promotes="short")
    assert resumed.steps == 0.0
    resumed = resumed.report(3.0, 3.5, SHORT)
    assert resumed.steps == 1.0
    assert resumed.curve.t == (1.0, 2.0, 3.0)


def test_a_resumed_trial_whose_checkpoint_is_older_is_charged_from_there() -> None:
    """The short run ended at 2 with a checkpoint at 1: the first report is at 2 again, one step."""
    resumed = trial(curve=SHORT, start=2.0, promotes="short").report(2.0, 4.1, SHORT)
    assert resumed.steps == 1.0
    assert (resumed.curve.t, resumed.curve.value) == ((1.0, 2.0), (5.0, 4.1))


def test_a_resumed_trial_that_falls_back_before_its_start_keeps_what_it_trained_on_the_bill() -> None:
    """Resumed at 2, trained 3, 4, 5, then the actor died and began anew: 1. Three steps and one."""
    resumed = trial(curve=SHORT, start=2.0, promotes="short")
    for t in (3.0, 4.0, 5.0, 1.0):
        resumed = resumed.report(t, 1.0, SHORT)
    assert resumed.steps == 4.0


@pytest.mark.parametrize(("t", "steps"), [(1.0, 4.0), (2.0, 4.0), (3.0, 4.0), (5.0, 5.0)])
def test_an_ended_trial_that_is_trained_again_is_charged_and_stays_what_it_was(t: float, steps: float) -> None:
    """1, 2, 3 trained; a new process went on from the report before `t`."""
    done = dataclasses.replace(reported(trial(), 1.0, 2.0, 3.0, value=7.0), status=TrialStatus.COMPLETED)
    again = done.trained_again(t)
    assert again.steps == steps
    assert dataclasses.replace(again, wasted=0.0) == done
    resumed = trial(curve=SHORT, start=2.0, promotes="short").report(3.0, 3.5, SHORT)
    assert resumed.trained_again(1.0, SHORT).steps == 2.0  # from nothing: the short run's first step once more


def test_only_a_completed_trial_has_a_final() -> None:
    done = reported(trial(), 1.0, 2.0, value=7.0)
    assert done.final is None
    assert dataclasses.replace(done, status=TrialStatus.STOPPED).final is None
    assert dataclasses.replace(done, status=TrialStatus.COMPLETED).final == 7.0
    assert dataclasses.replace(trial(), status=TrialStatus.COMPLETED).final is None


def test_a_table_adds_up_what_the_ledger_walks() -> None:
    table = TrialTable()
    assert (table.spent(4.0), table.spent(None), table.longest, list(table.newest())) == (0.0, 0.0, None, [])
    first, second = (Trial(name, {}, (), Phase.SEARCH, None) for name in "ab")
    given = Trial(
        "g", {}, (), Phase.LEARN, None, TrialStatus.COMPLETED, LearningCurve((8.0, 9.0), (1.0, 1.0)), charged=False
    )
    for trial in (first, second, given):
        table.put(trial)
    for trial in (first.report(1.0, 0.5), first.report(1.0, 0.5).report(3.0, 0.7)):
        table.put(trial)
    table.put(dataclasses.replace(table["a"], status=TrialStatus.COMPLETED))
    assert table.longest == 9.0
    assert list(table.newest()) == [second, table["a"]]
    assert table.running() == [second]
    assert table.kinds() == Counter(trial.kind for trial in table.values())
    assert list(table) == ["a", "b", "g"]
    assert (table.spent(4.0), table.spent(None)) == (0.75, 1.0)
    with pytest.raises(ValueError, match="'a' has ended"):
        table.put(first)
    with pytest.raises(KeyError):
        table.remove("a")
    twin = table.copy()
    twin.remove("b")
    assert (len(twin), len(table)) == (2, 3)


_OPERATIONS = ["put", "report", "complete", "stop", "again", "demote", "checkpoint", "forget", "copy", "restore"]


def _check_table(table: TrialTable) -> None:
    rows = list(table.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs_ray.trials.table.RECALLED", 3)
        assert table.recalled() == [
            t
            for i, t in enumerate(rows)
            if i < 3 or i >= len(rows) - 3 or t.running or t.promotes or t.final is not None
        ]
    assert table.spent(None) == sum(t.curve.last_t > 0.0 for t in rows)
    for max_t in (4.0, 4.0, 9.0):
        assert table.spent(max_t) == sum(t.steps for t in rows) / max_t
        assert table.outstanding(max_t) == sum(t.outstanding(max_t) for t in rows if t.running)
    assert table.costs() == pytest.approx(TrialTable(rows).costs())
    assert table.kinds() == Counter(t.kind for t in rows)
    assert set(table.kinds().values()) <= set(range(1, len(rows) + 1))


@examples(100)
@given(
    st.lists(st.sampled_from(_OPERATIONS), max_size=60),
    st.integers(0, 2**32 - 1),
)
def test_of_many_trials_the_first_the_newest_the_running_and_the_full_runs_are_recalled(
    ops: list[str], seed: int
) -> None:
    rng = random.Random(seed)
    table, count = TrialTable(), 0
    for op in ops:
        _check_table(table)  # what it keeps of one moment must not be seen at the next
        running = [t for t in table.values() if t.running]
        ended = [t for t in table.values() if not t.running]
        if op == "again":
            if ended:
                table.charge(rng.choice(ended).trained_again(1.0 + rng.randrange(3), cost=rng.choice([None, 2.0])))
            continue
        if op == "demote":
            table.demote()
            continue
        if op == "put" or not running:
            table.put(trial(trial_id=f"t{count}", promotes=rng.choice([None, None, "t0"])))
            count += 1
            continue
        one = rng.choice(running)
        if op == "report":
            table.put(one.report(one.curve.last_t + 1.0, 1.0))
        elif op == "forget":
            table.remove(one.trial_id)
            if rng.random() < 0.5:  # asked for again: now the newest
                table.put(one)
        elif op == "checkpoint":
            table.note_checkpoint(one.trial_id, 1.0)
        elif op == "copy":
            before, table = table, table.copy()
            before.remove(one.trial_id)
        elif op == "restore":
            table = TrialTable(table.values())
        else:
            table.put(dataclasses.replace(one, status=TrialStatus("completed" if op == "complete" else "stopped")))
    _check_table(table)
    rows = list(table.values())
    anew = TrialTable(rows)
    assert (table.spent(4.0), table.spent(None)) == (anew.spent(4.0), anew.spent(None))
    assert table.costs() == pytest.approx(anew.costs())


@given(st.lists(st.floats(-1e100, 1e100), max_size=40), st.data())
def test_a_total_is_exact_in_any_order_and_forgets_what_is_taken_off(numbers: list[float], data: st.DataObject) -> None:
    total = Total()
    for number in numbers:
        total = total.plus(number)
    assert total.value == math.fsum(numbers)
    for number in data.draw(st.permutations(numbers)):
        total = total.plus(-number)
    assert total.value == 0.0


# -- long curves ------------------------------------------------------------------------------------------------------


def test_a_long_curve_keeps_its_shape_in_log_t_and_never_grows_further() -> None:
    curve = LearningCurve()
    for t in range(1, 20_001):
        curve = curve.add(float(t), -1.0 / t)
        assert len(curve.t) <= MAX_REPORTS
    assert (curve.t[0], curve.t[-1], curve.last_t) == (1.0, 20_000.0, 20_000.0)
    assert curve.t[-MAX_REPORTS // 4 :] == tuple(float(t) for t in range(20_001 - MAX_REPORTS // 4, 20_001))
    for t in (1.0, 3.0, 17.0, 400.0, 5_000.0, 19_990.0):
        assert curve.at(t) == pytest.approx(-1.0 / t, rel=0.002)


@MANY
@given(
    every=st.sampled_from([1.0, 5.0]),
    goes=st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=4),
)
@example(every=1.0, goes=[(214, 20), (900, 190), (1, 11)])
@example(every=1.0, goes=[(600, 510), (3, 50), (5, 1)])
def test_what_a_long_trial_is_charged_is_not_thinned(every: float, goes: list[tuple[int, int]]) -> None:
    """It trains `forth` reports, is started anew from the checkpoint `back` reports ago, and so on."""
    trial = Trial("a", {}, (), Phase.SEARCH, None)
    at, trained = 0, 0.0
    for forth, back in goes:
        for step in range(forth):
            at, trained = at + 1, trained + every
            trial = trial.report(at * every, -1.0, restarted=step == 0)
        at = max(at - back, 0)
    assert trial.steps == pytest.approx(trained)


def test_a_kind_pickled_before_there_were_failed_ones_is_read() -> None:
    """In the tuner.pkl of an experiment whose searcher was given evaluated points: six fields then."""
    assert Kind(Phase.LEARN, None, True, False, True, False) == trial(grant=None, status=TrialStatus.COMPLETED).kind
