"""Folders that are damaged, or made to harm who looks at them: links out, pipes, escapes, absurd sizes and numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import foreign_runs
import pytest
import saved_runs
from core_runs import search
from foreign_runs import losses, with_status
from ray import tune

from jobs_ray import StateError, cli
from jobs_ray.report import ray_folder
from jobs_ray.report.gather import collect
from jobs_ray.tune import results
from jobs_ray.tune.results import load_session


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a JoBSSearcher saved at its end, as JSON."""
    searcher = saved_runs.made({"x": tune.loguniform(1e-3, 1)}, budget=3)
    search(searcher.session.core, curve=saved_runs.falling(lambda c: c["x"]))
    [file] = saved_runs.saved(searcher, tmp_path_factory.mktemp("made")).iterdir()
    return json.loads(file.read_text())


def planted(state: Any, folder: Path, path: tuple[Any, ...], value: Any) -> Path:
    """A folder whose state has `value` at this place of its session."""
    changed = json.loads(json.dumps(state))
    node = changed["session"]
    for key in path[:-1]:
        node = node[key]
    assert path[-1] in node
    node[path[-1]] = value
    (folder / "searcher-state-2026-01-01_00-00-00.pkl").write_text(json.dumps(changed))
    return folder


# ---- the state of a JoBSSearcher


@pytest.mark.parametrize("command", [["report"], ["watch", "--once"]], ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("optimizer", "settings", "budget"), 1e308),
        (("settings", "trial_timeout_s"), 10**400),
        (("space", "items", 0, 1, "q"), 0),
        (("space", "items", 0, 1, "q"), 10**400),
    ],
    ids=["budget", "timeout", "no step", "long step"],
)
def test_numbers_that_cannot_be_reckoned_with_are_one_sentence(
    command: list[str],
    path: tuple[Any, ...],
    value: Any,
    state: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(planted(state, tmp_path, path, value))
    assert cli.main([*command, folder]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"jobs-ray: the state saved in {folder} is damaged (")
    assert len(captured.err.splitlines()) == 1
    with pytest.raises(StateError, match="is damaged"):
        collect(folder)


@pytest.mark.parametrize("path", [("metric",), ("optimizer", "settings", "cost_unit")], ids=lambda path: str(path[-1]))
def test_watch_spells_escapes_out(
    path: tuple[Any, ...], state: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "\x1b[31mrun"
    folder.mkdir()
    planted(state, folder, path, "lo\x1b[2Jss")
    for more in ([], ["--once"]):
        assert cli.main(["watch", str(folder), *more]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "lo\\x1b[2Jss" in out


def test_a_state_that_is_too_large_is_refused(state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_LARGEST", 100)
    with pytest.raises(StateError, match="a state has at most 100"):
        load_session(planted(state, tmp_path, ("metric",), "loss"))


def test_a_damaged_state_makes_no_folder_another_searchers(tmp_path: Path) -> None:
    folder = foreign_runs.made(tmp_path, {"a": ({"x": 1}, losses(2, 1))})
    (folder / "searcher-state-2026.pkl").write_text('{"format": "jobs-')
    with pytest.raises(StateError):
        collect(folder)


# ---- links that lead out, and pipes


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An experiment of two trials, of which `a` raised, in a folder that has neighbours."""
    (tmp_path / "run").mkdir()
    trials = {"a": ({"x": 1}, losses(2, 1)), "b": ({"x": 2}, losses(4, 3))}
    folder = with_status(foreign_runs.made(tmp_path / "run", trials), a="ERROR")
    (folder / "a" / "error.txt").write_text("own")
    return folder


def test_a_searchers_state_that_is_a_link_out_says_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text('{"format": "jobs-ray-searcher"}')
    (run / "searcher-state-2026.pkl").symlink_to(tmp_path / "outside")
    assert not collect(run).ours


@pytest.mark.parametrize("name", ["a/result.json", "a/error.txt", "experiment_state-2027.json"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_out_and_pipes_are_not_read(name: str, kind: str, run: Path, tmp_path: Path) -> None:
    target, outside = run / name, tmp_path / "outside"
    texts = {"result.json": '{"training_iteration": 1, "loss": 77}', "error.txt": "secret"}
    newer = (run / "experiment_state-2026.json").read_text().replace('\\"b\\"', '\\"secret\\"')
    outside.write_text(texts.get(target.name, newer))
    target.unlink(missing_ok=True)
    if kind == "link":
        target.symlink_to(outside)
    else:
        os.mkfifo(target)
    found = collect(run)
    assert [row.trial_id for row in found.trials] == ["a", "b"]
    assert found.trials[0].curve == (() if target.name == "result.json" else ((1, 2), (2, 1)))
    assert found.trials[0].reason == (None if target.name == "error.txt" else "own")


def test_links_of_whole_trials_are_followed_within_the_experiment_only(run: Path, tmp_path: Path) -> None:
    (run / "b").rename(run / "moved")
    (run / "b").symlink_to("moved")
    (tmp_path / "shortcut").symlink_to(run)
    assert [row.curve[-1] for row in collect(tmp_path / "shortcut").trials] == [(2, 1), (2, 3)]
    (run / "a").rename(tmp_path / "a")
    (run / "a").symlink_to(tmp_path / "a")
    for folder in (run, tmp_path / "shortcut"):
        [row] = collect(folder).trials
        assert row.trial_id == "b"


def test_the_error_of_a_trial_that_is_a_link_out_is_not_read(tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "error.txt").write_text("secret")
    searcher = saved_runs.made({"x": tune.uniform(0, 1)})
    searcher.session.core.ask("first")
    searcher.session.core.tell("first", error=True)
    (folder / "trial_first").symlink_to(outside)
    [row] = collect(saved_runs.saved(searcher, folder)).trials
    assert row.reason == "ended before its first report"


# ---- absurd sizes and numbers


def test_files_that_are_too_large_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = {"a": ({"x": 1}, losses(2, 1)), "b": ({"x": 2}, losses(*range(90, 0, -1)))}
    folder = foreign_runs.made(tmp_path, trials)
    large = json.loads((folder / "experiment_state-2026.json").read_text()) | {"more": "x" * 9000}
    (folder / "experiment_state-2027.json").write_text(json.dumps(large | {"trial_data": large["trial_data"][:1]}))
    monkeypatch.setattr(ray_folder, "_RESULT_BYTES", 2000)
    monkeypatch.setattr(ray_folder, "_STATE_BYTES", 9000)
    assert {row.trial_id: len(row.curve) for row in collect(folder).trials} == {"a": 2, "b": 0}


def test_numbers_that_no_float_holds_and_impossible_times(run: Path) -> None:
    file = run / "experiment_state-2026.json"
    content = json.loads(file.read_text())
    content["trial_data"][1][1] = json.dumps({"start_time": 1e300, "last_result": {"timestamp": 1e301}})
    file.write_text(json.dumps(content))
    first = '{"training_iteration": 1, "loss": ' + "9" * 400 + "}"
    (run / "b" / "result.json").write_text(f'{first}\n{{"training_iteration": 2, "loss": 2}}')
    found = collect(run)
    assert found.wall_s == 10
    assert found.trials[1].failed_at == (1,)
