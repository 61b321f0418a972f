import numpy as np
import pytest

from benchmarks import ranking, results
from benchmarks.plots import write_plots


def record(family, method, regret, budget=5.0, instance=0, seed=0):
    return {"family": family, "instance": instance, "budget": budget, "seed": seed, "method": method, "parallel": 4,
            "regret": regret, "spent": budget, "cpu_s": 0.0, "points": [(budget, regret)]}  # fmt: skip


def records(family, method, *instances, budget=5.0):
    """Of each instance the regrets of its seeds."""
    return [
        record(family, method, regret, budget, instance, seed)
        for instance, regrets in enumerate(instances)
        for seed, regret in enumerate(regrets)
    ]


ROWS = [*records("a", "jobs", (0.0, 0.2), (0.2, 0.4)), *records("b", "jobs", (0.8, 0.8), (0.8, 0.8))]
ROWS += [*records("a", "random", (0.4, 0.4), (0.4, 0.4)), *records("b", "random", (0.6, 0.6), (0.6, 0.6))]


def test_tables_by_hand():
    cells = ranking.by_family(ROWS, 5.0)
    assert cells["a", "jobs"].mean == pytest.approx(0.2)
    # two instances of .1 and .3: that their four runs were independent would make it .08
    assert cells["a", "jobs"].error == pytest.approx(0.1)
    assert cells["a", "jobs"].n == 2
    over = ranking.over_families(cells, "jobs")
    assert over.mean == pytest.approx(0.5)
    assert over.error == pytest.approx(0.05)
    text = ranking.report(ROWS)
    assert "ratio to the best rival (random): jobs 1.00" in text
    assert "mean of what was spent: jobs 5.00, random 5.00" in text
    assert "0.200+-.10*" in text
    assert "0.800+-.00 " in text
    assert "one standard error: b (+0.20, se 0.00)" in text


def test_what_jobs_loses_by_is_judged_by_the_differences_within_instances():
    rows = [*records("a", "jobs", [0.2], [1.2]), *records("a", "asha", [0.1], [1.0]), *records("a", "random", [1], [1])]
    assert "a (+0.15, se 0.05)" in ranking.report(rows)  # each method's own error is .5 and .45
    rows += [
        *records("b", "jobs", [0.2], [1.5]),
        *records("b", "asha", [0.1], [1.0]),
        *records("b", "random", [1], [2]),
    ]
    rows += [
        *records("c", "jobs", [0.2], [0.5]),
        *records("c", "asha", [0.3], [0.2]),
        *records("c", "random", [1], [2]),
    ]
    assert "b (+0.30, se 0.20)" in ranking.report(rows)
    assert "c (" not in ranking.report(rows)  # +.10, se .20


def test_one_instance_has_no_error_and_hides_no_loss():
    rows = [*records("a", "jobs", [0.2]), *records("a", "asha", [0.1]), *records("b", "jobs", [0.2])]
    rows += records("b", "asha", [0.3])
    text = ranking.report(rows)
    assert "a (+0.10, se nan)" in text
    assert "b (" not in text


def test_ranks_by_hand():
    rows = [record("a", m, r, instance=i) for i in range(6) for m, r in (("x", 0.1), ("y", 0.2), ("z", 0.2))]
    placed = ranking.rank(rows)
    assert placed.ranks == {"x": 1.0, "y": 2.5, "z": 2.5}
    assert placed.blocks == 6
    assert placed.critical == pytest.approx(2.343 * np.sqrt(3 * 4 / 36), rel=1e-3)  # Demsar (2006), table 5
    assert placed.p < 0.01


def test_a_small_difference_is_a_rank_and_one_of_the_last_digit_is_none():
    rows = [record("a", m, r, instance=i) for i in range(2) for m, r in (("x", 0.11), ("y", 0.12), ("z", 0.12 + 1e-14))]
    assert ranking.rank(rows).ranks == {"x": 1.0, "y": 2.5, "z": 2.5}


def test_budgets_of_an_instance_are_one_block():
    rows = [
        record("a", m, r, budget, i)
        for i in range(4)
        for budget, regrets in ((5.0, (0.1, 0.2, 0.3)), (10.0, (0.2, 0.1, 0.3)), (20.0, (0.1, 0.2, 0.3)))
        for m, r in zip(("x", "y", "z"), regrets, strict=True)
    ]
    once = ranking.rank([r for r in rows if r["budget"] == 5.0])
    placed = ranking.rank(rows)
    assert placed.ranks == pytest.approx({"x": 4 / 3, "y": 5 / 3, "z": 3.0})
    assert (placed.blocks, placed.critical, placed.p) == (4, once.critical, once.p)
    assert "all budgets: average rank over 4 instances (independent blocks)" in ranking.report(rows)


def test_only_runs_that_every_method_has_are_compared(tmp_path):
    easy = records("easy", "jobs", [0.0], [0.0])  # random was stopped before it came there
    more = [record("a", "jobs", 0.0, seed=2)]
    text = ranking.report([*ROWS, *easy, *more])
    assert "8 runs (family, instance, budget, seed) that every method has; 3 left out" in text
    assert text.splitlines()[1:] == ranking.report(ROWS).splitlines()[1:]
    assert ranking.report([*easy, record("a", "random", 0.1)]).startswith("0 runs")
    write_plots([*ROWS, *easy], tmp_path / "plots.html")
    assert "easy" not in (tmp_path / "plots.html").read_text().split("</script>")[-2]


def test_nothing_shared_is_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no run that every method has"):
        write_plots([*records("a", "jobs", [0.0]), *records("b", "random", [0.0])], tmp_path / "plots.html")


def test_our_own_search_on_full_runs_is_no_rival():
    rows = [*ROWS, *records("a", "gp-ei-jobs", (0, 0), (0, 0)), *records("b", "gp-ei-jobs", (0.4, 0.4), (0.4, 0.4))]
    assert "ratio to the best rival (random): jobs 1.00, gp-ei-jobs 0.40" in ranking.report(rows)


@pytest.mark.parametrize("left", ["", '{"a": 1, "b"', '{"a": 1}\n', '{"a": 1, "b": 2}\n'])
def test_a_record_is_not_lost_to_what_a_killed_program_left(left, tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(left)
    results.append(path, {"a": 3, "b": 4})
    results.append(path, {"a": 5, "b": 6})
    whole = [{"a": 1, "b": 2}] if left.endswith("2}\n") else []
    assert results.read(path, ("a", "b")) == [*whole, {"a": 3, "b": 4}, {"a": 5, "b": 6}]
    assert "" not in path.read_text().splitlines()
