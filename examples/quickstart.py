"""A data mixture and a model configuration searched together, in a minute and without a GPU.

    python examples/quickstart.py

The trainable stands in for a fine-tuning run: its loss falls with the steps, to a level that the mixture, the LoRA
rank and the learning rate decide together. Replace `train` by your own and `max_t` by the reports of a full run.
"""

from __future__ import annotations

import math
from typing import Any

from ray import tune

from jobs_ray import JoBSScheduler, JoBSSearcher, mixture

REPORTS = 25


def train(config: dict[str, Any]) -> None:
    """Reports an `eval_loss` 25 times; code data wants a larger rank, and every rank its own learning rate."""
    weights, rank = config["mixture"], config["lora"]["r"]
    data = sum((weight - best) ** 2 for weight, best in zip(weights.values(), (0.5, 0.2, 0.3), strict=True))
    model = 0.05 * math.log2(rank / (16 * (1 + 3 * weights["code"]))) ** 2
    rate = 0.1 * math.log10(config["lr"] * math.sqrt(rank) / 2e-3) ** 2
    level = 1.0 + data + model + rate - 0.05 * config["lora"]["mlp"]
    for step in range(1, REPORTS + 1):
        tune.report({"eval_loss": level + 0.8 * step**-0.6})


def main() -> None:
    tuner = tune.Tuner(
        train,
        param_space={
            "mixture": mixture("code", "prose", "maths"),
            "lora": {"r": tune.lograndint(1, 129), "mlp": tune.choice([False, True])},
            "lr": tune.loguniform(1e-5, 1e-2),
        },
        tune_config=tune.TuneConfig(
            metric="eval_loss",
            mode="min",
            num_samples=-1,
            max_concurrent_trials=2,
            search_alg=(searcher := JoBSSearcher(max_t=REPORTS, budget=6, seed=0)),
            scheduler=JoBSScheduler(),
        ),
        run_config=tune.RunConfig(verbose=0),
    )
    tuner.fit()
    found = searcher.recommendation()
    assert found is not None
    print(f"train this: {found.config}\nit reached eval_loss = {found.mean:.4f} (confirmed: {found.confirmed})")


if __name__ == "__main__":
    main()
