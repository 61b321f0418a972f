"""Search spaces that several tests use: one of every Ray domain, and a nested one."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.search.sample import Domain

from jobs_ray import mixture

DOMAINS: dict[str, Domain] = {
    "uniform": tune.uniform(-2.0, 3.0),
    "quniform": tune.quniform(0.0, 0.3, 0.1),
    "quniform_coarse": tune.quniform(-10.0, 10.0, 5.0),
    "loguniform": tune.loguniform(1e-5, 1e-2),
    "qloguniform": tune.qloguniform(0.1, 10.0, 0.1),
    "randn": tune.randn(10.0, 2.0),
    "qrandn": tune.qrandn(0.0, 1.0, 0.25),
    "randint": tune.randint(-3, 4),
    "randint_two": tune.randint(0, 2),
    "qrandint": tune.qrandint(0, 100, 10),
    "qrandint_one": tune.qrandint(0, 5, 1),
    "qrandint_uneven": tune.qrandint(3, 20, 4),
    "lograndint": tune.lograndint(1, 129),
    "qlograndint": tune.qlograndint(2, 64, 2),
    "choice": tune.choice(["adam", "sgd", None, 1, True, 0.5]),
    "choice_of_tuples": tune.choice([(1, 2), (3, 4), [5]]),
    "choice_repeated": tune.choice([1, 1, 2]),
    "mixture": mixture("code", "prose", "maths"),
    "mixture_bounded": mixture("code", "prose", "maths", min={"code": 0.2}, max=0.6),
}


def nested_space() -> dict[str, Any]:
    return {
        "steps": 100,
        "mixture": mixture("a", "b"),
        "lora": {"r": tune.lograndint(1, 129), "mlp": tune.choice([False, True])},
        "opt": tune.choice(
            [
                {"name": "adam", "beta": tune.uniform(0.8, 0.999)},
                {"name": "sgd", "momentum": tune.choice([{"value": tune.uniform(0.0, 1.0)}, None])},
            ]
        ),
        "layers": [tune.randint(1, 4), 7, (tune.uniform(0.0, 1.0), "x")],
    }
