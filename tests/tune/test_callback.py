"""What JoBSCallback puts into results and on the terminal, and that nobody has to add it."""

from __future__ import annotations

import csv
import gc
import json
import os
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune import TuneError
from ray.tune.constants import RAY_TUNE_CALLBACKS_ENV_VAR
from tune_trainables import STEPS, Class, Fragile, Troubled, Unpredictable, half

from jobs_ray import JoBSCallback, JoBSScheduler, JoBSSearcher, StateError, recommend
from jobs_ray.tune.run_context import RunContext

SPACE = {"x": tune.uniform(0.0, 1.0)}
KEYS = {"jobs/phase", "jobs/phase_number", "jobs/predicted", "jobs/predicted_std", "jobs/budget_spent"}
Fit = Callable[..., tune.ResultGrid]


@pytest.mark.slow
def test_added_by_itself_and_seen_by_every_logger(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    searcher = JoBSSearcher(max_t=STEPS, short_t=2, budget=12, seed=0)
    results = fit(
        half(Class), SPACE, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=1, reuse_actors=True
    )
    assert RAY_TUNE_CALLBACKS_ENV_VAR not in os.environ
    predicted = 0
    for result in results:
        assert set(result.metrics) >= KEYS
        folder = Path(result.path)
        with open(folder / "progress.csv") as file:
            rows = list(csv.DictReader(file))
        assert set(rows[0]) >= KEYS
        with open(folder / "result.json") as file:
            lines = [json.loads(line) for line in file]
        assert set(lines[-1]) >= KEYS
        predicted += isinstance(lines[-1]["jobs/predicted"], float) and rows[-1]["jobs/predicted"] != "nan"
        events = b"".join(path.read_bytes() for path in folder.glob("events.out.tfevents*"))
        assert b"ray/tune/jobs/budget_spent" in events
        assert b"ray/tune/jobs/phase_number" in events
    assert predicted  # at least one after the predictor stands
    spent = [result.metrics["jobs/budget_spent"] for result in results]
    assert max(spent) == pytest.approx(searcher.report()["budget"]["spent"])
    out = capsys.readouterr().out
    assert out.count("JoBS plan: ") == 1
    assert out.count("JoBS: phase search") >= 1
    assert out.count("; recommended (confirmed by a full run): loss = ") == 1

    # ... and the recommendation is the same from the grid and from the folder
    found = searcher.recommendation()
    assert recommend(results) == found
    assert recommend(tmp_path / "run") == found
    assert recommend(f"file://{tmp_path / 'run'}") == found


def test_what_is_no_prediction_is_not_called_one(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    searcher = JoBSSearcher(max_t=25, seed=0)
    results = fit(half(Class), SPACE | {"steps": 1}, searcher, num_samples=1)
    out = capsys.readouterr().out
    assert "recommended (last value at training_iteration = 1 of 25, not a prediction): loss = " in out
    assert "+- 0" not in out
    found = recommend(results)
    assert found is not None
    assert found.stddev is None


@pytest.mark.parametrize("copied", [pytest.param(False, marks=pytest.mark.slow), True])
def test_added_by_hand_as_well_it_works_once(fit: Fit, capsys: pytest.CaptureFixture[str], copied: bool) -> None:
    """copied: Ray Client sends a callback and the searcher that it was given one by one, so that they are strangers."""
    searcher = JoBSSearcher(max_t=STEPS, seed=0)
    callbacks = [JoBSCallback(pickle.loads(pickle.dumps(searcher)) if copied else None)]
    results = fit(
        half(Class),
        SPACE | {"steps": 1},
        searcher,
        JoBSScheduler(),
        num_samples=1,
        run_config={"callbacks": callbacks},
    )
    assert set(results[0].metrics) >= KEYS
    assert capsys.readouterr().out.count("JoBS plan: ") == 1


def test_a_metric_that_cannot_be_predicted_is_said_once(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    searcher = JoBSSearcher(max_t=STEPS, short_t=3, budget=16, num_full=9, seed=2)
    fit(
        half(Unpredictable),
        SPACE,
        searcher,
        JoBSScheduler(),
        num_samples=14,
        max_concurrent_trials=1,
        reuse_actors=True,
    )
    found = searcher.report()["predictor"]
    assert found["r2"] <= 0.0, found
    assert capsys.readouterr().out.count("tell nothing of the final values") == 1


def test_quiet_says_nothing(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit(
        half(Class),
        SPACE | {"steps": 1},
        JoBSSearcher(seed=0),
        num_samples=1,
        run_config={"callbacks": [JoBSCallback(quiet=True)]},
    )
    assert "JoBS" not in capsys.readouterr().out


def test_early_warnings(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    """A short_t that no report falls on, a metric that is late, and no limit of concurrency."""
    searcher = JoBSSearcher(max_t=120, short_t=18, time_attr="tens", seed=0)
    fit(half(Tens), SPACE, searcher, JoBSScheduler(), num_samples=1)
    out = capsys.readouterr().out
    assert "max_concurrent_trials is not set" in out
    assert "no report falls on short_t=18: reports came at t=10, 20, so short runs end at t=20" in out
    assert "no report up to t=20 had a usable 'loss'" in out


class Tens(Class):
    """Reports every tenth step, its loss from the third report on."""

    def step(self) -> dict[str, Any]:
        result = super().step() | {"tens": 10 * (self.t)}
        return result if self.t >= 3 else result | {"loss": float("nan")}


def test_without_a_scheduler_it_says_once_what_would_save(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit(
        half(Class),
        SPACE | {"steps": 1},
        JoBSSearcher(seed=0),
        num_samples=2,
        max_concurrent_trials=1,
        reuse_actors=True,
    )
    assert capsys.readouterr().out.count("scheduler=JoBSScheduler() in tune.TuneConfig would stop") == 1


def test_recommend_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no searcher state"):
        recommend(tmp_path)
    (tmp_path / "searcher-state-2026-01-01_00-00-00.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(StateError, match="not the state of a JoBSSearcher"):
        recommend(tmp_path)


def test_num_samples_that_end_the_search_early_are_counted(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit(half(Class), SPACE, JoBSSearcher(max_t=STEPS, budget=5, seed=0), JoBSScheduler(), num_samples=1)
    out = capsys.readouterr().out
    assert "num_samples=1 ends the search after 1 trial, before the budget of 5 full runs is spent" in out
    assert "set num_samples=-1" in out


@pytest.mark.slow
def test_a_max_t_that_trials_do_not_reach_is_said_with_the_number_to_set(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    for max_t, short_t in ((3 * STEPS, 2 * STEPS), (2 * STEPS, "auto")):
        searcher = JoBSSearcher(max_t=max_t, short_t=short_t, budget=3, seed=0)
        fit(half(Class), SPACE, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=1, reuse_actors=True)
        assert capsys.readouterr().out.count(f"is more than trials reach: the budget buys fewer of them than planned; "
                                             f"set max_t={STEPS}") == 1  # fmt: skip


def test_a_budget_without_max_t_says_what_that_means(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit(
        half(Class),
        SPACE | {"steps": 2},
        JoBSSearcher(budget=2, seed=0),
        JoBSScheduler(),
        num_samples=-1,
        max_concurrent_trials=1,
        reuse_actors=True,
    )
    assert "a trainable that never ends by itself runs for ever; set max_t" in capsys.readouterr().out


class Mistimed(Class):
    """Reports no epoch, and never ends by itself."""

    def step(self) -> dict[str, Any]:
        return super().step() | {"done": False}


@pytest.mark.parametrize(
    ("trainable", "settings", "said", "most"),
    [
        (Fragile, {}, "RuntimeError: the trainable fails on purpose", 3),
        (Troubled, {}, "reported 'loss', which is not a number (got str '1.5')", 4 * 3),
        pytest.param(
            Mistimed,
            {"time_attr": "epoch"},
            "reported no usable 'epoch' (got only 'loss', 'score', 'step'",
            3 * 26,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_broken_trainable_ends_the_search_after_three_trials_with_its_error(
    fit: Fit, capsys: pytest.CaptureFixture[str], trainable: Any, settings: dict[str, Any], said: str, most: int
) -> None:
    searcher = JoBSSearcher(max_t=STEPS, short_t=3, budget=9, seed=0, **settings)
    space = SPACE | {"fail_at": 1, "trouble": "number as text"}
    results = fit(
        half(trainable), space, searcher, JoBSScheduler(), num_samples=-1, max_concurrent_trials=1, reuse_actors=True
    )
    assert len(results) == 3
    end = capsys.readouterr().out.strip().splitlines()[-1]
    assert "nothing to recommend (all trials failed, the last 3 alike: " in end
    assert said in end
    assert sum(result.metrics.get("training_iteration", 0) for result in results if result.metrics) <= most


class Stop(tune.Callback):
    """Ends the driver's loop at a result; once only, a restored run has this callback, too."""

    def __init__(self, marker: Path, at: int) -> None:
        self.marker, self.left = marker, at

    def on_trial_result(self, **info: Any) -> None:
        self.left -= 1
        if self.left <= 0 and not self.marker.exists():
            self.marker.touch()
            raise RuntimeError("ended on purpose")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_ended_trial_that_ray_trains_again_tells_nothing_of_short_t(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stops at its first report: "no report falls on short_t=2: ... set short_t=1"."""
    with pytest.raises(TuneError, match="ended on purpose"):  # within ten seconds, so Ray's snapshot is the first one
        fit(
            half(Class), SPACE, JoBSSearcher(max_t=STEPS, short_t=2, budget=2, seed=0), JoBSScheduler(), num_samples=-1,
            max_concurrent_trials=1, reuse_actors=True, run_config={"callbacks": [Stop(tmp_path / "stopped", 3)]},
        )  # fmt: skip
    gc.collect()  # of the controller that was left behind, here where its open files may be warned of
    results = tune.Tuner.restore(str(tmp_path / "run"), trainable=half(Class)).fit()
    lengths = sorted(result.metrics["training_iteration"] for result in results)
    assert lengths[0] == 1, lengths  # it was trained again
    assert "no report falls on short_t" not in capsys.readouterr().out


@pytest.mark.parametrize(("reported", "said"), [(range(1, 8), True), (range(1, 21), False)])
def test_a_trial_that_was_past_short_t_before_a_restore_tells_nothing_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reported: range, said: bool
) -> None:
    """It said that short runs end at t=20, and advised to set that."""
    monkeypatch.setattr(JoBSSearcher, "can_stop", True)
    searcher = JoBSSearcher(SPACE, "loss", "min", max_t=25, short_t=6.5, budget=4, seed=0)
    searcher.suggest("a")
    searcher.session.core.amend("a", grant=25.0)
    for t in reported:
        searcher.record("a", {"loss": 1.0 / t, "training_iteration": t})
    callback = JoBSCallback()
    monkeypatch.setattr(callback, "_print", print)
    callback._check_first_trial(searcher, "a", False)
    assert ("set short_t=7" in capsys.readouterr().out) == said


def test_a_run_that_could_not_begin_does_not_lend_its_searcher() -> None:
    """A first `fit()` was refused for its space; the callback of the next one has been given its own searcher."""
    given, other = JoBSSearcher(seed=0), JoBSSearcher(seed=1)
    callback = JoBSCallback(given)
    callback._run = RunContext()
    for joined, expected in ((None, given), (other, given), (copy := pickle.loads(pickle.dumps(given)), copy)):
        callback._run._searcher = None if joined is None else weakref.ref(joined)
        assert callback.searcher is expected
