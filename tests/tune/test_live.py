"""The line that shows where a search stands; and a mixture in Tune's own table."""

from __future__ import annotations

import copy
import io
import pickle
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from core_runs import search
from ray import cloudpickle, tune
from tune_trainables import STEPS, Class, half

from jobs_ray import JoBSScheduler, JoBSSearcher, cli, mixture
from jobs_ray.tune import live
from jobs_ray.tune.live import LiveLine, Standing, standing
from jobs_ray.tune.weights import Weights, readable

STANDING = Standing("loss", "search", 12, 2, 4.25, 10.0, 130.0, 1.2345678, (1.2, 0.034), 0.0511)


def test_the_line_leaves_out_what_is_not_known() -> None:
    assert STANDING.line() == (
        "JoBS search | 4.2 of 10 full runs | 12 trials, 2 running | about 2 min left | best confirmed loss 1.235 | "
        "best predicted 1.2 +- 0.034 | predictor error 0.051"
    )
    bare = Standing("loss", "learn", 1, 1, 0.0, None, None, None, None, None)
    assert bare.line() == "JoBS learn | 0.0 full runs | 1 trials, 1 running"
    assert [live.readable(s) for s in (40, 700, 12600)] == ["40 s", "12 min", "3.5 h"]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_line_has_the_best_in_the_users_sign(mode: str) -> None:
    searcher = JoBSSearcher({"x": tune.uniform(0, 1)}, metric="loss", mode=mode, max_t=8, budget=5, seed=0)
    core = searcher.session.core
    search(core, curve=lambda config, t: config["x"] + 1 / t, end=8)
    full = [trial for trial in core.trials.values() if trial.final is not None]
    promoted = [trial.promotes for trial in full if trial.promotes]
    open_ = [name for name, trial in core.trials.items() if trial.final is None and name not in promoted]
    sign, best = core.settings.sign, min if mode == "min" else max
    known = {open_[0]: (0.3, 0.1), open_[1]: (0.6, 0.1), promoted[0]: (sign * 99.0, 0.1)}
    found = standing(searcher.session, known, None, 0.0, 0.0)
    assert found.confirmed == best(sign * trial.final for trial in full)
    assert found.predicted == (best(0.3, 0.6), 0.1)  # of one that was promoted, the final counts


def test_plain_lines_come_now_and_then_and_only_when_something_changed(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    line = LiveLine(clock=lambda: now[0])
    for seconds in range(100):
        now[0] = float(seconds)
        line.update(lambda: STANDING)
    line.close()
    assert capsys.readouterr().out == f"{STANDING.line()}\n"


def test_on_a_terminal_it_is_one_line_below_what_others_print(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    line = LiveLine()
    line.show(STANDING)
    print("a line of Tune's")
    line.close()
    print("after")
    assert sys.stdout is terminal
    shown = terminal.getvalue()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert text.index("JoBS search") < text.index("a line of Tune's") < text.index("after")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


@pytest.mark.parametrize("verbose", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_silent_when_tune_is(
    cluster: str, tmp_path: Any, verbose: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_PLAIN_S", 0.0)
    monkeypatch.delenv("RAY_AIR_NEW_OUTPUT", raising=False)
    tune.Tuner(
        half(Class),
        param_space={"x": tune.uniform(0.0, 1.0), "data": mixture("code", "prose")},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=6, max_concurrent_trials=2, reuse_actors=True,
            search_alg=JoBSSearcher(max_t=STEPS, short_t=2, budget=4, seed=0), scheduler=JoBSScheduler(),
        ),
        run_config=tune.RunConfig(name="run", storage_path=str(tmp_path), verbose=verbose),
    ).fit()  # fmt: skip
    out = capsys.readouterr().out
    assert bool(re.search(r"^JoBS (learn|search|confirm) \| \d\.\d of 4 full runs \| ", out, re.M)) == bool(verbose)
    if verbose:
        table = out[out.rindex("Trial name") :]
        assert re.search(r"(code|prose) \.\d\d( (code|prose) \.\d\d)? ", table)
        assert "nan" not in table
    assert cli.main(["watch", str(tmp_path / "run"), "--once"]) == 0
    assert re.fullmatch(r"JoBS \w+ \| \d\.\d of 4 full runs \| 6 trials, 0 running.*\n", capsys.readouterr().out)


def test_watch_says_what_is_missing(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", str(tmp_path), "--once"]) == 2
    assert "holds no searcher state" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("weights", "shown"),
    [
        ({"code": 0.2, "prose": 0.5, "maths": 1e-9, "x": 0.3}, "pr .50 x .30 co .20"),
        ({"code": 0.2, "prose": 0.8}, "prose .80 code .20"),
        ({"code": 1.0, "prose": 0.0}, "code 1.00"),
        (dict.fromkeys("abcdefghij", 0.1), "a .10 b .10 c .10 +7"),
        ({"wiki-en": 0.5, "wiki-de": 0.5}, "wiki-e .50 +1"),
    ],
)
def test_weights_fit_into_a_cell_of_tunes_table(weights: dict[str, float], shown: str) -> None:
    assert readable(weights) == shown
    assert len(shown) <= 20


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_a_trainable_gets_a_plain_dict(dumps: Callable[[Any], bytes]) -> None:
    config = {"mixture": Weights({"code": 0.25, "prose": 0.75})}
    assert str(copy.deepcopy(config)["mixture"]) == "prose .75 code .25"
    assert type(pickle.loads(dumps(config))["mixture"]) is dict
