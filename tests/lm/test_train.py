"""One worker, in this process: short runs are prefixes, resumed curves are unbroken ones, failures say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs_ray.lm import Accuracy, Model, Session, Target, Task, TaskError, TrainingError, load, run
from jobs_ray.lm.evaluation import sample

LORA = {"r": 4, "alpha": 8, "dropout": 0.1, "q_proj": True, "v_proj": True, "num_layers": 1}


def curve(reports: list[dict[str, Any]]) -> dict[int, float]:
    return {r["step"]: r["eval_loss"] for r in reports}


def test_a_short_run_is_a_prefix_of_the_full_one(make_task: Callable[..., Task], untouched_threads: None) -> None:
    task = make_task()
    session = Session(task)
    config = {"mixture": {"animals": 0.7, "numbers": 0.3}}
    full = run(task, config, session=session)
    short = run(task, {**config, "max_steps": 6}, session=session)
    assert [r["step"] for r in full] == [3, 6, 9, 12]
    assert curve(short) == {s: v for s, v in curve(full).items() if s <= 6}
    assert full[-1]["eval_loss"] < full[0]["eval_loss"]
    assert [r["done"] for r in full] == [False, False, False, True]
    assert run(task, {**config, "max_steps": 6, "seed": 5}, session=session)[0]["eval_loss"] != full[0]["eval_loss"]


def test_a_seed_of_its_own_for_each_configuration(make_task: Callable[..., Task], tmp_path: Path) -> None:
    task = make_task(seed_per_config=True)
    session = Session(task)
    config = {"lr": 1e-3, "mixture": {"animals": 0.7, "numbers": 0.3}}
    seeds = {task.seed_of(config | {"lr": lr}) for lr in (1e-3, 2e-3, 3e-3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert make_task(seed_per_config=True, seed=1).seed_of(config) not in seeds
    # the same whatever the order of the keys, and what the searcher adds for a promotion
    promoted = {"mixture": {"numbers": 0.3, "animals": 0.7}, "lr": 1e-3, "max_steps": 12, "resume_from": "there"}
    assert task.seed_of(promoted) == task.seed_of(config)
    assert task.seed_of(config | {"seed": 7}) == 7

    full = run(task, config, session=session)
    short = run(task, {**config, "max_steps": 6}, session=session, keep=tmp_path / "short")
    rest = run(task, {**config, "resume_from": str(tmp_path / "short")}, session=session)
    assert curve(short) | curve(rest) == pytest.approx(curve(full), abs=1e-6)
    as_told = run(task, {**config, "seed": task.seed_of(config)}, session=session)
    assert curve(as_told) == curve(full) != curve(run(task, {**config, "seed": 0}, session=session))


@pytest.mark.parametrize("lora", [pytest.param(None, marks=pytest.mark.slow), LORA])
def test_a_resumed_curve_is_the_unbroken_one(
    make_task: Callable[..., Task], base_dir: Path, tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    # LoRA with dropout: the random state has to come back too, not only weights and optimiser.
    task = make_task() if lora is None else make_task(model=Model(name=str(base_dir)), accumulation=2)
    session = Session(task)
    config: dict[str, Any] = {"lr": 2e-3, "mixture": {"animals": 0.5, "numbers": 0.5}}
    if lora is not None:
        config["lora"] = lora
    full = run(task, config, session=session)
    short = run(task, {**config, "max_steps": 6}, session=session, keep=tmp_path / "short")
    rest = run(task, {**config, "max_steps": 12, "resume_from": str(tmp_path / "short")}, session=session)
    assert curve(short) | curve(rest) == pytest.approx(curve(full), abs=1e-6)
    assert [r["train_loss"] for r in short + rest] == pytest.approx([r["train_loss"] for r in full], abs=1e-6)
    size = sum(f.stat().st_size for f in (tmp_path / "short").rglob("*"))
    weights = sum(p.numel() for p in session.models.build(config, 0).parameters()) * 4
    assert size < (4 * weights + 200_000 if lora is None else 400_000)


def test_a_run_resumes_only_its_own(make_task: Callable[..., Task], tmp_path: Path) -> None:
    task = make_task()
    session = Session(task)
    run(task, {"lr": 1e-3, "max_steps": 3}, session=session, keep=tmp_path / "c")
    with pytest.raises(TaskError, match="another config"):
        run(task, {"lr": 2e-3, "resume_from": str(tmp_path / "c")}, session=session)
    with pytest.raises(TaskError, match="nothing left"):
        run(task, {"lr": 1e-3, "resume_from": str(tmp_path / "c"), "max_steps": 3}, session=session)
    with pytest.raises(TaskError, match="not a checkpoint"):
        run(task, {"lr": 1e-3, "resume_from": str(tmp_path)}, session=session)
    fewer = {**task.domains, "animals": replace(task.domains["animals"], held_out=0.5)}
    for other, said in (
        ({"batch_size": 2}, r"trained with \{'batch_size': 4\}, and the task now says \{'batch_size': 2\}"),
        ({"seed": 7}, "'seed': 0"),
        ({"schedule": "linear"}, "'schedule': 'cosine'"),
        ({"domains": fewer}, "'rows'"),
        ({"max_steps": 24}, "full run has 12 steps, the task's 24"),
    ):
        with pytest.raises(TaskError, match=said):
            run(replace(task, **other), {"lr": 1e-3, "resume_from": str(tmp_path / "c")})
    # passes, and a default that the configuration overrides, have no part in it
    same = replace(task, accumulation=2, lr=np.float32(0.5))
    assert run(same, {"lr": 1e-3, "resume_from": str(tmp_path / "c")})[-1]["step"] == 12


def test_granted_steps_round_up_to_a_report(make_task: Callable[..., Task]) -> None:
    task = make_task(max_steps=10, eval_every=4)
    assert [task.granted_steps({"max_steps": s}) for s in (0.5, 4, 4.5, 8, 9, 10, 99)] == [4, 4, 8, 8, 10, 10, 10]
    assert task.granted_steps({}) == task.granted_steps({"max_steps": None}) == 10
    with pytest.raises(TaskError, match="positive"):
        task.granted_steps({"max_steps": 0})
    reports = run(task, {})
    assert [r["step"] for r in reports] == [4, 8, 10]


def test_a_full_run_keeps_its_best_and_loads(make_task: Callable[..., Task], tmp_path: Path) -> None:
    task = make_task(lr=3e-2, max_steps=30, eval_every=5, domains=make_task().domains)
    session = Session(task)
    reports = run(task, {"mixture": {"animals": 1.0}}, session=session, keep=tmp_path / "best")
    best = min(reports, key=lambda r: r["eval_loss"])
    model, tokenizer = load(tmp_path / "best")
    again = token_loss(model, session.target["animals"], task.eval_rows)
    assert again == pytest.approx(best["eval_loss"], abs=1e-4)
    assert tokenizer.get_vocab() == session.tokenizer.get_vocab()
    assert model.config.use_cache


def test_lora_checkpoints_load_on_their_base(make_task: Callable[..., Task], base_dir: Path, tmp_path: Path) -> None:
    task = make_task(model=Model(name=str(base_dir)))
    session = Session(task)
    for r in (2, 8):  # the second trial reuses the frozen base of the first
        reports = run(task, {"lora": {**LORA, "r": r}}, session=session, keep=tmp_path / "c")
    alone = run(task, {"lora": {**LORA, "r": 8}})
    assert curve(reports) == pytest.approx(curve(alone), abs=1e-6)
    model, _ = load(tmp_path / "c")
    again = token_loss(model, session.target["animals"], task.eval_rows)
    assert again == pytest.approx(min(r["eval_loss"] for r in reports), abs=1e-4)


def test_divergence_fails_with_its_reason(make_task: Callable[..., Task]) -> None:
    task = make_task(trainer_args={"max_grad_norm": 0.0, "optim": "sgd"})
    with pytest.raises(TrainingError, match=r"at step 3; the run diverged"):
        run(task, {"lr": 1e30})


def test_out_of_memory_fails_with_its_reason(make_task: Callable[..., Task]) -> None:
    task = make_task()
    session = Session(task)
    # A real failed allocation: the hook asks for 10^15 bytes in the forward pass.
    import torch

    build = session.models.build

    def hungry(config: Any, seed: int) -> Any:
        model = build(config, seed)
        model.register_forward_pre_hook(lambda *_: torch.empty(10**15, dtype=torch.uint8) and None)
        return model

    session.models.build = hungry  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"out of memory at step 0.*accumulation"):
        run(task, {}, session=session)


def test_weighted_targets_and_bad_tasks(make_task: Callable[..., Task]) -> None:
    domains = make_task().domains
    animals, numbers = domains["animals"], domains["numbers"]
    target = {"a": Target(animals.validation(), 3.0), "n": Target(numbers, 1.0)}
    last = run(make_task(target=target), {"max_steps": 3})[-1]
    assert last["eval_loss"] == pytest.approx(0.75 * last["eval_a_loss"] + 0.25 * last["eval_n_loss"])
    for a, n in ((-0.5, 1.0), (0.0, 0.0)):
        with pytest.raises(TaskError, match="target weights must be >= 0 and not all zero"):
            make_task(target={"a": Target(animals, a), "n": Target(numbers, n)})
    with pytest.raises(TaskError, match="mixture names"):
        run(make_task(), {"mixture": {"plants": 1.0}})
    with pytest.raises(TaskError, match="sum to 1"):
        run(make_task(), {"mixture": {"animals": 0.2}})
    with pytest.raises(TaskError, match="no \\['speed'\\]"):
        run(make_task(trainer_args={"speed": 9}), {})
    with pytest.raises(TaskError, match="not a multiple of accumulation"):
        make_task(batch_size=4, accumulation=3)
    for rows in (0, -1, 1.5):
        with pytest.raises(TaskError, match=rf"eval_rows must be a positive integer, or None for all rows, got {rows}"):
            make_task(eval_rows=rows)
    with pytest.raises(TaskError, match=r"accuracy\.questions must be a positive integer.*got 0"):
        make_task(accuracy=Accuracy(animals, questions=0))


def token_loss(model: Any, rows: Any, count: int | None) -> float:
    """Mean loss a token, computed without any of our training code."""
    import torch

    model.eval()
    total = tokens = 0.0
    with torch.no_grad():
        for i in sample(len(rows), count, 0):
            ids = torch.tensor(rows[i]["input_ids"], dtype=torch.int64)[None]
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            tokens += ids.shape[1] - 1
    return total / tokens
