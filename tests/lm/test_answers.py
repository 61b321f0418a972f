"""Questions and their answers: what is learned of them, which option is the likeliest, which texts are right."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs_ray.lm import Domain, Session, Task, formatting, metrics
from jobs_ray.lm.evaluation import loss_sums
from jobs_ray.lm.questions import Question


def test_the_loss_is_of_what_is_learned_only(make_task: Callable[..., Task]) -> None:
    domain = Domain([{"prompt": "one plus two", "completion": " three"}] * 3)
    session = Session(make_task(domains={"d": domain}, target={"t": domain}))
    rows, model = session.target["t"], session.models.build({}, 0).eval()
    with torch.no_grad():
        _, count = loss_sums(model, rows, list(range(len(rows))), 2).tolist()
    assert count == rows.info.loss_tokens < rows.info.tokens


class Says:
    """A model to which a token is the likelier, the larger its number."""

    device = "cpu"

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.seen: list[list[int]] = []

    def __call__(self, input_ids: torch.Tensor, **_: Any) -> Any:
        self.seen += input_ids.tolist()
        logits = torch.arange(self.vocabulary, dtype=torch.float32).expand(*input_ids.shape, -1)
        return SimpleNamespace(logits=logits)


def test_the_likeliest_option_is_the_answer_whatever_their_number(make_task: Callable[..., Task]) -> None:
    session = Session(make_task(seq_len=64))
    vocabulary = session.tokenizer.get_vocab()
    a, b, c, *_, best = sorted((w for w in vocabulary if len(w) == 1 and w.isalnum()), key=vocabulary.__getitem__)
    options = [(a, best), (a, b, best), (best, c), (a, b, c, best)]
    right = [Question("?", best, some) for some in options]
    wrong = [Question("?", next(o for o in some if o != best), some) for some in options]
    model = Says(len(session.tokenizer))
    assert metrics._right_by_likelihood(model, session, right, 3, 0, 1) == 4
    assert metrics._right_by_likelihood(model, session, wrong, 3, 0, 1) == 0


def test_of_a_long_prompt_the_end_is_asked(make_task: Callable[..., Task], with_begin: Any) -> None:
    session = Session(make_task(seq_len=16))
    session.tokenizer = with_begin
    model = Says(len(with_begin))
    for prompt in ("cat " * 50 + "dog", "dog"):
        metrics._scores(model, session, [(Question(prompt, " bird"), " bird")])
    long, short = model.seen
    assert len(long) == 16
    assert with_begin.decode(long).endswith("cat dog bird")
    assert with_begin.decode(short) == "<s>dog bird"


@pytest.mark.parametrize(
    ("row", "accepted"),
    [
        ({"question": "Who?", "answer": {"value": "Ann", "aliases": ["Anne"]}}, {"Ann", "Anne"}),
        ({"question": "Is it?", "best_answer": "No", "correct_answers": ["No", "Never"]}, {"No", "Never"}),
        ({"question": "How many?", "answer": "1+1\n#### 2"}, {"2"}),
    ],
)
def test_every_right_answer_of_a_question_counts(row: dict[str, Any], accepted: set[str]) -> None:
    kind = formatting.detect(row, column="text", prompt="prompt", completion="completion")
    question = formatting.asked_of(row, kind, prompt="prompt", completion="completion", tokenizer=None)
    assert set(question.accepted) == accepted
    assert all(metrics._matches(text, question) for text in accepted)


def test_a_worked_answer_may_have_several_marks() -> None:
    question = Question("?", "a\n#### 1\nb\n#### 2", (), ("2",))
    assert metrics._matches("so\n#### 1\nand\n#### 2\nQuestion: ...\n#### 7", question)
    assert not metrics._matches("so\n#### 2\nand\n#### 1", question)
