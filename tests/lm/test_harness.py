"""lm-evaluation-harness as a metric: a task of our own over local data, on the model as it trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs_ray.lm import LmEval, Session, Task, TaskError, run
from jobs_ray.lm.harness import evaluate

pytest.importorskip("lm_eval")
# the harness's own imports and generators, not ours
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def trained(make_task: Callable[..., Task], harness_tasks: Path) -> tuple[list[dict[str, Any]], Session]:
    """A run's reports, and its session: the harness reads some thousand files once in each."""
    spec = LmEval(["animals_or_numbers"], limit=8, include_path=str(harness_tasks))
    session = Session(make_task(lm_eval=spec))
    return run(session.task, {}, session=session), session


def test_the_harness_reports_beside_the_loss_and_disturbs_nothing(
    make_task: Callable[..., Task], trained: tuple[list[dict[str, Any]], Session]
) -> None:
    plain, (reports, _) = run(make_task(), {}), trained
    assert [r["eval_loss"] for r in reports] == [r["eval_loss"] for r in plain]
    assert all(r["lm_eval_animals_or_numbers_acc"] * 8 in range(9) for r in reports)
    assert "lm_eval_animals_or_numbers_acc_norm" in reports[0]
    assert not any("stderr" in key or "alias" in key for key in reports[0])


def test_its_accuracy_is_that_of_the_likelier_option(
    make_task: Callable[..., Task], harness_tasks: Path, trained: tuple[list[dict[str, Any]], Session]
) -> None:
    session = Session(
        make_task(lm_eval=LmEval(["animals_or_numbers"], limit=None, include_path=str(harness_tasks)), seq_len=64)
    )
    session.harness = trained[1].harness
    model = session.models.build({}, seed=0).eval()

    def likelihood(start: str, option: str) -> float:
        head = session.tokenizer(start)["input_ids"]
        ids = session.tokenizer(f"{start} {option}")["input_ids"]
        with torch.no_grad():
            scores = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
        return sum(float(scores[i - 1, ids[i]]) for i in range(len(head), len(ids)))

    rows = [json.loads(line) for line in (harness_tasks.parent / "data.jsonl").read_text().splitlines()]
    scores = [[likelihood(row["start"], option) for option in row["choices"]] for row in rows]
    right = [max((0, 1), key=pair.__getitem__) == row["label"] for pair, row in zip(scores, rows, strict=True)]
    assert 0 < sum(right) < len(right)
    assert evaluate(model, session)["lm_eval_animals_or_numbers_acc"] == pytest.approx(sum(right) / len(right))


def test_an_unknown_task_is_said(make_task: Callable[..., Task], trained: tuple[list[dict[str, Any]], Session]) -> None:
    session = Session(make_task(lm_eval=LmEval(["no_such_task"])))
    session.harness = trained[1].harness
    with pytest.raises(TaskError, match=r"lm_eval has no task \['no_such_task'\]"):
        evaluate(session.models.build({}, seed=0), session)
