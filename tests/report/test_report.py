"""`jobs-ray report` on the folders of real, small Tune experiments."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before Ray starts: its workers inherit it

import ray
from ray import tune

from jobs_ray import JoBSScheduler, JoBSSearcher, ScalingLawPredictor, cli, mixture, recommend
from jobs_ray.report import command as report_command
from jobs_ray.report import export, foreign, sensitivity
from jobs_ray.report.answer import answer
from jobs_ray.report.experiment import Report
from jobs_ray.report.figures import figures
from jobs_ray.report.figures_trials import calibration_sentence
from jobs_ray.report.gather import collect
from jobs_ray.report.page import write_html
from jobs_ray.report.predictions import Predicted
from jobs_ray.report.tables import decimals, text
from jobs_ray.trials import TrialStatus
from jobs_ray.tune.results import load_session

MAX_T, SHORT_T, BUDGET = 8, 2, 14
RAISES, DIVERGES = 0.0123, 0.0456  # learning rates that are given first
SHARES = {"code": 0.2, "prose": 0.5, "maths": 0.3}


@dataclasses.dataclass(frozen=True)
class Experiment:
    folder: Path
    summary: dict[str, Any]  # of the searcher that ran it


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Experiment]]:
    """`run(searcher, scheduler, **TuneConfig)`. Shuts its Ray down again: other folders start their own."""

    class Model(tune.Trainable):  # local, so that Ray pickles it by value
        def setup(self, config: dict[str, Any]) -> None:
            self.t = 0

        def reset_config(self, config: dict[str, Any]) -> bool:
            self.config, self.t = config, 0
            return True

        def step(self) -> dict[str, Any]:
            self.t += 1
            if self.config["lr"] == RAISES and self.t == 2:
                raise RuntimeError("the trainable fails on purpose")
            off = (self.config["mixture"]["code"] - 0.6) ** 2 + 0.1 * (math.log10(self.config["lr"]) + 2) ** 2
            loss = math.nan if self.config["lr"] == DIVERGES else 2.0 + off + 1.5 / self.t
            return {"loss": loss, "accuracy": 1.0 / loss, "done": self.t >= MAX_T}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, int]:
            return {"t": self.t}

        def load_checkpoint(self, checkpoint: dict[str, int]) -> None:
            self.t = checkpoint["t"]

    mine = not ray.is_initialized()
    if mine:
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)

    def fit(searcher: Any, scheduler: Any = None, **config: Any) -> Experiment:
        results = tune.Tuner(
            Model,
            param_space={"mixture": mixture(*SHARES), "lr": tune.loguniform(1e-4, 1e-1), "fixed": "constant"},
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                reuse_actors=True,
                **{"metric": "loss", "mode": "min", "num_samples": -1, "max_concurrent_trials": 2} | config,
            ),
            run_config=tune.RunConfig(name="run", storage_path=str(tmp_path_factory.mktemp("exp")), verbose=0),
        ).fit()
        return Experiment(Path(results.experiment_path), searcher.report() if searcher else {})

    yield fit
    if mine:
        ray.shutdown()


@pytest.fixture(scope="module")
def searched(run: Callable[..., Experiment]) -> Experiment:
    """All three phases, with a trial that raises and one that diverges."""
    points = [{"mixture": SHARES, "lr": lr, "fixed": "constant"} for lr in (RAISES, DIVERGES)]
    searcher = JoBSSearcher(max_t=MAX_T, budget=BUDGET, short_t=SHORT_T, points_to_evaluate=points, seed=0)
    return run(searcher, JoBSScheduler())


@pytest.fixture(scope="module")
def report(searched: Experiment) -> Report:
    return collect(searched.folder)


def test_the_data_is_that_of_the_searcher(searched: Experiment, report: Report) -> None:
    live = searched.summary
    assert report.budget == live["budget"]
    assert report.plan == live["plan"]
    assert [row.trial_id for row in report.trials] == [row["trial_id"] for row in live["trials"]]
    assert [row.final for row in report.trials] == [row["final"] for row in live["trials"]]
    assert [row.config for row in report.trials] == [row["config"] for row in live["trials"]]
    assert report.recommendation == recommend(searched.folder)
    assert report.recommendation is not None
    assert report.recommendation.confirmed
    assert report.mixtures == ("mixture",)
    assert report.searched == {"lr", "mixture/code", "mixture/prose", "mixture/maths"}


def test_a_full_run_is_predicted_by_a_predictor_that_has_not_seen_it(searched: Experiment, report: Report) -> None:
    core = load_session(searched.folder).core
    full = [trial for trial in core.trials.values() if trial.final is not None]
    assert len(full) >= 4
    for trial in full:
        others = [t for t in full if t is not trial]
        features = core.space.features(np.array([t.x for t in (*others, trial)]))
        fitted = ScalingLawPredictor().fit(features[:-1], [t.curve for t in others], MAX_T)
        expected = fitted.predict(features[-1:], [trial.curve.up_to(SHORT_T)])
        row = next(row for row in report.trials if row.trial_id == trial.trial_id)
        assert row.predicted is not None
        assert row.predicted.mean == pytest.approx(-expected.mean[0])  # minimised
        assert row.predicted.stddev == pytest.approx(expected.stddev[0])
        low, high = expected.interval(0.9)
        assert (row.predicted.low, row.predicted.high) == pytest.approx((-high[0], -low[0]))
        assert row.predicted.low < row.predicted.mean < row.predicted.high


def test_accuracy_is_that_of_the_predictions_shown(searched: Experiment, report: Report) -> None:
    pairs = [(row.predicted, row.final) for row in report.trials if row.predicted and row.final is not None]
    assert report.left_out is not None
    assert report.left_out.n == len(pairs)
    assert report.left_out.rmse == pytest.approx(math.sqrt(np.mean([(p.mean - final) ** 2 for p, final in pairs])))
    assert report.left_out.coverage == np.mean([p.low <= final <= p.high for p, final in pairs])
    variance = np.var([final for _, final in pairs], ddof=1)
    assert report.left_out.r2 == pytest.approx(1 - report.left_out.rmse**2 / variance)
    core = load_session(searched.folder).core
    full = [trial for trial in core.trials.values() if trial.final is not None]
    features = core.space.features(np.array([trial.x for trial in full]))
    own = ScalingLawPredictor().fit(features, [trial.curve for trial in full], MAX_T).cross_validate(SHORT_T)
    assert report.quality == own
    assert own.n == len(pairs)
    table = text(report).split("Predictor of final values")[1]
    assert f"{report.left_out.r2:.2f}" in table
    assert f"{own.r2:.2f}" in table


def test_tables(searched: Experiment, report: Report) -> None:
    printed = text(report)
    titles = re.findall(r"^(.+)\n-{4,}$", printed, re.M)
    assert titles == [
        "Plan",
        "Phases and budget",
        "Predictor of final values",
        "Top trials",
        "Failed trials",
        "Recommendation",
    ]
    assert max(len(line) for line in printed.splitlines()[1:]) <= 80  # the first one is the path
    spent: dict[str, float] = {}
    for phase, cost in re.findall(r"^(learn|search|confirm) .* (\d+\.\d\d)$", printed, re.M):
        spent[phase] = spent.get(phase, 0.0) + float(cost)
    assert spent == pytest.approx(searched.summary["budget"]["by_phase"], abs=0.02)
    assert "CONFIRMED by a full run" in printed
    assert "NOT CONFIRMED" not in printed
    assert "fixed constant" not in printed  # not searched


def test_the_best_come_first_and_every_configuration_once(report: Report) -> None:
    best = report.best_first()
    estimates = [row.estimate for row in best]
    assert estimates == sorted(estimates)  # type: ignore[type-var]
    promoted = {row.promotes for row in report.trials if row.final is not None}
    assert promoted - {None}
    assert not promoted & {row.trial_id for row in best}
    confirmed = [row for row in best if row.final is not None]
    assert report.recommendation is not None
    assert confirmed[0].trial_id == report.recommendation.trial_id


def test_failures_come_with_their_reason(report: Report) -> None:
    failed = {row.config["lr"]: row.reason for row in report.trials if row.status is TrialStatus.FAILED}
    assert set(failed) == {RAISES, DIVERGES}
    assert failed[RAISES] == "RuntimeError: the trainable fails on purpose"
    assert failed[DIVERGES] == "reported no finite value at t = 2"
    assert all(reason in text(report) for reason in failed.values() if reason)


def test_in_a_new_process_with_a_page(searched: Experiment, report: Report, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    command = [Path(sys.executable).with_name("jobs-ray"), "report", searched.folder, "--html", page]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{text(report)}\n\nFigures: {page}\n"
    html = page.read_text(encoding="utf-8")
    assert html.count('class="plotly-graph-div"') == len(figures(report))
    outside_scripts = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", html[: html.index("<script")] + outside_scripts)
    assert not re.search(r"<script[^>]+src=", html)  # nothing is loaded: it works offline
    assert report.recommendation is not None
    assert report.recommendation.trial_id in html


def test_a_closed_pipe_is_no_error_and_leaves_the_page(searched: Experiment, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    command = [Path(sys.executable).with_name("jobs-ray"), "report", searched.folder, "--html", page]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert page.exists()


def test_figures_show_the_trials(report: Report) -> None:
    shown = {found.name: found.figure for found in figures(report)}
    assert list(shown) == [
        *("curves", "predictions", "importance", "interaction", "parameters", "parallel", "mixtures"),
        *("progress", "budget", "time"),
    ]
    curves, calibration, progress, mixtures = (shown[n] for n in ("curves", "predictions", "progress", "mixtures"))
    drawn = [trace for trace in curves.data if trace.name != "final" and not trace.name.startswith("predicted")]
    points = sum(y is not None for trace in drawn for y in trace.y)
    assert points == sum(len(row.curve) for row in report.trials)
    means = sorted(row.predicted.mean for row in report.best_first() if row.final is None and row.predicted)
    predicted = [trace for trace in curves.data if trace.name.startswith("predicted")]
    assert sorted(y for trace in predicted for y in trace.y) == means
    finals = sorted(row.final for row in report.trials if row.final is not None)
    phases = [trace for trace in calibration.data if trace.name in ("learn", "search", "confirm")]
    assert sorted(x for trace in phases for x in trace.x) == finals
    assert all(high > 0 for trace in phases for high in trace.error_y.array)
    assert calibration.layout.xaxis.range == calibration.layout.yaxis.range
    assert calibration.layout.yaxis.scaleanchor == "x"
    cost = sum(x for trace in shown["budget"].data for x in trace.x)
    assert cost == pytest.approx(report.budget["spent"])
    assert len(shown["time"].data) == 3
    assert sum(len(trace.y) for trace in shown["time"].data) == sum(row.ended is not None for row in report.trials)
    best = progress.data[0]
    assert list(best.y) == sorted(best.y, reverse=True)
    assert best.y[-1] == finals[0]
    assert best.x[-1] == pytest.approx(report.budget["spent"])
    heights = np.sum([trace.y for trace in mixtures.data], axis=0)
    assert [trace.name for trace in mixtures.data] == list(SHARES)
    assert heights == pytest.approx(np.ones(len(report.best_first())), abs=2e-3)  # shown to a thousandth
    lines = shown["parallel"].data[0]
    assert [axis.label for axis in lines.dimensions] == [*SHARES, "lr", "loss"]
    assert lines.dimensions[-1]["values"] == tuple(row.estimate for row in report.best_first())


def test_a_page_escapes_what_users_write(report: Report, tmp_path: Path) -> None:
    evil = "<script>x</script>"
    rows = tuple(
        dataclasses.replace(
            row, trial_id=row.trial_id + evil, reason=row.reason and evil, config={**row.config, evil: evil}
        )
        for row in report.trials
    )
    found = report.recommendation
    assert found is not None
    best = dataclasses.replace(found, trial_id=found.trial_id + evil, config={**found.config, evil: evil})
    odd = dataclasses.replace(
        report, metric=evil, time_attr=evil, folder=evil, trials=rows, recommendation=best, searched=frozenset({evil})
    )
    html = write_html(odd, tmp_path / "odd.html").read_text(encoding="utf-8")
    assert evil not in html
    assert html.count("&lt;script&gt;x") > 2 * len(rows)


def test_nothing_confirmed_yet(run: Callable[..., Experiment]) -> None:
    searcher = JoBSSearcher(max_t=MAX_T, short_t=SHORT_T, seed=0)
    found = collect(run(searcher, JoBSScheduler(), num_samples=1).folder)
    assert [row.final for row in found.trials] == [None]
    printed = text(found)
    assert f"1.  {found.trials[0].trial_id}  learn  {SHORT_T}  {found.trials[0].curve[-1][1]:.4f}" in printed
    value = found.trials[0].curve[-1][1]
    sentence = f"loss = {value:.4f} (last value at training_iteration = {SHORT_T} of {MAX_T}, not a prediction)"
    assert "NOT CONFIRMED" in printed
    assert sentence in " ".join(printed.split())
    assert "+-" not in printed
    assert "None yet: it learns from three full runs or more, there are 0." in printed
    assert [figure.name for figure in figures(found)] == ["curves", "budget", "time"]


def test_maximised_and_without_a_scheduler(run: Callable[..., Experiment]) -> None:
    found = collect(run(JoBSSearcher(seed=0), metric="accuracy", mode="max", num_samples=5).folder)
    finals = [row.final for row in found.trials if row.final is not None]
    assert len(finals) == 5
    assert found.best_first()[0].final == max(finals)
    assert found.recommendation is not None
    assert found.recommendation.mean == max(finals)
    printed = text(found)
    assert "accuracy, maximised" in printed
    assert "Every trial ran to its own end" in printed
    assert all(row.predicted and 0 < row.predicted.mean < 1 for row in found.trials)
    best = next(shown.figure for shown in figures(found) if shown.name == "progress").data[0]
    assert list(best.y) == sorted(best.y)


def test_a_missed_prediction_is_named(report: Report) -> None:
    rows = [row for row in report.trials if row.final is not None and row.predicted is not None]
    first, final = rows[0], rows[0].final
    assert final is not None
    missed = dataclasses.replace(first, predicted=Predicted(final - 0.6, 0.06, final - 0.7, final - 0.5))
    others = [dataclasses.replace(r, predicted=Predicted(r.final or 0, 1, -9, 9)) for r in rows[1:]]
    said = calibration_sentence(report, [missed, *others])
    assert said.startswith(f"1 of {len(rows)} finals lie outside")
    assert f"trial {first.trial_id} was predicted" in said
    assert "6.0 times the half width" in said
    assert calibration_sentence(report, others).startswith("0 of")


def test_the_answer_says_what_was_gained_over_what(report: Report) -> None:
    show = decimals(report)
    found = answer(report, show)
    assert found is not None
    assert sum(found.mixtures["mixture"].values()) == pytest.approx(1, abs=2e-3)
    assert set(found.settings) == {"lr"}
    assert found.fixed == {"fixed": "constant"}
    assert report.default  # the first of points_to_evaluate, which fails at its second report
    learn = next(row for row in report.trials if row.phase == "learn" and row.final is not None)
    assert report.recommendation is not None
    gain = (learn.final or 0.0) - report.recommendation.mean
    better = answer(dataclasses.replace(report, default=(learn.trial_id,)), show)
    assert better is not None
    said = dict(better.facts)["gain over the default"]
    assert said.startswith("none" if gain == 0 else f"{show(gain)} better")
    silent = tuple(dataclasses.replace(row, predicted=None) for row in report.trials)
    unknown = answer(dataclasses.replace(report, trials=silent), show)
    assert unknown is not None
    assert dict(unknown.facts)["gain over the default"].startswith("not known")
    tiny = {**report.recommendation.config, "mixture": {"code": 1 - 2e-9, "prose": 1e-9, "maths": 1e-9}}
    small = dataclasses.replace(report, recommendation=dataclasses.replace(report.recommendation, config=tiny))
    assert (answer(small, show) or found).mixtures["mixture"] == {"code": 1 - 2e-9, "prose": 0.0, "maths": 0.0}


def test_sensitivity_finds_what_the_value_depends_on(report: Report) -> None:
    """Of a value that is known everywhere: the best lr is another one for every share of code."""
    space = report.space
    assert space is not None
    X = space.sample(60, np.random.default_rng(0))
    first = {block.name: block.columns.start for block in space.blocks}
    values = (X[:, first["lr"]] - 0.2 - 0.6 * X[:, first["mixture"]]) ** 2
    rows = tuple(
        dataclasses.replace(report.trials[0], trial_id=str(i), x=tuple(x), final=float(v), superseded=False)
        for i, (x, v) in enumerate(zip(X, values, strict=True))
    )
    made = dataclasses.replace(report, trials=rows)
    surface = sensitivity.fit(made)
    assert surface is not None
    effects = {effect.name: effect for effect in sensitivity.effects(space, surface)}
    assert set(effects) == {"mixture", "lr"}
    assert effects["lr"].total > effects["mixture"].total > 0.1
    assert all(effect.alone < effect.total for effect in effects.values())
    found = sensitivity.strongest_interaction(made, surface)
    assert found is not None
    assert (found.domain, found.parameter) == ("code", "lr")
    assert found.best[0] < found.best[-1]  # more code, larger rate


def test_from_a_vertex_the_other_domains_share_alike(report: Report) -> None:
    space = report.space
    assert space is not None
    mixture = next(block for block in space.blocks if block.name == "mixture")
    other = next(block for block in space.blocks if block.name == "lr")
    x = space.sample(1, np.random.default_rng(0))[0]
    number = list(mixture.parameter.names).index("code")
    x[mixture.columns] = np.eye(3)[number]
    seen: list[Any] = []

    def surface(X: Any) -> Any:
        seen.append(X)
        return X[:, other.columns.start]

    centre = dataclasses.replace(report.trials[0], x=tuple(x))
    found = sensitivity._over(report, surface, centre, mixture, number, "code", other)
    assert found is not None
    weights = seen[0][:, mixture.columns]
    assert np.unique(weights[:, number]) == pytest.approx(found.weights)
    rest = np.delete(weights, number, axis=1)
    assert rest == pytest.approx(np.repeat((1.0 - weights[:, [number]]) / 2.0, 2, axis=1))


@pytest.mark.parametrize(
    ("metric", "mode"), [("val_ppl", "min"), ("bpb", "min"), ("cross_entropy", "min"), ("f1", "max")]
)
def test_the_mode_of_another_searchers_metric(metric: str, mode: str) -> None:
    assert foreign._mode_of(metric) == mode


def test_files_for_other_programs(searched: Experiment, report: Report, tmp_path: Path) -> None:
    out = {name: tmp_path / f"trials.{name}" for name in ("csv", "json")}
    assert cli.main(["report", str(searched.folder), "--csv", str(out["csv"]), "--json", str(out["json"])]) == 0
    with out["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial_id"] for row in rows] == [row.trial_id for row in report.trials]
    assert [float(row["config/lr"]) for row in rows] == [row.config["lr"] for row in report.trials]
    assert [row["final"] for row in rows] == ["" if row.final is None else repr(row.final) for row in report.trials]
    data = json.loads(out["json"].read_text())
    assert report.recommendation is not None
    assert data["recommendation"]["config"] == report.recommendation.config
    assert [len(trial["curve"]) for trial in data["trials"]] == [len(row.curve) for row in report.trials]


def test_no_cell_is_a_formula(report: Report) -> None:
    evil = ["=cmd|'/c calc'!A1", "+1", "-1+1", "@sum(a1)", "\t=1", "\r=1"]
    row = dataclasses.replace(report.trials[0], config={f"={i}": text for i, text in enumerate(evil)}, reason="=1+1")
    file = io.StringIO()
    export.write_csv(dataclasses.replace(report, trials=(row,)), file)
    cells = [cell for line in csv.reader(io.StringIO(file.getvalue(), newline="")) for cell in line]
    assert sum(cell.startswith("'") for cell in cells) == 4 + 1
    assert not any(cell.startswith(("=", "+", "@", "-1+", "\t", "\r")) for cell in cells)
    assert len(file.getvalue().splitlines()) == 2


def test_another_searchers_folder_is_called_that(
    run: Callable[..., Experiment], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(None, tune.schedulers.ASHAScheduler(max_t=MAX_T, grace_period=2), num_samples=10).folder
    found = collect(folder)
    assert found.searcher == "Ray Tune's random or grid search"
    assert (found.metric, found.mode) == ("loss", "min")
    assert found.mixtures == ("mixture",)
    assert {row.status for row in found.trials} <= {TrialStatus.COMPLETED, TrialStatus.STOPPED}
    finals = [row.final for row in found.trials if row.final is not None]
    assert 1 <= len(finals) < 10
    assert found.best_first()[0].final == min(finals)
    assert {"curves", "parameters", "progress", "budget", "time"} <= {figure.name for figure in figures(found)}
    assert cli.main(["report", str(folder), "--html", str(tmp_path / "x.html")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Experiment by Ray Tune's random or grid search (no JoBSSearcher took part)" in out
    assert "The best trial that trained to the end" in out
    assert "loss, minimised (guessed from the name; --mode says it)" in out
    assert "JoBS report" not in out
    for option in ("--metric", "--time-attr"):  # a slip, and no empty report
        assert cli.main(["report", str(folder), option, "nonexist"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"no trial reported 'nonexist' as a number; {option} is one of: accuracy, " in said


def test_what_a_search_knows_cannot_be_said_otherwise(searched: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(searched.folder), "--metric", "loss", "--mode", "min"]) == 0
    capsys.readouterr()
    for option, value in (("--metric", "accuracy"), ("--mode", "max"), ("--time-attr", "step")):
        assert cli.main(["report", str(searched.folder), option, value]) == 2
        assert f"{option} is {value!r}, but {searched.folder} is a search by" in capsys.readouterr().err


def test_the_file_that_cannot_be_written_is_named(
    searched: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    monkeypatch.setattr(report_command, "_require", lambda *_: None)  # neither kaleido nor Chrome is looked for
    assert cli.main(["report", str(searched.folder), "--html", str(tmp_path / "x.html"), "--png", str(taken)]) == 2
    assert f"cannot write {taken}: File exists" in " ".join(capsys.readouterr().err.split())


def test_watch_ends_when_the_search_is_over(searched: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", str(searched.folder)]) == 0
    out = capsys.readouterr().out
    assert "The search is over" in out
    assert "left" not in out
    assert out.count("JoBS ") == 1  # it was printed as it was found


def test_watch_says_that_a_driver_may_be_dead(
    searched: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Naive: "2 running, about 3 min left" for ever."""
    folder = shutil.copytree(searched.folder, tmp_path / "killed")
    for state in folder.glob("searcher-state-*"):
        data = json.loads(state.read_text())
        data["session"]["optimizer"]["trials"][-1]["status"] = "running"
        state.write_text(json.dumps(data))
        os.utime(state, (time.time() - 600,) * 2)
    assert cli.main(["watch", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "1 running" in out
    assert re.search(r"Nothing was saved for 10 min while trials run: the driver may be dead", out)
    assert "is over" not in out
    assert not re.search(r"about .* left", out)


def test_experiments_are_compared(
    searched: Experiment, run: Callable[..., Experiment], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run(JoBSSearcher(seed=0), metric="accuracy", mode="max", num_samples=2).folder
    page = tmp_path / "both.html"
    assert cli.main(["report", str(searched.folder), str(other), "--html", str(page)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Not comparable: metrics differ (accuracy, loss)." in out
    assert searched.folder.parent.name in out  # both are called "run": as much of the path as tells them apart
    assert page.read_text().count('class="plotly-graph-div"') == 1
    assert cli.main(["report", str(searched.folder), str(other), "--csv", "-"]) == 2
    assert "one experiment" in capsys.readouterr().err


def _empty(folder: Path, state: Path) -> None:
    state.unlink()


def _cut(folder: Path, state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-20])


def _binary(folder: Path, state: Path) -> None:
    state.write_bytes(pickle.dumps({"another": "searcher"}))


def _version(folder: Path, state: Path) -> None:
    state.write_text(json.dumps(json.loads(state.read_text()) | {"searcher_version": 99}))


def _incomplete(folder: Path, state: Path) -> None:
    data = json.loads(state.read_text())
    data["session"]["optimizer"]["trials"][0].popitem()
    state.write_text(json.dumps(data))


def _planted(folder: Path, state: Path) -> None:
    """Older states may hold pickles in any place of the space."""
    data = json.loads(state.read_text())
    bomb = base64.b64encode(pickle.dumps(Bomb())).decode()
    data["session"]["space"]["items"].append(["planted", {"$": "pickle", "data": bomb}])
    state.write_text(json.dumps(data))


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["JOBS_RAY_TEST_BOMB"],)


def test_reading_a_folder_runs_no_code_from_it(
    searched: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_RAY_TEST_BOMB", str(tmp_path / "ran"))
    [state] = searched.folder.glob("searcher-state-*.pkl")
    shutil.copy(state, tmp_path)
    _planted(tmp_path, tmp_path / state.name)
    assert cli.main(["report", str(tmp_path)]) == 0
    found = recommend(tmp_path)
    assert found is not None
    assert repr(found.config["planted"]) == "<object, not read>"
    assert not (tmp_path / "ran").exists()


def test_escapes_do_not_reach_the_terminal(
    searched: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "\x1b[31mrun"
    folder.mkdir()
    [state] = searched.folder.glob("searcher-state-*.pkl")
    text_of = state.read_text().replace('"maths"', '"ma\\u001b[2Jths\\u202e"')
    (folder / state.name).write_text(text_of)
    assert cli.main(["report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "\\x1b[2J" in out
    assert not set(out) & {"\x1b", "\u202e"}
    assert cli.main(["report", f"{folder}/none"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def _pipe(folder: Path, state: Path) -> None:
    state.unlink()
    os.mkfifo(state)


def _link(folder: Path, state: Path) -> None:
    outside = folder.parent / "outside"
    shutil.move(state, outside)
    state.symlink_to(outside)


def _deep(folder: Path, state: Path) -> None:
    state.write_text("[" * 100_000 + "]" * 100_000)


def _gone(folder: Path, state: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_gone, "is no folder"),
        (_empty, "holds no searcher state"),
        (_cut, "not JSON"),
        (_binary, "is not the state of a JoBSSearcher"),
        (_version, "version 99"),
        (_incomplete, "damaged"),
        (_pipe, "holds no searcher state"),
        (_link, "holds no searcher state"),
        (_deep, "nested deeper"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(
    searched: Experiment,
    damage: Callable[[Path, Path], None],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [state] = searched.folder.glob("searcher-state-*.pkl")
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(state, folder)
    damage(folder, folder / state.name)
    assert cli.main(["report", str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("jobs-ray: ")
    assert said in captured.err


def test_of_two_states_the_older_one_serves_when_the_newer_is_damaged(searched: Experiment, tmp_path: Path) -> None:
    [state] = searched.folder.glob("searcher-state-*.pkl")
    shutil.copy(state, tmp_path / "searcher-state-2001-01-01_00-00-00.pkl")
    shutil.copy(state, tmp_path)
    _cut(tmp_path, tmp_path / state.name)
    assert recommend(tmp_path) == recommend(searched.folder)


def test_a_page_that_cannot_be_written(
    searched: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(searched.folder), "--html", str(tmp_path / "no" / "such.html")]) == 2
    assert "cannot write" in capsys.readouterr().err
