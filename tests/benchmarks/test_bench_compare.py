import json

import numpy as np
import pytest

from benchmarks import compare
from benchmarks.methods import METHODS
from benchmarks.problems import make
from benchmarks.rivals import ASHA, Run, SuccessiveHalving
from benchmarks.simulate import Problem, simulate


def test_program_is_resumable(tmp_path, capsys):
    args = ["--families", "mixing_law3", "reports5", "--instances", "0:1", "--budgets", "5", "--seeds", "0:2",
            "--methods", "random,asha", "--out", str(tmp_path)]  # fmt: skip
    compare.main(args)
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines()
    assert len(lines) == 8
    assert "8 runs, 8 to do" in capsys.readouterr().out
    path.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:30])  # killed while it wrote the last line
    compare.main(args)
    assert "8 runs, 1 to do" in capsys.readouterr().out
    again = {json.dumps(r["points"]) for r in compare.read(path)}
    assert again == {json.dumps(json.loads(line)["points"]) for line in lines}
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 1 + 4
    compare.main([*args, "--report", "--plots"])
    out = capsys.readouterr().out
    assert "8 runs, 0 to do" in out
    assert "not what these flags ask for" not in out
    assert "Average rank" in (tmp_path / "plots.html").read_text()
    compare.main([*args, "--report", "--seeds", "0"])
    assert f"4 runs in {path} are not what these flags ask for" in capsys.readouterr().out
    assert {row.split(",")[6] for row in (tmp_path / "summary.csv").read_text().splitlines()[1:]} == {"1"}


def test_a_run_that_raises_is_recorded_and_the_rest_goes_on(tmp_path, capsys):
    args = ["--families", "model_only", "--instances", "0:1", "--budgets", "5", "--seeds", "0:1",
            "--methods", "jobs-data-only,random", "--out", str(tmp_path)]  # fmt: skip
    compare.main(args)
    out = capsys.readouterr().out
    assert "no mixture" in out
    assert "1 runs failed" in out
    compare.main(args)
    assert "2 runs, 1 to do" in capsys.readouterr().out


@pytest.mark.parametrize("bad", [["--methods", "magic"], ["--families", "magic"]])
def test_unknown_names_are_refused(bad, tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.parse(["--out", str(tmp_path), *bad])
    assert "'magic'" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [["--parallel", "0"], ["--seeds", "5:2"], ["--instances=-1:2"], ["--seeds", "a"]])
def test_numbers_that_mean_no_run_are_refused(bad, tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.parse(["--out", str(tmp_path), *bad])
    assert bad[0].split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("method", ["jobs", "random", "asha", "halving", "gp-ei", "regmix"])
@pytest.mark.parametrize("family", ["diverging", "constant", "reports5", "reports60"])
def test_methods_run_on_any_problem(method, family):
    problem = make(family, 0).problem
    trace = simulate(METHODS[method](problem, 5, 0), problem, 5)
    assert 3 < trace.spent <= 5
    assert 0 <= trace.regret <= 3


def test_a_seed_is_one_of_its_problem_and_the_same_for_every_method(monkeypatch):
    seen = {}
    for method in ("random", "asha"):

        def build(problem, budget, seed, own=METHODS[method], method=method):
            seen.setdefault((problem.name, budget), []).append(seed)
            return own(problem, budget, seed)

        monkeypatch.setitem(compare.METHODS, method, build)
        for family, instance, budget in (("constant", 0, 5.0), ("constant", 1, 5.0), ("reports5", 0, 5.0)):
            assert "error" not in compare.run(compare.Job(family, instance, budget, 0, method, 4))
    assert all(one == two for one, two in seen.values())
    assert len({seeds[0] for seeds in seen.values()}) == 3


def test_a_sequential_method_has_one_in_flight_whatever_the_flag_says(tmp_path):
    args = compare.parse(["--out", str(tmp_path), "--quick", "--methods", "random,botorch-ei-seq", "--parallel", "8"])
    assert {(job.method, job.parallel) for job in compare.plan(args)} == {("random", 8), ("botorch-ei-seq", 1)}


def test_a_promotion_of_jobs_goes_on_with_its_short_run_unless_the_method_says_otherwise():
    problem = make("constant", 0).problem
    assert METHODS["jobs"](problem, 5, 0).settings.resume
    assert not METHODS["jobs-no-resume"](problem, 5, 0).settings.resume


def crashing(at):
    """Everything crashes at t = `at`, unless its learning rate is low."""
    base = make("mixing_law3", 0).problem

    def curve(config):
        values = base.curve(config).copy()
        if config["model"]["lr"] > 3e-4:
            values[at - 1 :] = np.nan
        return values

    return Problem("crashing", "eval_loss", curve, base.regret, 0.0, None, 1.0, 25, base.coding)


@pytest.mark.parametrize("at", [1, 3, 25])
def test_crashed_runs_are_not_charged_promoted_or_recommended(at):
    problem = crashing(at)
    for rival in (ASHA, SuccessiveHalving):
        method = rival(problem, 10, 0)
        trace = simulate(method, problem, 10)
        ran: list[Run] = list(method.runs.values())
        assert sum(max(r.values) - r.start for r in ran) == round(trace.spent * 25)
        assert method.left == 250 - round(trace.spent * 25)
        assert not [r for r in ran if r.start and not np.isfinite(r.values[r.start])]
        assert method.recommendation().config["model"]["lr"] <= 3e-4
