"""lm_curves: what it draws is in the demo's space, and a run of it leaves whole curves."""

import json
import random

import pytest

from benchmarks import lm_curves, results

DOMAINS = ("code", "headers", "prose", "reference")


def inside(config):
    assert sum(config["mixture"].values()) == pytest.approx(1)
    assert all(weight >= 0 for weight in config["mixture"].values())
    assert lm_curves.RATES[0] <= config["lr"] <= lm_curves.RATES[1]
    assert lm_curves.LAYERS[0] <= config["model"]["num_hidden_layers"] <= lm_curves.LAYERS[1]
    assert config["model"]["hidden_size"] in lm_curves.WIDTHS


def test_what_is_drawn_is_in_the_space_and_so_is_what_is_near():
    rng = random.Random(0)
    config = lm_curves.drawn(rng, DOMAINS)
    for _ in range(300):
        inside(lm_curves.drawn(rng, DOMAINS))
        config = lm_curves.near(config, rng)
        inside(config)


def test_the_space_is_the_demos(tmp_path):
    from jobs_ray.lm.demo import QUICK, demo_space, demo_task
    from jobs_ray.tune.domains import TuneSpace

    space, rng = TuneSpace(demo_space(demo_task(tmp_path, QUICK))), random.Random(1)
    for _ in range(20):
        space.core_config(lm_curves.drawn(rng, DOMAINS))


def test_the_best_tenth_is_by_the_mean_of_the_seeds(tmp_path):
    path = tmp_path / "curves.jsonl"
    ends = [(0, [3.0, 1.0]), (1, [1.5, 1.6]), *((i, [5.0, 5.0]) for i in range(2, 20))]
    lines = [json.dumps({"config": {"n": n}, "curve": [9.0, end]}) for n, both in ends for end in both]
    # the last one is being written; a process was killed in another, right after a brace
    path.write_text("\n".join([*lines[:3], '{"config": {"n": 98}', *lines[3:], '{"config": {"n": 99}, "cur']))
    runs = list(results.whole(path))
    assert len(runs) == 40
    assert lm_curves.best_tenth(runs) == [{"n": 1}, {"n": 0}]


@pytest.mark.slow
def test_two_processes_collect(tmp_path, capsys):
    out = ["--out", str(tmp_path), "--size", "tiny", "--random", "1"]
    lm_curves.main(["--processes", "2", "--gpu-processes", "0", "--seconds", "15", *out])
    runs = list(results.whole(tmp_path / "curves.jsonl"))
    assert len(runs) >= 4
    assert {run["seed"] for run in runs} == {0, 1}
    assert {run["device"] for run in runs} == {"cpu"}
    for run in runs:
        inside(run["config"])
        assert run["steps"] == [2, 4, 6, 8, 10, 12]
        assert run["curve"][-1] < run["curve"][0] + 0.5
    assert "0 workers failed" in capsys.readouterr().out
