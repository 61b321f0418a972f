"""Rows to text: every format turns a row into segments, each with or without loss.

A segment is `(text, loss)`: tokens of a segment with `loss=False` are read but not learned (prompts). Question
formats also give the `Question` behind a row, which the accuracy metric asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs_ray.lm.errors import DataError

Segments = list[tuple[str, bool]]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """A prompt, its right answer and, for multiple choice, the options among which `answer` stands.

    accepted: every text that counts as right when the answer is generated (at least `answer`).
    """

    prompt: str
    answer: str
    options: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.options and self.answer not in self.options:
            raise DataError(f"the answer {self.answer!r} is not among the options {list(self.options)}")

    @property
    def segments(self) -> Segments:
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
FORMATS = ("auto", "text", "chat", "prompt_completion", "wikitext", *QUESTIONS)
# Which columns tell a format, the most particular first.
_COLUMNS: tuple[tuple[str, frozenset[str]], ...] = (
    ("chat", frozenset({"messages"})),
    ("sciq", frozenset({"question", "correct_answer", "distractor1"})),
    ("hellaswag", frozenset({"ctx", "endings", "label"})),
    ("truthfulqa", frozenset({"question", "best_answer"})),
    ("truthfulqa", frozenset({"question", "mc1_targets"})),
    ("arc", frozenset({"question", "choices", "answerKey"})),
    ("mmlu", frozenset({"question", "choices", "answer"})),
    ("prompt_completion", frozenset({"prompt", "completion"})),
    ("text", frozenset({"text"})),
)


def detect(row: Row, *, column: str, prompt: str, completion: str) -> str:
    """The format of rows like this one. Raises DataError with the columns when none fits."""
    names = set(row)
    for kind, needed in _COLUMNS:
        if needed <= names:
            return kind
    if {"question", "answer"} <= names:
        return "triviaqa" if isinstance(row["answer"], Mapping) else "gsm8k"
    if {prompt, completion} <= names:
        return "prompt_completion"
    if column in names:
        return "text"
    raise DataError(
        f"no format fits the columns {sorted(names)}; set format to one of {', '.join(FORMATS[1:])} "
        "and column, or prompt and completion, to the columns that hold the text"
    )


def segments_of(row: Row, kind: str, *, column: str, prompt: str, completion: str, tokenizer: Any = None) -> Segments:
    """The row as segments; an empty list when there is nothing to learn in it."""
    try:
        if kind in ("text", "wikitext"):
            text = row[column]
            return [(text, True)] if text and text.strip() else []
        if kind == "prompt_completion":
            return [(row[prompt], False), (row[completion], True)] if row[completion] else []
        if kind == "chat":
            return chat_segments(row["messages"], tokenizer, row.get("tools"))
        if kind in QUESTIONS:
            return QUESTIONS[kind](row).segments
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"a row with columns {sorted(row)} is not in the format {kind!r}: {type(error).__name__}: {error}"
        ) from error
    raise DataError(f"unknown format {kind!r}; known: {', '.join(FORMATS)}")


def chat_segments(messages: Sequence[Mapping[str, Any]], tokenizer: Any, tools: Any = None) -> Segments:
    """Loss on what the assistant says, through the tokenizer's chat template when it has one.

    Raises DataError for turns that cannot be written as text, and for templates that rewrite earlier turns.
    """
    # a column of dicts has every key in every row: what this row lacks is there as None
    messages = [{name: value for name, value in m.items() if value is not None} for m in messages]
    if not any(m["role"] == "assistant" for m in messages):
        return []
    if not getattr(tokenizer, "chat_template", None):
        segments: Segments = []
        for m in messages:
            if not isinstance(m.get("content"), str):
                raise DataError(
                    f"a turn of {m['role']!r} has no text but {sorted(set(m) - {'role'})}: only a chat template can "
                    "write it; give the model a tokenizer with one, or leave such rows out"
                )
            spoken = m["role"] == "assistant"
            segments += [(f"{m['role']}:", False), (f" {m['content']}\n", spoken)]
        return segments
    extra = {"tools": tools} if tools else {}
    segments = []
    done = ""
    for i, m in enumerate(messages):
        if m["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True, **extra)
        after = tokenizer.apply_chat_template(messages[: i + 1], tokenize=False, **extra)
        if not (before.startswith(done) and after.startswith(before)):
            raise DataError(
                "the tokenizer's chat template rewrites earlier turns, so the loss cannot be put on the "
                "assistant's words alone; give prompt/completion rows, or another chat_template"
            )
        spoken_text = after[len(before) :]
        _check_calls(m, spoken_text)
        segments += [(before[len(done) :], False), (spoken_text, True)]
        done = after
    return segments


def _check_calls(message: Mapping[str, Any], written: str) -> None:
    """Templates that know no tool calls write the turn as empty, or as the word None, and that would be learned."""
    for call in message.get("tool_calls") or ():
        name = (call.get("function") or call).get("name")
        if not name or str(name) not in written:
            raise DataError(
                f"the tokenizer's chat template does not write tool calls (of {name!r}); give a tokenizer whose "
                "template does, or leave such rows out"
            )
    if not message.get("tool_calls") and not message.get("content"):
        raise DataError("a turn of 'assistant' has neither content nor tool_calls; leave such rows out")
