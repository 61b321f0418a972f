"""Synthetic training runs that the tests of the core share: curves whose final depends on the configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from jobs_ray.search.optimizer import Decision, JoBSOptimizer, Suggestion
from jobs_ray.space import Categorical, Integer, Mixture, Real

SPACE: Mapping[str, Any] = {
    "mixture": Mixture(["code", "prose", "maths"], max={"code": 0.7}),
    "lr": Real(1e-5, 1e-2, log=True),
    "lora": {"r": Integer(1, 128, log=True), "mlp": Categorical([False, True])},
    "epochs": 1,
}
MAX_T = 12.0

Curve = Callable[[Mapping[str, Any], float], float]


def loss(config: Mapping[str, Any], t: float) -> float:
    """A positive, falling loss; its final depends on the mixture, the rate and the rank."""
    mixture, lora = config["mixture"], config["lora"]
    level = 1.0 + (mixture["code"] - 0.4) ** 2 + 0.3 * mixture["maths"] + 0.05 * abs(math.log10(config["lr"]) + 3.5)
    return level - 0.02 * math.log2(lora["r"]) * (2.0 if lora["mlp"] else 1.0) + (0.5 + mixture["prose"]) * t**-0.8


def accuracy(config: Mapping[str, Any], t: float) -> float:
    """A rising metric within [0, 1]."""
    return 1.0 / (1.0 + loss(config, t))


def make(**kwargs: Any) -> JoBSOptimizer:
    """An optimiser over SPACE; keywords override."""
    return JoBSOptimizer(**({"space": SPACE, "mode": "min", "max_t": MAX_T, "budget": 6.0, "seed": 7} | kwargs))


def train(
    optimizer: JoBSOptimizer, trial_id: str, config: Mapping[str, Any], curve: Curve = loss, **kwargs: Any
) -> float:
    """Report at t = start + every, ... until STOP or its own `end`, then tell. Returns the last t reported."""
    every, end = kwargs.get("every", 1.0), kwargs.get("end", MAX_T)
    t = kwargs.get("start", 0.0)
    while t < end:
        t += every
        if optimizer.report(trial_id, t, curve(config, t)) is Decision.STOP:
            break
    optimizer.tell(trial_id)
    return t


def search(
    optimizer: JoBSOptimizer,
    most: int = 500,
    *,
    workers: int = 1,
    curve: Curve = loss,
    prefix: str = "t",
    end: float = MAX_T,
    every: float = 1.0,
) -> list[Suggestion]:
    """Run to FINISHED with `workers` trials in flight, at most `most` asks; the suggestions in order."""
    asked: list[Suggestion] = []
    flying: list[tuple[str, Suggestion]] = []
    while True:
        answer = optimizer.ask(f"{prefix}{len(asked)}") if len(asked) < most else None
        if isinstance(answer, Suggestion):
            flying.append((f"{prefix}{len(asked)}", answer))
            asked.append(answer)
            if len(flying) < workers:
                continue
        if not flying:
            return asked
        trial_id, suggestion = flying.pop(0)
        start = optimizer.trials[trial_id].start
        train(optimizer, trial_id, suggestion.config, curve, start=start, end=end, every=every)


def as_json(data: Any) -> Any:
    """What comes back from a file: raises when `data` is not plain JSON."""
    return json.loads(json.dumps(data, allow_nan=False))
