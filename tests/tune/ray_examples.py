"""The objective of ray/tune/examples/optuna_example.py, without its sleep."""

from __future__ import annotations

from typing import Any

from ray import tune


def evaluation_fn(step: int, width: float, height: float, mult: float = 1.0) -> float:
    return float((0.1 + width * step / 100) ** (-1) + height * 0.1 * mult)


def easy_objective(config: dict[str, Any]) -> None:
    mult = config.get("head", {}).get("mult", 1.0)
    for step in range(config["steps"]):
        score = evaluation_fn(step, config["width"], config["height"], mult)
        tune.report({"iterations": step, "mean_loss": score})


def half_cpu(trainable: Any) -> Any:
    return tune.with_resources(trainable, {"cpu": 0.5})
