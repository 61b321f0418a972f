"""Rows to text: every format turns a row into segments, each with or without loss.

A segment is `(text, loss)`: tokens of a segment with `loss=False` are read but not learned (prompts). Question
formats also give the `Question` behind a row, which the accuracy metric asks.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

from jinja2 import TemplateError

from jobs_ray.lm.chat import Segments, as_chat, chat_segments, completion_segments, question_of, turns_of
from jobs_ray.lm.errors import DataError
from jobs_ray.lm.instructions import alpaca, sharegpt
from jobs_ray.lm.questions import QUESTIONS, Question, Row

FORMATS = (
    "auto", "text", "chat", "sharegpt", "alpaca", "prompt_completion", "conversational", "wikitext", *QUESTIONS
)  # fmt: skip
TURNS = ("chat", "sharegpt", "conversational")  # written by the chat template, where there is one
# Which columns tell a format, the most particular first.
_COLUMNS: tuple[tuple[str, frozenset[str]], ...] = (
    ("chat", frozenset({"messages"})),
    ("sharegpt", frozenset({"conversations"})),
    ("alpaca", frozenset({"instruction", "output"})),
    ("sciq", frozenset({"question", "correct_answer", "distractor1"})),
    ("hellaswag", frozenset({"ctx", "endings", "label"})),
    ("truthfulqa", frozenset({"question", "best_answer"})),
    ("truthfulqa", frozenset({"question", "mc1_targets"})),
    ("arc", frozenset({"question", "choices", "answerKey"})),
    ("mmlu", frozenset({"question", "choices", "answer"})),
    ("prompt_completion", frozenset({"prompt", "completion"})),
    ("text", frozenset({"text"})),
)
# What a row that is not as its format says, or that the chat template refuses, raises on its way to text.
_MISFITS = (KeyError, TypeError, IndexError, ValueError, AttributeError, TemplateError)


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
        "and column, or prompt and completion, to the columns that hold the text, or format to a function of the row"
    )


def segments_of(
    row: Row, kind: str, *, column: str, prompt: str, completion: str, tokenizer: Any = None, chat: bool = False
) -> Segments:
    """The row as segments; an empty list when there is nothing to learn in it."""
    try:
        if kind in ("text", "wikitext"):
            [text] = _texts(row, column)
            return [(text, True)] if text.strip() else []
        if kind == "chat":
            return chat_segments(row["messages"] or (), tokenizer, row.get("tools"))
        if kind == "sharegpt":
            return chat_segments(sharegpt(row), tokenizer)
        if kind == "conversational":
            return completion_segments(row[prompt] or (), row[completion] or (), tokenizer, row.get("tools"))
        if kind in ("prompt_completion", "alpaca"):
            asked, answer = _pair(row, kind, prompt, completion, chat)
            if not answer:
                return []
            return turns_of(asked, answer, tokenizer) if chat else [(asked, False), (answer, True)]
        if kind in QUESTIONS:
            question = QUESTIONS[kind](row)
            return turns_of(question.prompt, question.answer, tokenizer) if chat else question.segments
    except _MISFITS as error:
        raise _misfit(row, kind, error) from error
    raise DataError(f"unknown format {kind!r}; known: {', '.join(FORMATS)}")


def asked_of(row: Row, kind: str, *, prompt: str, completion: str, tokenizer: Any, chat: bool = False) -> Question:
    """The question that the accuracy metric asks of a row, written as the row is trained on. Raises DataError."""
    try:
        if kind == "chat":
            return question_of(row["messages"], tokenizer, row.get("tools"))
        if kind == "sharegpt":
            return question_of(sharegpt(row), tokenizer)
        if kind == "conversational":
            return question_of([*row[prompt], *row[completion]], tokenizer, row.get("tools"))
        if kind in ("prompt_completion", "alpaca"):
            asked, answer = _pair(row, kind, prompt, completion, chat)
            question = Question(asked, answer, (), (answer.strip(),))
        elif kind in QUESTIONS:
            question = QUESTIONS[kind](row)
        else:
            raise DataError(f"accuracy needs questions; {kind!r} rows have none (formats: {list(QUESTIONS)})")
        return as_chat(question, tokenizer) if chat else question
    except _MISFITS as error:
        raise _misfit(row, kind, error) from error


def _pair(row: Row, kind: str, prompt: str, completion: str, chat: bool) -> tuple[str, str]:
    if kind == "alpaca":
        _texts(row, "instruction", "output")  # the input goes into the prompt as it is
        return alpaca(row, chat=chat)
    asked, answer = _texts(row, prompt, completion)
    return asked, answer


def _texts(row: Row, *names: str) -> list[str]:
    """Columns of the row, a missing text as an empty one. Raises DataError for what is no text: whether a label is to
    be learned as 1, 1.0, True or "yes" only its user knows."""
    for name in names:
        if not isinstance(row[name], str | None):
            raise DataError(
                f"column {name!r} holds {row[name]!r:.80} ({type(row[name]).__name__}), expected a text; make it one "
                f"with a function as Domain.format, such as lambda row: {{**row, {name!r}: str(row[{name!r}])}}"
            )
    return [row[name] or "" for name in names]


def apply(function: Callable[[Row], Any], columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """What `Domain.format` makes of a batch of rows, as columns. Raises DataError for anything but rows alike."""
    made: list[Mapping[str, Any]] = []
    for values in zip(*columns.values(), strict=True):
        row = function(dict(zip(columns, values, strict=True)))
        row = {"text": row} if isinstance(row, str) else row
        if not isinstance(row, Mapping) or (made and set(row) != set(made[0])):
            raise DataError(
                f"a function as format must return a text, or a row with the same columns each time; got {row!r:.200}. "
                "An empty text leaves a row out"
            )
        made.append(row)
    return {name: [row[name] for row in made] for name in made[0]}


def function_key(function: Callable[[Row], Any]) -> str:
    """Key of a function's code, defaults and closure, of a partial's arguments and of an object's attributes; not of
    what it reads from elsewhere. The same in every process."""
    from datasets.fingerprint import Hasher

    code = getattr(function, "__code__", None)
    if code is None:
        call = type(function).__call__
        if isinstance(function, functools.partial):
            own, named = [function.func, *function.args], function.keywords
        elif hasattr(call, "__code__"):  # an object that can be called
            own, named = [call], getattr(function, "__dict__", {})
        else:
            return str(Hasher.hash(function))
        held = [*own, *(item for pair in sorted(named.items()) for item in pair)]
        return hashlib.sha256(repr([_value_key(value) for value in held]).encode()).hexdigest()[:24]
    inner = [_value_key(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
    defaults = [getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)]
    return hashlib.sha256(repr([_code_parts(code), inner, Hasher.hash(defaults)]).encode()).hexdigest()[:24]


def _value_key(value: Any) -> str:
    from datasets.fingerprint import Hasher

    called = hasattr(value, "__code__") or isinstance(value, functools.partial)
    return function_key(value) if called else str(Hasher.hash(value))


def _code_parts(code: CodeType) -> list[Any]:
    return [code.co_code.hex(), code.co_names, code.co_varnames, [_constant(value) for value in code.co_consts]]


def _constant(value: Any) -> Any:
    """The same in every process: `x in {"a", "b"}` is a frozenset, whose order is each process's own."""
    if isinstance(value, CodeType):
        return _code_parts(value)
    if isinstance(value, frozenset):
        return ["set", sorted(repr(_constant(item)) for item in value)]
    return [_constant(item) for item in value] if isinstance(value, tuple) else repr(value)


def _misfit(row: Row, kind: str, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, TemplateError):
        return DataError(
            f"the tokenizer's chat template refuses a row in the format {kind!r}: {said}; leave such rows out, or give "
            f"the model a tokenizer with another chat_template. The row: {dict(row)!r:.300}"
        )
    return DataError(
        f"a row with columns {sorted(row)} is not in the format {kind!r}: {said}. The row: {dict(row)!r:.300}"
    )
