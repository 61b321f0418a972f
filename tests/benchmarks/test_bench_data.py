import json

import numpy as np
import pytest

from benchmarks.data import (
    DEFAULT_MODEL,
    DOMAINS,
    MODULES,
    Task,
    load_tasks,
    random_rows,
    restrict,
    search_space,
    to_config,
    to_row,
)
from jobs_ray.space import SearchSpace


def test_config_and_row_are_inverse():
    for row in random_rows(50, np.random.default_rng(0)):
        np.testing.assert_allclose(to_row(to_config(row)), row, rtol=0, atol=1e-15)


def test_config_has_python_types_in_the_right_place():
    row = np.array([0.1] * 8 + [0.2, 7, 1, 0, 1, 0, 0, 64, 0.05, 16, 1.0])
    config = to_config(row)
    assert config["mixture"][DOMAINS[8]] == pytest.approx(0.2)
    assert config["layers"] == 7
    assert [config["modules"][m] for m in MODULES] == [True, False, True, False, False]
    assert config["lora"] == {"r": 64, "alpha": 16, "dropout": 0.05}
    assert config["first_layers"] is True
    json.dumps(config)


def test_random_rows_follow_the_source():
    rows = random_rows(4000, np.random.default_rng(0))
    np.testing.assert_allclose(rows[:, :9].mean(0), 1 / 9, atol=0.01)
    assert rows[:, 10:15].sum(1).min() == 1
    assert np.median(rows[:, 15]) == pytest.approx(64.5, abs=4)  # uniform, not log-uniform
    assert (rows[:, [9, 15, 17]].min(0) == 1).all()
    assert (rows[:, [9, 15, 17]].max(0) == [32, 128, 48]).all()


@pytest.mark.parametrize("scope", ["all", "data", "model"])
def test_every_random_configuration_is_in_the_space(scope):
    space = SearchSpace(search_space(scope))
    for row in random_rows(20, np.random.default_rng(1), scope):
        config = to_config(row)
        back = to_row(space.decode(space.encode(config)))
        np.testing.assert_allclose(back, row, atol=1e-9)


def test_scope_fixes_the_other_side():
    rows = random_rows(5, np.random.default_rng(2))
    data, model = restrict(rows, "data"), restrict(rows, "model")
    assert (data[:, :9] == rows[:, :9]).all()
    assert {str({k: to_config(r)[k] for k in DEFAULT_MODEL}) for r in data} == {
        str({k: to_config(data[0])[k] for k in DEFAULT_MODEL})
    }
    assert to_config(data[0])["lora"] == DEFAULT_MODEL["lora"]
    assert (model[:, 9:] == rows[:, 9:]).all()
    np.testing.assert_allclose(model[:, :9], 1 / 9)


def record(steps):
    mixture = [1 / 9] * 9
    evaluations = [{"step": s, "performance": 0.5, **({"eval_loss": 1000 / s} if s else {})} for s in steps]
    return {"input_X": [*mixture, 4, 1, 0, 0, 0, 0, 8, 0.0, 16, 0], "evaluations": evaluations}


def test_loader_reads_folder_and_child_and_drops_step_zero(tmp_path):
    child = tmp_path / "llama3_lora_curves"
    child.mkdir()
    (child / "b.json").write_text(json.dumps([record(range(0, 626, 25))]))
    (child / "a.json").write_text(json.dumps([record(range(625, -1, -25))]))  # order in the file does not matter
    for folder in (tmp_path, child):
        found = load_tasks(folder)
        assert [t.name for t in found] == ["a", "b"]
        np.testing.assert_allclose(found[0].eval_loss[0], 1000 / found[0].steps)
        np.testing.assert_allclose(found[0].curves("performance"), 0.5)
    assert [t.name for t in load_tasks(tmp_path, ["b"])] == ["b"]


def test_loader_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="JOBS_RAY_DATA"):
        load_tasks(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps([record(range(0, 600, 25))]))
    with pytest.raises(ValueError, match=r"missing \[600, 625\]"):
        load_tasks(tmp_path)
    with pytest.raises(FileNotFoundError, match="no task 'c'"):
        load_tasks(tmp_path, ["c"])


def test_task_refuses_a_mixture_off_the_simplex(tasks):
    rows = tasks[0].rows.copy()
    rows[3, 0] += 0.1
    with pytest.raises(ValueError, match="sum to 1"):
        Task("bad", rows, tasks[0].eval_loss, tasks[0].performance)


def test_real_tables(real_tasks):
    for task in real_tasks:
        assert task.rows.shape == (100, 19)
        assert task.eval_loss[:, -1].min() > 0.5
        space = SearchSpace(search_space())
        for config in task.configs[:10]:
            assert space.decode(space.encode(config))["lora"]["r"] == config["lora"]["r"]
