"""JoBSSearcher as a drop-in on a real Ray: both kinds of trainable, with and without the scheduler."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from ray import tune
from tune_trainables import STEPS, Class, function, half

from jobs_ray import JoBSScheduler, JoBSSearcher

SPACE = {"x": tune.uniform(0.0, 1.0), "deep": {"n": tune.randint(1, 4)}, "fixed": [1, "a"]}


CHOICES: dict[str, list[Any]] = {
    "trainable": [function, Class],
    "scheduled": [False, True],
    "concurrent": [1, 3, None],
    "mode": ["min", "max"],
}
# every two choices of different kinds meet in one of these
PAIRWISE: list[tuple[Any, ...]] = [
    (function, True, 1, "min"),
    (function, False, 3, "max"),
    (function, True, None, "max"),
    (Class, False, 1, "max"),
    (Class, True, 3, "min"),
    (Class, False, None, "min"),
]
# and every three in one of these
THREEWISE = [
    case
    for case in itertools.product(*CHOICES.values())
    if sum(kind.index(choice) for kind, choice in zip(CHOICES.values(), case, strict=True)) % 2 == 0
]
FEW, MANY = 4, 10
EIGHT = {1: 1, 3: 8, None: None}  # of many trials eight at once: more than there are CPUs


def name_of(case: tuple[Any, ...]) -> str:
    return "-".join(str(getattr(choice, "__name__", choice)) for choice in case)


@pytest.mark.parametrize(("chosen", "strength"), [(PAIRWISE, 2), (THREEWISE, 3)], ids=["pairs", "threes"])
def test_no_choices_that_never_meet(chosen: list[tuple[Any, ...]], strength: int) -> None:
    def together(cases: Iterable[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        return {some for case in cases for some in itertools.combinations(enumerate(case), strength)}

    assert together(chosen) == together(itertools.product(*CHOICES.values()))


@pytest.mark.parametrize(
    ("trainable", "scheduled", "concurrent", "mode", "trials"),
    [
        *(pytest.param(*case, FEW, id=f"{name_of(case)}-{FEW}") for case in PAIRWISE),
        *(
            pytest.param(what, scheduled, EIGHT[concurrent], mode, MANY, marks=pytest.mark.slow)
            for what, scheduled, concurrent, mode in THREEWISE
        ),
    ],
)
def test_runs_to_the_end(
    fit: Callable[..., tune.ResultGrid],
    trainable: Any,
    scheduled: bool,
    concurrent: int | None,
    mode: str,
    trials: int,
) -> None:
    searcher = JoBSSearcher(max_t=STEPS, seed=0) if scheduled else JoBSSearcher()
    results = fit(
        half(trainable),  # eight fit on the four CPUs of the tests
        SPACE,
        searcher,
        JoBSScheduler() if scheduled else None,
        metric="loss" if mode == "min" else "score",
        mode=mode,
        num_samples=trials,
        max_concurrent_trials=concurrent,
        reuse_actors=trainable is Class,
    )
    assert len(results) == trials
    assert not results.errors
    lengths = sorted(result.metrics["training_iteration"] for result in results)
    assert lengths[-1] == STEPS
    assert (lengths[0] < STEPS) == scheduled
    assert all(result.config["fixed"] == [1, "a"] for result in results)
    assert all(type(result.config["deep"]["n"]) is int for result in results)
    report = searcher.report()
    assert [row["status"] for row in report["trials"]].count("running") == 0
    assert sum(len(row["curve"]) for row in report["trials"]) == sum(lengths)
