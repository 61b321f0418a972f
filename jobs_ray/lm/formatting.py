"""Rows to text: every format turns a row into segments, each with or without loss.

A segment is `(text, loss)`: tokens of a segment with `loss=False` are read but not learned (prompts). Question
formats also give the `Question` behind a row, which the accuracy metric asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs_ray.lm.chat import Segments, as_chat, chat_segments, completion_segments, question_of, turns_of
from jobs_ray.lm.errors import DataError
from jobs_ray.lm.questions import QUESTIONS, Question, Row

FORMATS = ("auto", "text", "chat", "prompt_completion", "conversational", "wikitext", *QUESTIONS)
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
    if {prompt, completion} <= names and isinstance(row[prompt], list):
        return "conversational"
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


def segments_of(
    row: Row, kind: str, *, column: str, prompt: str, completion: str, tokenizer: Any = None, chat: bool = False
) -> Segments:
    """The row as segments; an empty list when there is nothing to learn in it."""
    try:
        if kind in ("text", "wikitext"):
            text = row[column]
            return [(text, True)] if text and text.strip() else []
        if kind == "chat":
            return chat_segments(row["messages"], tokenizer, row.get("tools"))
        if kind == "conversational":
            return completion_segments(row[prompt], row[completion], tokenizer, row.get("tools"))
        if kind == "prompt_completion":
            asked, answer = row[prompt] or "", row[completion]
            if not answer:
                return []
            return turns_of(asked, answer, tokenizer) if chat else [(asked, False), (answer, True)]
        if kind in QUESTIONS:
            question = QUESTIONS[kind](row)
            return turns_of(question.prompt, question.answer, tokenizer) if chat else question.segments
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise _misfit(row, kind, error) from error
    raise DataError(f"unknown format {kind!r}; known: {', '.join(FORMATS)}")


def asked_of(row: Row, kind: str, *, prompt: str, completion: str, tokenizer: Any, chat: bool = False) -> Question:
    """The question that the accuracy metric asks of a row, written as the row is trained on. Raises DataError."""
    try:
        if kind == "chat":
            return question_of(row["messages"], tokenizer)
        if kind == "conversational":
            return question_of([*row[prompt], *row[completion]], tokenizer)
        if kind == "prompt_completion":
            question = Question(row[prompt], row[completion], (), (row[completion].strip(),))
        elif kind in QUESTIONS:
            question = QUESTIONS[kind](row)
        else:
            raise DataError(f"accuracy needs questions; {kind!r} rows have none (formats: {list(QUESTIONS)})")
        return as_chat(question, tokenizer) if chat else question
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise _misfit(row, kind, error) from error


def _misfit(row: Row, kind: str, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"a row with columns {sorted(row)} is not in the format {kind!r}: {type(error).__name__}: {error}")
