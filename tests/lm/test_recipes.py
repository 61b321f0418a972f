"""The recipes of docs/integrations.md, as they stand there, in a search of a few trials on a tiny model."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs_ray import JoBSScheduler, JoBSSearcher, mixture

DOCS = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"
SEARCH: dict[str, dict[str, Any]] = {
    "train_with_transformers": {"max_t": 20, "short_t": 4, "time_attr": "step", "steps_key": "max_steps"},
    "train_with_trl": {"max_t": 20, "short_t": 4, "time_attr": "step", "steps_key": "max_steps"},
    "train_with_lightning": {"max_t": 8, "short_t": 2},
}


def recipe(name: str) -> str:
    """The block of the page that defines the function."""
    [block] = [
        b for b in re.findall(r"^```python\n(.*?)^```$", DOCS.read_text("utf-8"), re.M | re.S) if f"def {name}(" in b
    ]
    return str(block)


def trainable(name: str, given: Callable[[], dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    """Runs the recipe in Ray's worker, with what the reader is to provide."""
    code = recipe(name)

    def train(config: dict[str, Any]) -> None:
        names = given()
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=r"`ray\.")  # "`ray. ...` is deprecated", once a process
            exec(code, names)
            names[name](config)

    return train


def language_model() -> dict[str, Any]:
    import random

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)

    def prepare(config: dict[str, Any]) -> tuple[Any, Any, Any]:
        shape = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=2))
        rng = random.Random(0)

        def rows(count: int, share: float) -> list[dict[str, Any]]:
            low = [rng.random() < share for _ in range(count)]
            ids = [[rng.randrange(16) + 16 * (not is_low) for _ in range(8)] for is_low in low]
            return [{"input_ids": i, "labels": i, "attention_mask": [1] * 8} for i in ids]

        return model, rows(160, config["mixture"]["low"]), rows(16, 1.0)

    return {"prepare": prepare}


def texts() -> dict[str, Any]:
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = language_model()
    words = {f"w{i}": i for i in range(30)} | {"<pad>": 30, "</s>": 31}
    plain = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    inner = names["prepare"]

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>")

    def prepare(config: dict[str, Any]) -> tuple[Any, ...]:
        model, train, evaluation = inner(config)
        both = ([{"text": " ".join(f"w{i % 30}" for i in row["input_ids"])} for row in r] for r in (train, evaluation))
        return (model, tokenizer, *(Dataset.from_list(rows) for rows in both))

    return {"prepare": prepare}


def module() -> dict[str, Any]:
    import lightning
    import torch

    torch.set_num_threads(1)

    class Line(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.lr, self.line = lr, torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, number: int) -> Any:
            return (self.line(batch) ** 2).mean()

        def validation_step(self, batch: Any, number: int) -> None:
            self.log("val_loss", (self.line(batch) ** 2).mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    def prepare(config: dict[str, Any]) -> tuple[Any, Any, Any]:
        rows = torch.utils.data.DataLoader(torch.ones(16, 2), batch_size=8)
        return Line(config["lr"]), rows, rows

    return {"prepare": prepare}


@pytest.mark.parametrize(("strategy", "steps"), [("steps", [0, 2, 4, 5]), ("epoch", [0, 3, 5])])
def test_several_evaluation_sets_are_one_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, steps: list[int]
) -> None:
    """Trainer evaluates them one by one, and Tune ends a search at a report without its metric."""
    from ray import tune
    from transformers import Trainer, TrainingArguments

    from jobs_ray.lm import ReportToTune

    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "report", reports.append)
    model, rows, evaluation = language_model()["prepare"]({"mixture": {"low": 0.5}})
    three_steps, other = rows[:24], rows[:8]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=8, eval_strategy=strategy, eval_steps=2, eval_on_start=True, report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=three_steps, eval_dataset={"x": evaluation, "y": other})
    trainer.add_callback(ReportToTune(stop_at=5))
    trainer.train()
    assert [r["step"] for r in reports] == steps
    trainer.evaluate(other, metric_key_prefix="eval_y")  # the caller's own, of one set, after the training
    assert [r["step"] for r in reports] == [*steps, 5]
    assert all({"eval_x_loss", "eval_y_loss"} <= set(r) for r in reports)
    losses = [(r["eval_x_loss"], r["eval_y_loss"]) for r in reports]
    assert len(set(losses)) == len(steps)
    assert losses[-1] == losses[-2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "needs", "given"),
    [
        ("train_with_transformers", "transformers", language_model),
        ("train_with_trl", "trl", texts),
        ("train_with_lightning", "lightning", module),
    ],
)
def test_a_recipe_works_in_a_search(name: str, needs: str, given: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at their import
        pytest.importorskip(needs)
    import ray
    from ray import cloudpickle, tune

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test
    mine = not ray.is_initialized()
    if mine:
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        max_t, short_t = SEARCH[name]["max_t"], SEARCH[name]["short_t"]
        results = tune.Tuner(
            trainable(name, given),
            param_space={"mixture": mixture("low", "high"), "lr": tune.loguniform(1e-3, 1e-1)},
            tune_config=tune.TuneConfig(
                metric="eval_loss", mode="min", num_samples=4, max_concurrent_trials=2, scheduler=JoBSScheduler(),
                search_alg=(searcher := JoBSSearcher(**SEARCH[name], budget=2, seed=0)),
            ),
            run_config=tune.RunConfig(name="run", storage_path=str(tmp_path), verbose=0),
        ).fit()  # fmt: skip
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        if mine:
            ray.shutdown()
    assert not results.errors
    lengths = [row["curve"][-1][0] for row in searcher.report()["trials"]]
    assert min(lengths) == short_t
    assert max(lengths) == max_t
    found = searcher.recommendation()
    assert found is not None
    assert found.confirmed
