"""A reused actor holds one model: the previous trial's is gone when the next one's is built."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs_ray.lm import Session, Task, TrainingError, run
from jobs_ray.lm.actor import actor_trainable


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only what the code frees itself is freed."""
    gc.disable()
    yield
    gc.enable()


def watched(session: Session) -> tuple[list[Any], list[int]]:
    """Weak references to every model that is built, and how many of the earlier ones lived when it was."""
    models: list[Any] = []
    alive: list[int] = []
    build = session.models.build

    def watch(config: Any, seed: int) -> Any:
        alive.append(sum(ref() is not None for ref in models))
        model = build(config, seed)
        models.append(weakref.ref(model))
        return model

    session.models.build = watch  # type: ignore[method-assign]
    return models, alive


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"r": 2, "q_proj": True}])
def test_five_trials_in_a_row_hold_one_model(
    make_task: Callable[..., Task], no_collector: None, tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    session = Session(make_task(max_steps=6))
    models, alive = watched(session)
    for _ in range(5):
        run(session.task, {"lora": lora}, session=session, keep=tmp_path / "c")
    # the adapters of the last trial stay with the base they sit on, until the next trial takes it over
    assert alive == [0] * 5 if lora is None else max(alive) <= 1
    assert sum(ref() is not None for ref in models) == (0 if lora is None else 1)


def test_an_actor_holds_one_model_whether_trials_end_or_are_stopped(
    make_task: Callable[..., Task], no_collector: None
) -> None:
    actor = actor_trainable(make_task(max_steps=6), {"CPU": 1.0})({})
    models, alive = watched(actor._session)
    for trial in range(5):
        actor.train()
        if trial % 2:
            actor.train()  # to its end; the others are stopped after one report
        assert actor.reset({"lr": 1e-3 * trial})
    actor.stop()
    assert alive == [0] * 5
    assert not any(ref() for ref in models)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_five_trials_in_one_actor_hold_no_more_memory_than_the_first(make_task: Callable[..., Task]) -> None:
    actor = actor_trainable(make_task(max_steps=6), {"CPU": 1.0})({})
    held = []
    for trial in range(5):
        while not actor.train().get("done"):
            pass
        assert actor.reset({"lr": 1e-3 * (trial + 1)})
        held.append(int(Path("/proc/self/statm").read_text().split()[1]))
    actor.stop()
    assert max(held[1:]) <= 1.05 * held[0]


def test_a_failed_trial_leaves_no_model(make_task: Callable[..., Task], no_collector: None) -> None:
    session = Session(make_task(trainer_args={"max_grad_norm": 0.0, "optim": "sgd"}))
    _, alive = watched(session)
    for lr in (1e30, 1e-3):
        try:
            run(session.task, {"lr": lr}, session=session)
        except TrainingError:
            assert lr == 1e30
    assert alive == [0, 0]
