"""What a task says reaches the trainer: batches, learning rates, the unit of the mixture; and what reports count."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs_ray.lm import Domain, Session, Task, run
from jobs_ray.lm.loop import arguments, build
from jobs_ray.lm.mixing import MixturePlan


def test_settings_reach_the_trainer(make_task: Callable[..., Task], tmp_path: Path) -> None:
    task = make_task(
        batch_size=12, accumulation=3, warmup=0.5, weight_decay=0.1, schedule="constant_with_warmup", seed=3,
        activation_checkpointing=True,
    )  # fmt: skip
    made = arguments({}, task, tmp_path)
    assert (made.warmup_steps, made.weight_decay, made.lr_scheduler_type) == (6, 0.1, "constant_with_warmup")
    assert (made.per_device_train_batch_size, made.gradient_accumulation_steps) == (4, 3)
    assert (made.learning_rate, made.max_steps, made.seed, made.data_seed) == (task.lr, 12, 3, 3)
    # the newer of its two names, where transformers has it
    name = "activation_checkpointing" if hasattr(made, "activation_checkpointing") else "gradient_checkpointing"
    assert (getattr(made, name), getattr(made, f"{name}_kwargs")) == (True, {"use_reentrant": False})
    made = arguments({"warmup": 0.25, "weight_decay": 0.2, "lr": 1e-4, "seed": 5, "max_steps": 3}, task, tmp_path)
    assert (made.warmup_steps, made.max_steps) == (3, 12)  # a short run's, too, are the full one's
    assert (made.weight_decay, made.learning_rate, made.seed) == (0.2, 1e-4, 5)


def test_the_schedule_spans_the_full_run(make_task: Callable[..., Task], tmp_path: Path) -> None:
    """Cosine after a linear warm-up, by its formula, broken in the warm-up and resumed."""
    task = make_task(warmup=0.5, max_steps=6, eval_every=2, eval_rows=1)
    session = Session(task)
    short = run(task, {"lr": 1e-3, "max_steps": 2}, session=session, keep=tmp_path / "c")
    rest = run(task, {"lr": 1e-3, "resume_from": str(tmp_path / "c")}, session=session)
    expected = [1e-3 * 2 / 3, 1e-3 * (1 + math.cos(math.pi / 3)) / 2, 0.0]
    assert [r["learning_rate"] for r in short + rest] == pytest.approx(expected, abs=1e-9)


def test_a_step_is_the_same_in_one_pass_or_in_four(make_task: Callable[..., Task]) -> None:
    """With plain gradient descent, which tells a sum of gradients from their mean; the rows differ in what is learned
    of them."""
    uneven = Domain([{"prompt": "one plus two is", "completion": " six" * (1 + i % 12)} for i in range(40)])
    how: dict[str, Any] = {"domains": {"d": uneven}, "target": {"d": uneven}, "eval_rows": 4, "max_steps": 3}
    sgd = {"optim": "sgd", "max_grad_norm": 0.0}
    [one], [four] = (run(make_task(**how, lr=0.03, accumulation=passes, trainer_args=sgd)) for passes in (1, 4))
    for name in ("eval_loss", "train_loss"):
        assert four[name] == pytest.approx(one[name], abs=1e-4)
    assert abs(one["train_loss"] - one["eval_loss"]) < 1.5


def test_reports_count_what_was_read(make_task: Callable[..., Task]) -> None:
    task = make_task(max_steps=4, eval_every=2, accumulation=2, eval_rows=1)
    session = Session(task)
    read: list[int] = []
    collate = session.collate

    def counted(rows: list[Any]) -> Any:
        read.append(len(rows))
        return collate(rows)

    session.collate = counted
    reports = run(task, {"mixture": {"animals": 0.75, "numbers": 0.25}}, session=session)
    assert [sum(r["tokens"].values()) for r in reports] == [2 * 4 * 32, 4 * 4 * 32]
    assert [sum(r["loss_tokens"].values()) for r in reports] == [2 * 4 * 31, 4 * 4 * 31]
    for r in reports:
        assert r["epochs"]["numbers"] * len(session.train["numbers"]) == r["tokens"]["numbers"] / 32
        assert r["tokens_per_second"] * r["train_seconds"] == pytest.approx(2 * 4 * 32, rel=1e-6)
        assert r["train_seconds"] > 0
        assert r["eval_seconds"] > 0
    assert read.count(2) == 4 * 2  # of four rows a step


@pytest.mark.parametrize("unit", ["tokens", "loss_tokens", "examples"])
def test_the_plan_follows_the_tasks_unit(make_task: Callable[..., Task], tmp_path: Path, unit: str) -> None:
    pairs = Domain([{"prompt": "one plus two plus three " * 2, "completion": " six"}] * 40)
    text = make_task().domains["animals"]
    domains = {"pairs": pairs, "text": text}
    session = Session(make_task(domains=domains, target={"t": text.validation()}, unit=unit, max_steps=40))
    plan = build({}, session, lambda *_: None, tmp_path, save=False).train_dataset.plan
    weights = dict.fromkeys(domains, 0.5)
    expected = MixturePlan(session.train, weights, 160, seed=0, unit=unit)
    assert plan.tokens() == expected.tokens()
    assert (plan.tokens() == MixturePlan(session.train, weights, 160, seed=0).tokens()) == (unit == "tokens")
