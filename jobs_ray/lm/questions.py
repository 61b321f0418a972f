"""Rows of known question sets, in their columns on the hub, as questions with their right answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs_ray.lm.errors import DataError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """A prompt, its right answer and, for multiple choice, the options among which `answer` stands.

    accepted: every text that counts as right when the answer is generated (at least `answer`).
    templated: the prompt is already written by a chat template, special tokens included.
    """

    prompt: str
    answer: str
    options: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    templated: bool = False

    def __post_init__(self) -> None:
        if self.options and self.answer not in self.options:
            raise DataError(f"the answer {self.answer!r} is not among the options {list(self.options)}")

    @property
    def segments(self) -> list[tuple[str, bool]]:
        """As `formatting.segments_of` gives them."""
        return [(self.prompt, False), (self.answer, True)]


def _ask(question: str, options: Sequence[str] = ()) -> str:
    listed = "".join(f"\n- {option}" for option in options)
    return f"Question: {question.strip()}{listed}\nAnswer:"


def _choice(question: str, options: Sequence[str], index: int) -> Question:
    texts = tuple(f" {str(option).strip()}" for option in options)
    if not 0 <= index < len(texts):
        raise DataError(f"answer index {index} of question {question[:60]!r} is outside 0..{len(texts) - 1}")
    return Question(_ask(question, [t[1:] for t in texts]), texts[index], texts)


def _open(question: str, answer: str, accepted: Sequence[str] = ()) -> Question:
    text = f" {answer.strip()}"
    return Question(_ask(question), text, (), tuple(dict.fromkeys([answer.strip(), *accepted])))


def _labelled(row: Row) -> Question:
    """commonsense_qa, ARC: choices {label: [...], text: [...]}, answerKey."""
    choices = row["choices"]
    labels = list(choices["label"])
    key = row["answerKey"]
    if key not in labels:
        raise DataError(f"answerKey {key!r} is not among the labels {labels}")
    return _choice(row["question"], choices["text"], labels.index(key))


def _gsm8k(row: Row) -> Question:
    worked = row["answer"].strip()
    return Question(_ask(row["question"]), f" {worked}", (), (worked.split("####")[-1].strip(),))


def _triviaqa(row: Row) -> Question:
    answer = row["answer"]
    return _open(row["question"], answer["value"], list(answer.get("aliases") or ()))


def _sciq(row: Row) -> Question:
    options = [row["correct_answer"], row["distractor1"], row["distractor2"], row["distractor3"]]
    # The right option must not always come first; the order depends on the row alone.
    order = sorted(range(4), key=lambda i: options[i])
    support = (row.get("support") or "").strip()
    question = _choice(row["question"], [options[i] for i in order], order.index(0))
    return Question(f"{support}\n{question.prompt}" if support else question.prompt, question.answer, question.options)


def _hellaswag(row: Row) -> Question:
    endings = tuple(f" {e.strip()}" for e in row["endings"])
    return Question(row["ctx"].strip(), endings[int(row["label"])], endings)


def _truthfulqa(row: Row) -> Question:
    if "best_answer" in row:
        return _open(row["question"], row["best_answer"], list(row.get("correct_answers") or ()))
    targets = row["mc1_targets"]
    return _choice(row["question"], targets["choices"], list(targets["labels"]).index(1))


def _mmlu(row: Row) -> Question:
    return _choice(row["question"], row["choices"], int(row["answer"]))


QUESTIONS: dict[str, Callable[[Row], Question]] = {
    "gsm8k": _gsm8k,
    "commonsense_qa": _labelled,
    "triviaqa": _triviaqa,
    "sciq": _sciq,
    "hellaswag": _hellaswag,
    "truthfulqa": _truthfulqa,
    "mmlu": _mmlu,
    "arc": _labelled,
}
