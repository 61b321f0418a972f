"""Reports of states that a searcher saved, made by hand: no Ray runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from core_runs import search, train
from ray import tune
from saved_runs import MAX_T, falling, made, saved

from jobs_ray import Suggestion, cli, mixture, recommend
from jobs_ray.report import figures_trials, predictions, ray_folder, watch
from jobs_ray.report.answer import answer
from jobs_ray.report.compare import compare
from jobs_ray.report.experiment import Report
from jobs_ray.report.gather import collect
from jobs_ray.report.page import write_html
from jobs_ray.report.tables import decimals, text
from jobs_ray.report.tables_plan import phases_table
from jobs_ray.tune.placeholders import OBJECT
from jobs_ray.tune.results import locate


def facts(report: Report) -> dict[str, str]:
    found = answer(report, decimals(report))
    assert found is not None
    return dict(found.facts)


@pytest.mark.parametrize(
    "point", [{"lora": {"r": 8, "alpha": 16}}, {"lora": {"r": 8}}, {"lora": {"r": 8}, "mixture": {"a": 2, "b": 6}}]
)
def test_the_default_is_the_first_point_and_no_other(point: dict[str, Any], tmp_path: Path) -> None:
    """Naive: every dict of numbers is compared as shares, so 16/32 and 24/48 are 8/16, and 1 is 8."""
    space = {
        "lora": {"r": tune.lograndint(1, 129), "alpha": tune.lograndint(1, 129)}, "mixture": mixture("a", "b"),
    }  # fmt: skip
    others = [{"lora": {"r": 16, "alpha": 32}}, {"lora": {"r": 24, "alpha": 48}}, {"lora": {"r": 8, "alpha": 100}}]
    searcher = made(space, points_to_evaluate=[point, *others])
    trials = search(searcher.session.core, curve=falling(lambda c: (c["lora/r"] - 40) ** 2 / 1e3))
    report = collect(saved(searcher, tmp_path))
    first = next(iter(searcher.session.core.trials.values()))
    assert trials
    assert report.default[0] == first.trial_id
    assert {row.config["lora"]["alpha"] for row in report.trials if row.trial_id in report.default} == {
        first.config["lora/alpha"]
    }


@pytest.mark.parametrize("point", [{"act": len, "x": 0.25}, {"act": abs, "x": 0.25}, {"act": abs}])
def test_a_default_of_objects(point: dict[str, Any], tmp_path: Path) -> None:
    """Naive: read from a folder all objects are alike, so the default has the first of them."""
    searcher = made({"act": tune.choice([len, abs]), "x": tune.uniform(0, 1)}, points_to_evaluate=[point])
    search(searcher.session.core, curve=falling(lambda c: c["x"]))
    report = collect(saved(searcher, tmp_path))
    assert report.default[0] == next(iter(searcher.session.core.trials))


def test_an_observation_like_the_default_is_not_taken_for_its_first_trial(tmp_path: Path) -> None:
    searcher = made({"x": tune.uniform(0, 1), "y": tune.uniform(0, 1)}, points_to_evaluate=[{"x": 0.5}])
    searcher.add_evaluated_point({"x": 0.5, "y": 0.125}, 1.0, intermediate_values=[2.0, 1.0])
    search(searcher.session.core, curve=falling(lambda c: c["x"]))
    report = collect(saved(searcher, tmp_path))
    first = next(row for row in report.trials if not row.observed)
    assert report.trials[0].observed
    assert report.default[0] == first.trial_id


def test_a_mixture_of_an_option_is_found_where_the_configuration_holds_it(tmp_path: Path) -> None:
    searcher = made({"data": tune.choice([{"kind": "mix", "w": mixture("a", "b")}, {"kind": "one"}])})
    search(searcher.session.core, curve=falling(lambda c: 0.0 if c["data"] == "0" else 0.5))
    report = collect(saved(searcher, tmp_path))
    assert report.mixtures == ("data/w",)
    found = answer(report, decimals(report))
    assert found is not None
    assert set(found.mixtures["data/w"]) == {"a", "b"}


def test_of_a_choice_of_objects_the_option_is_named(tmp_path: Path) -> None:
    """Naive: `('__ref_ph', 'e0a3df4f')`."""
    objects = [(OBJECT, name) for name in ("e0a3df4f", "11111111")]  # Ray's placeholders
    searcher = made({"act": tune.choice(objects), "net": tune.choice([{"act": objects[0]}, 1]), "const": objects[0]})
    search(searcher.session.core, curve=falling(lambda c: float(c["act"] == "0") + float(c["net"] != "0")))
    report = collect(saved(searcher, tmp_path))
    assert report.recommendation is not None
    config = report.recommendation.config
    assert config["act"] == "<option 1 of act>"
    assert config["net"] == {"act": "<option 0 of net>"}
    assert repr(config["const"]) == "<object, not read>"
    assert OBJECT not in text(report)


def test_trials_that_another_scheduler_cut_are_no_full_runs(tmp_path: Path) -> None:
    """Naive: whatever had no limit of ours ran to its own end."""
    searcher = made({"x": tune.uniform(0, 1)}, max_t=None, budget=None)
    core = searcher.session.core
    for number in range(6):
        core.ask(str(number), full=True)
        for t in range(1, 3 if number % 2 else 9):
            core.report(str(number), t, 1 / t)
        core.tell(str(number), own_end=False)
    report = collect(saved(searcher, tmp_path))
    assert [row.full for row in report.trials] == [True, False] * 3
    assert not report.stops
    printed = " ".join(text(report).split())
    assert "Every trial ran to its own end" not in printed
    assert "Ended early by something else than the search: 3." in printed
    assert "short run to" not in printed


def test_observations_from_elsewhere_took_nothing_here(tmp_path: Path) -> None:
    searcher = made({"x": tune.uniform(0, 1)})
    for x in (0.3, 0.9):
        searcher.add_evaluated_point({"x": x}, 1.0 + x, intermediate_values=[2.0 + x, 1.0 + x])
    search(searcher.session.core, curve=falling(lambda c: c["x"]))
    report = collect(saved(searcher, tmp_path))
    mine = [row for row in report.trials if not row.observed]
    full = sum(row.final is not None for row in mine)
    assert len(report.trials) == len(mine) + 2
    said = facts(report)
    assert f"{len(mine)} trials ({full} to the end)" in said["cost"]
    assert "observed" not in said["gain over the best LEARN run"]
    assert "CONFIRMED by an observation from elsewhere (trial observed-0)" in " ".join(text(report).split())
    [row] = compare([report]).rows
    assert row[2] == decimals(report)(min(row.final for row in mine if row.final is not None))
    assert row[4:6] == (str(len(mine)), str(full))


@pytest.mark.parametrize("ended", ["not yet", "failed", "well"])
def test_a_short_run_stays_while_its_promotion_has_nothing_to_show(ended: str, tmp_path: Path) -> None:
    searcher = made({"x": tune.uniform(0, 1)}, budget=8)
    core, curve = searcher.session.core, falling(lambda c: c["x"])
    for number in range(60):
        name = str(number)
        suggestion = core.ask(name)
        assert isinstance(suggestion, Suggestion)
        if suggestion.promotes:
            break
        train(core, name, suggestion.config, curve, end=MAX_T)
    assert suggestion.promotes
    if ended != "not yet":
        for t in (1, 2):
            core.report(name, t, curve(suggestion.config, t))
        core.tell(name, error=ended == "failed")
    report = collect(saved(searcher, tmp_path))
    hidden = [row.trial_id for row in report.trials if row.superseded]
    assert hidden == ([suggestion.promotes] if ended == "well" else [])
    assert "Promoted short runs: 1; 0 went on from a checkpoint, 1 were trained anew." in phases_table(report).notes


def test_of_several_states_the_newest_is_read(tmp_path: Path) -> None:
    """As after Tuner.restore: each driver saves a file of its own."""
    searcher = made({"x": tune.uniform(0, 1)})
    core = searcher.session.core
    for number in range(3):
        core.ask(str(number), full=True)
        for t in range(1, MAX_T + 1):
            core.report(str(number), t, 3.0 - number + 1 / t)
        core.tell(str(number))
        searcher.save(str(tmp_path / f"searcher-state-2026-01-0{number + 1}_00-00-00.pkl"))
    found = recommend(tmp_path)
    assert found is not None
    assert found.trial_id == "2"
    assert len(collect(tmp_path).trials) == 3


def test_a_page_before_the_first_trial(tmp_path: Path) -> None:
    report = collect(saved(made({"x": tune.uniform(0, 1)}), tmp_path))
    assert "No trial has reported a usable value yet." in write_html(report, tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize(("level", "spread"), [(5e6, 1e-3), (2.0, 1e-8), (3e12, 1e4)])
def test_digits_tell_trials_apart(level: float, spread: float, tmp_path: Path) -> None:
    """Naive: five digits, so every trial has 5e+06."""
    searcher = made({"x": tune.uniform(0, 1)}, budget=6)
    search(searcher.session.core, curve=lambda config, t: level + spread * (config["x"] + MAX_T - t))
    report = collect(saved(searcher, tmp_path))
    finals = [row.final for row in report.trials if row.final is not None]
    show = decimals(report)
    assert len({show(final) for final in finals}) == len(set(finals)) > 1
    assert len(show(spread / 3)) < 10  # a difference has no more digits than what it is a difference of


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    searcher = made({"x": tune.uniform(0, 1)})
    for name in ("first", "second"):
        searcher.session.core.ask(name)
        searcher.session.core.tell(name, error=True)
        place = tmp_path / f"trial_{name}"
        place.mkdir()
        (place / "error.txt").write_text("ValueError: " + "x" * 60_000)
    report = collect(saved(searcher, tmp_path))
    assert len(text(report)) < 3_000
    assert "ValueError: xxx" in text(report)
    page = write_html(report, tmp_path / "page.html").read_text("utf-8")
    assert "x" * 200 in page
    assert "x" * 400 not in page


def test_small_words(tmp_path: Path) -> None:
    searcher = made({"x": tune.uniform(0, 1)}, budget=1)
    search(searcher.session.core, curve=falling(lambda c: c["x"]))
    printed = text(collect(saved(searcher, tmp_path)))
    assert "1 full run\n" in printed
    assert "of 1 full run's worth of training" in " ".join(printed.split())
    assert "Gain over the best LEARN run" in " ".join(printed.split())


def test_once_shows_the_line_also_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: drawn in place, and taken away at the end."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    searcher = made({"x": tune.uniform(0, 1)})
    search(searcher.session.core, curve=falling(lambda c: c["x"]))
    assert cli.main(["watch", str(saved(searcher, tmp_path)), "--once"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("JoBS ")
    assert "\x1b" not in out


def test_watch_ends_after_a_quiet_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naive: a search that is not over, but whose driver has ended, is watched for ever."""
    searcher = made({"x": tune.uniform(0, 1)}, budget=8)
    core = searcher.session.core
    core.ask("a")
    core.report("a", 1, 1.0)
    core.tell("a")
    looks: list[float] = []
    monkeypatch.setattr(watch, "_QUIET_S", 0.0)
    monkeypatch.setattr("time.sleep", lambda s: looks.append(s) if len(looks) < 5 else pytest.fail("still watching"))
    assert not watch._followed(str(saved(searcher, tmp_path)), 1.0).over


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the sets of full runs that predictors were fitted to."""
    found: list[int] = []
    fit = predictions._fit

    def counted(core: Any, full: Any, max_t: float) -> Any:
        found.append(len(full))
        return fit(core, full, max_t)

    monkeypatch.setattr(predictions, "_fit", counted)
    return found


def test_watch_fits_once_for_each_state_saved(tmp_path: Path, fits: list[int]) -> None:
    searcher = made({"x": tune.uniform(0, 1)}, budget=20, num_full=6)
    search(searcher.session.core, curve=falling(lambda c: c["x"]))
    folder = saved(searcher, tmp_path)
    first = watch.look(str(folder))
    assert len(fits) == 1  # none for the predictions of full runs, which watch does not show
    again = watch.look(str(folder), first)
    assert len(fits) == 1
    assert again.standing == first.standing
    assert again.silent_s > first.silent_s
    os.utime(next(folder.iterdir()), (1, 1))
    watch.look(str(folder), again)
    assert len(fits) == 2


def test_of_many_full_runs_a_sample_is_left_out(
    tmp_path: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "_LEFT_OUT", 4)
    searcher = made({"x": tune.uniform(0, 1)}, budget=9)
    core = searcher.session.core
    for number in range(8):
        core.ask(str(number), full=True)
        for t in range(1, MAX_T + 1):
            core.report(str(number), t, number / 9 + 1 / t)
        core.tell(str(number))
    report = collect(saved(searcher, tmp_path))
    assert report.quality is not None
    assert report.left_out is not None
    assert (report.quality.n, report.left_out.n) == (8, 4)
    assert fits == [8, 7, 7, 7, 7]
    assert sum(row.predicted is not None for row in report.trials) == 4
    assert "Left out: each of 4 of them predicted by a fit without it" in " ".join(text(report).split())


def test_the_time_when_no_driver_lived_does_not_count(tmp_path: Path) -> None:
    """Restored after a night: Ray keeps the start of the trial that went on, and each driver has a file of its own."""
    searcher = made({"x": tune.uniform(0, 1)}, budget=10)
    core = searcher.session.core
    core.ask("a")
    core.report("a", 1, 1.0)
    saved(searcher, tmp_path)

    def state(name: str, began: float, spans: list[tuple[float, float]], **config: int) -> None:
        data = [
            [
                json.dumps({"trial_id": i, "status": "RUNNING", "config": config, "relative_logdir": i}),
                json.dumps({"start_time": start, "last_result": {"timestamp": end}}),
            ]
            for i, (start, end) in zip("abc", spans, strict=False)
        ]
        content = {"trial_data": data, "runner_data": {}, "stats": {"start_time": began}}
        (tmp_path / f"experiment_state-{name}.json").write_text(json.dumps(content))

    state("2025-12-31", 10, [(20, 30)])  # of another experiment in the same folder
    state("2026-01-01", 990, [(1000, 1100)])
    assert collect(tmp_path).wall_s == 100
    state("2026-01-02", 50_000, [(1000, 1100)])  # restored, and nothing reported yet
    assert collect(tmp_path).wall_s == 100
    state("2026-01-02", 50_000, [(1000, 50_060), (50_010, 50_050)])
    assert collect(tmp_path).wall_s == 160
    report = collect(tmp_path)
    assert [report.lived_s(1000, t) for t in (1050, 1100, 30_000, 50_000, 50_060)] == [50, 100, 100, 100, 160]
    [bars] = figures_trials.timeline(report).data
    assert bars.x == pytest.approx([160 / 60])  # naive: the night is drawn, too
    standing = watch.look(str(tmp_path)).standing
    assert standing.left_s == pytest.approx(160 / core.budget.spent * (10 - core.budget.spent))
    state("2026-01-03", 60_000, [(1000, 50_060), (60_010, 60_050)], __trial_index__=1)
    report = collect(tmp_path)
    assert report.wall_s == 210
    assert report.repeats == 2  # behind a Repeater
    assert "each configuration trained 2 times" in text(report)


def test_drivers_that_reported_nothing_add_no_pause(tmp_path: Path) -> None:
    """Naive: the pause up to each of them counts, the same seconds several times."""
    running = json.dumps({"trial_id": "a", "status": "RUNNING", "config": {}, "relative_logdir": "a"})
    for day, (began, ended) in enumerate([(990, 1100), (2000, 1100), (3000, 1100), (4000, 4050)], 1):
        times = json.dumps({"start_time": 1000, "last_result": {"timestamp": ended}})
        content = {"trial_data": [[running, times]], "runner_data": {}, "stats": {"start_time": began}}
        (tmp_path / f"experiment_state-2026-01-0{day}.json").write_text(json.dumps(content))
    filesystem, path = locate(tmp_path)
    found = ray_folder.read(filesystem, path)
    assert found.pauses == ((1100, 4000),)
    assert found.wall_s == 150
