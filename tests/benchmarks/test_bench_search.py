import json

import pytest

from benchmarks import compare, search


def record(method, budget, regret, seed):
    return {"method": method, "budget": budget, "regret": regret, "seed": seed, "spent": budget, "seconds": 0.0}


def runs(method, budget, *regrets):
    return [record(method, budget, regret, seed) for seed, regret in enumerate(regrets)]


def test_summary_and_ratio_by_hand():
    rows = [*runs("jobs", 5, 0.1, 0.3), *runs("gp-ei", 5, 0.4, 0.4)]
    rows += [*runs("random", 5, 0.8, 0.8), *runs("jobs-data-only", 5, 0.01)]
    summary = search.summarise(rows)
    ours = next(s for s in summary if s["method"] == "jobs")
    assert ours["regret"] == pytest.approx(0.2)
    assert ours["stderr"] == pytest.approx(0.1)
    text = search.table(summary)
    assert "0.50 (gp-ei)" in text  # an ablation of ours is no rival
    assert "0.25 (random)" in text


def test_the_tasks_of_a_seed_are_one_observation():
    (got,) = search.summarise([r for task in (0, 0.01, -0.01) for r in runs("jobs", 5, 1 + task, 2 + task)])
    assert (got["n"], got["regret"], got["stderr"]) == (2, pytest.approx(1.5), pytest.approx(0.5))


def test_unknown_method_is_refused(capsys):
    with pytest.raises(SystemExit):
        search.parse(["--methods", "jobs,magic"])
    assert "no method 'magic'" in capsys.readouterr().err


@pytest.mark.parametrize("budget", ["0", "-3", "0.5", "nan", "inf"])
@pytest.mark.parametrize("program", [search, compare])
def test_a_budget_that_buys_no_full_run_is_refused(program, budget, tmp_path, capsys):
    with pytest.raises(SystemExit):
        program.parse([*(["--out", str(tmp_path)] if program is compare else []), "--budgets", budget])
    assert "at least 1 (one full run)" in capsys.readouterr().err


def test_accuracies_of_all_tasks_are_no_pool(capsys):
    with pytest.raises(SystemExit):
        search.parse(["--problem", "pool-all", "--metric", "performance"])
    assert "do not compare" in capsys.readouterr().err


def test_no_ratio_of_means_over_other_seeds():
    text = search.table(search.summarise([*runs("jobs", 5, 0.1, 0.3), *runs("gp-ei", 5, 0.1), *runs("asha", 5, 1, 1)]))
    assert "0.20 (asha)" in text
    others = [run | {"seed": run["seed"] + 5} for run in runs("gp-ei", 5, 0.1, 0.1)]
    text = search.table(search.summarise([*runs("jobs", 5, 0.1, 0.3), *others, *runs("asha", 5, 1, 1)]))
    assert "0.20 (asha)" in text


@pytest.mark.parametrize(
    ("method", "why"), [("jobs-data-only", "no table holds"), ("optuna-tpe-hb", "rows of a table")]
)
def test_a_method_that_cannot_search_the_problem_is_refused_before_the_others_run(method, why, real_tasks, monkeypatch):
    monkeypatch.setattr(search, "run_all", lambda bench, args: pytest.fail("something was run"))
    with pytest.raises(SystemExit, match=why):
        search.main(["--problem", "pool", "--tasks", real_tasks[0].name, "--methods", f"random,{method}"])


@pytest.mark.parametrize("problem", ["pool", "pool-all"])
def test_program_runs_rivals_in_the_pool(problem, tmp_path, capsys, real_tasks):
    out = tmp_path / "out.json"
    search.main(
        ["--problem", problem, "--budgets", "5", "--methods", "random,halving", "--seeds", "0:3", "--json", str(out)]
    )
    result = json.loads(out.read_text())
    assert len(result["runs"]) == 2 * 3 * (len(real_tasks) if problem == "pool" else 1)
    regret = {s["method"]: s["regret"] for s in result["summary"]}
    assert 0 <= regret["halving"] < regret["random"]
    for run in result["runs"]:
        assert run["spent"] <= 5
        assert run["points"][-1] == [run["spent"], run["regret"]]
    assert "halving" in capsys.readouterr().out


def test_the_pictures_of_the_questions_show_the_means_by_budget_and_by_n():
    pytest.importorskip("plotly")
    from benchmarks.questions import by_budget, by_split

    budgets = by_budget([*runs("jobs", 10.0, 0.1, 0.3), *runs("jobs", 5.0, 0.5, 0.7), *runs("gp-ei", 5.0, 1.0, 1.0)])
    assert [trace.name for trace in budgets.data] == ["JoBS, both sides", "BO on full runs (GP + EI)"]
    assert list(budgets.data[0].x) == [5.0, 10.0]
    assert list(budgets.data[0].y) == pytest.approx([0.6, 0.2])
    assert list(budgets.data[0].error_y.array) == pytest.approx([0.1, 0.1])
    split = by_split([*runs("jobs-n4", 10.0, 0.4), *runs("jobs-n1", 10.0, 0.2), *runs("jobs", 10.0, 0.1, 0.2)])
    assert (list(split.data[0].x), list(split.data[0].y)) == ([1, 4], [0.2, 0.4])
    assert {note.text for note in split.layout.annotations} == {"adaptive split 0.150 +- 0.050", "N* = 4"}
    with pytest.raises(SystemExit, match="one budget"):
        by_split([*runs("jobs", 10.0, 0.1), *runs("jobs-n4", 5.0, 0.1)])
    eleven = by_budget([run for i in range(11) for run in runs(f"jobs-n{i}", 10.0, 0.4)])
    assert len(eleven.data) == 11
