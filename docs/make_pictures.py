"""The pictures of README and docs, from a real search; needs the extra `[report]` and a Chrome.

    python docs/make_pictures.py

The trainable stands in for fine-tuning. Its loss falls as a power law to a level that mixture, LoRA rank and learning
rate decide together (more code wants a larger rank), with noise in the level and in every report. Everything
else is what a user's search does; the figures are those of `jobs-ray report`.
"""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path
from typing import Any

from ray import tune

from jobs_ray import JoBSScheduler, JoBSSearcher, mixture
from jobs_ray.report.figures import figures
from jobs_ray.report.gather import collect

REPORTS = 25
OUT = Path(__file__).parent / "images"
PICTURES = {"curves": (1000, 480), "predictions": (600, 560), "interaction": (800, 460)}


class StandIn(tune.Trainable):
    """Noise of standard deviation .03 between runs of one configuration, .01 between reports."""

    def setup(self, config: dict[str, Any]) -> None:
        """A new run, also in a process that has trained another one before."""
        self.config = config
        weights, rank = config["mixture"], config["lora"]["r"]
        best = {"code": 0.5, "prose": 0.2, "maths": 0.3, "web": 0.0}
        level = 1.0 + sum((weights[name] - best[name]) ** 2 for name in best)
        level += 0.05 * math.log2(rank / (4 * (1 + 9 * weights["code"]))) ** 2
        level += 0.1 * math.log10(config["lr"] * math.sqrt(rank) / 2e-3) ** 2
        self.noise = random.Random(str(config))
        self.level = level + self.noise.gauss(0.0, 0.03)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """For `reuse_actors=True`."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains to the next evaluation."""
        t = self.iteration + 1
        return {"eval_loss": self.level + 0.8 * t**-0.6 + self.noise.gauss(0.0, 0.01), "done": t >= REPORTS}


def search(folder: str) -> str:
    """Ten full runs' worth; the experiment's folder."""
    default = {"mixture": {"code": 1, "prose": 1, "maths": 1, "web": 1}, "lora": {"r": 8}, "lr": 1e-3}
    results = tune.Tuner(
        StandIn,
        param_space={
            "mixture": mixture("code", "prose", "maths", "web"),
            "lora": {"r": tune.lograndint(1, 129)},
            "lr": tune.loguniform(1e-5, 1e-2),
        },
        tune_config=tune.TuneConfig(
            metric="eval_loss",
            mode="min",
            num_samples=-1,
            max_concurrent_trials=2,
            search_alg=JoBSSearcher(max_t=REPORTS, budget=12, seed=0, points_to_evaluate=[default]),
            scheduler=JoBSScheduler(),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="pictures",
            storage_path=folder,
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    return str(results.experiment_path)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        found = {figure.name: figure.figure for figure in figures(collect(search(scratch)))}
    for name, (width, height) in PICTURES.items():
        found[name].update_layout(paper_bgcolor="white", font={"color": "#333333"})
        found[name].write_image(OUT / f"{name}.svg", width=width, height=height)
        print(OUT / f"{name}.svg")


if __name__ == "__main__":
    main()
