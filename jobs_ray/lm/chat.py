"""Chats as text: through the tokenizer's chat template, with the loss on what the assistant says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jobs_ray.lm.errors import DataError
from jobs_ray.lm.questions import Question

Segments = list[tuple[str, bool]]


def has_template(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "chat_template", None))


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


def question_of(messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> Question:
    """The last turn as the answer to all before it. Raises DataError when it is not the assistant's, in words."""
    *before, last = messages
    if last["role"] != "assistant" or not isinstance(last.get("content"), str) or not before:
        raise DataError("accuracy on a chat needs rows that end with the assistant's answer, in words")
    answer = last["content"].strip()
    if has_template(tokenizer):
        prompt = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        return Question(prompt, answer, (), (answer,), templated=True)
    written = "".join(text for text, _ in chat_segments(messages, tokenizer)[:-1])
    return Question(written, f" {answer}", (), (answer,))


def as_chat(question: Question, tokenizer: Any) -> Question:
    """The question as a user's turn. Raises DataError without a chat template."""
    turns = [{"role": "user", "content": question.prompt.strip()}]
    return dataclasses.replace(
        question,
        prompt=_template(tokenizer).apply_chat_template(turns, tokenize=False, add_generation_prompt=True),
        answer=question.answer.strip(),
        options=tuple(option.strip() for option in question.options),
        templated=True,
    )


def turns_of(prompt: str, answer: str, tokenizer: Any) -> Segments:
    """A prompt and its answer as two turns. Raises DataError without a chat template."""
    turns = [{"role": "user", "content": prompt.strip()}, {"role": "assistant", "content": answer.strip()}]
    return chat_segments(turns, _template(tokenizer))


def _template(tokenizer: Any) -> Any:
    if not has_template(tokenizer):
        raise DataError("Domain.chat=True needs a tokenizer with a chat template; this one has none")
    return tokenizer
