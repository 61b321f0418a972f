"""A data mixture and a model configuration searched together, in less than a minute and without a GPU.

    python examples/quickstart.py

The trainable stands in for a fine-tuning run: its loss falls with the steps, to a level that the mixture, the LoRA
rank and the learning rate decide together. Replace `step` by your own training up to the next evaluation, and `max_t`
by the evaluations of a full run. (A function that calls `tune.report` works as well; a class lets Ray reuse its
processes, and starting one takes longer than all that is trained here.)
"""

from __future__ import annotations

import math
from typing import Any

from ray import tune

from jobs_ray import JoBSScheduler, JoBSSearcher, mixture, recommend

REPORTS = 25


class Training(tune.Trainable):
    """Reports an `eval_loss` 25 times; code data wants a larger rank, and every rank its own learning rate."""

    def setup(self, config: dict[str, Any]) -> None:
        """A new run, also in a process that has trained another one before."""
        weights, rank = config["mixture"], config["lora"]["r"]
        data = sum((weight - best) ** 2 for weight, best in zip(weights.values(), (0.5, 0.2, 0.3), strict=True))
        model = 0.05 * math.log2(rank / (16 * (1 + 3 * weights["code"]))) ** 2
        rate = 0.1 * math.log10(config["lr"] * math.sqrt(rank) / 2e-3) ** 2
        self.level = 1.0 + data + model + rate - 0.05 * config["lora"]["mlp"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """For `reuse_actors=True`."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains to the next evaluation."""
        t = self.iteration + 1
        return {"eval_loss": self.level + 0.8 * t**-0.6, "done": t >= REPORTS}


def main() -> None:
    tuner = tune.Tuner(
        Training,
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
            search_alg=JoBSSearcher(max_t=REPORTS, budget=6, seed=0),
            scheduler=JoBSScheduler(),
            reuse_actors=True,
        ),
        # a run that is stopped is asked for a checkpoint at its end, unless told that there is none to be had
        run_config=tune.RunConfig(verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)),
    )
    results = tuner.fit()
    found = recommend(results)
    assert found is not None
    print(f"train this: {found.config}\nit reached eval_loss = {found.mean:.4f} (confirmed: {found.confirmed})")
    print(f"more: jobs-ray report {results.experiment_path} --html report.html")


if __name__ == "__main__":
    main()
