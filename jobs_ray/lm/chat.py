"""Chats as text: through the tokenizer's chat template, with the loss on what the assistant says."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs_ray.lm.errors import DataError
from jobs_ray.lm.questions import Question

Segments = list[tuple[str, bool]]
_REWRITES = (
    "the tokenizer's chat template rewrites earlier turns, so the loss cannot be put on the assistant's words alone; "
    "give prompt/completion rows, or another chat_template"
)


def has_template(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "chat_template", None))


def chat_segments(messages: Sequence[Mapping[str, Any]], tokenizer: Any, tools: Any = None) -> Segments:
    """Loss on what the assistant says, through the tokenizer's chat template when it has one.

    An empty list when the assistant says nothing: in no turn, or in one of them, whose end would be learned as an
    answer. Raises DataError for turns that cannot be written as text, and for templates that rewrite earlier turns.
    """
    turns, tools = _turns(messages), _as_written(tools)
    if not any(m["role"] == "assistant" for m in turns) or any(map(_says_nothing, turns)):
        return []
    if not has_template(tokenizer):
        return _plain(turns)
    segments = (
        _marked(turns, tokenizer, tools)
        if _marks_generation(tokenizer)
        else _by_turns(turns, _writer(tokenizer, tools))
    )
    for m in turns:
        if m["role"] == "assistant":
            _check_calls(m, "".join(text for text, _ in segments))
    return segments


def completion_segments(
    prompt: Sequence[Mapping[str, Any]], completion: Sequence[Mapping[str, Any]], tokenizer: Any, tools: Any = None
) -> Segments:
    """TRL's conversational prompt and completion: loss on the completion's turns alone, whatever the prompt says.

    An empty list when there is no completion, or a turn of it says nothing.
    """
    prompt, completion, tools = _turns(prompt), _turns(completion), _as_written(tools)
    if not completion or any(map(_says_nothing, completion)):
        return []
    if not has_template(tokenizer):
        return [(text, False) for text, _ in _plain(prompt)] + _plain(completion)
    write = _writer(tokenizer, tools)
    before, after = write(list(prompt), True), write([*prompt, *completion], False)
    if not after.startswith(before):
        raise DataError(_REWRITES)
    _check_calls(completion[-1], after)
    return [(before, False), (after[len(before) :], True)]


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[Any]:
    turns = list(map(_as_written, messages))
    for m in turns:
        if m.get("role") != "tool" and not isinstance(m.get("content"), str | list | None):
            # most templates would write a number as they write a text, some not at all
            raise DataError(
                f"a turn of {m.get('role')!r} has the content {m['content']!r:.80} ({type(m['content']).__name__}), "
                "expected a text; make it one with a function as Domain.format"
            )
    return turns


def _says_nothing(message: Mapping[str, Any]) -> bool:
    return message["role"] == "assistant" and not message.get("content") and not message.get("tool_calls")


def _plain(turns: Sequence[Mapping[str, Any]]) -> Segments:
    """Without a template. Raises DataError for turns that are no text."""
    segments: Segments = []
    for m in turns:
        if not isinstance(m.get("content"), str):
            raise DataError(
                f"a turn of {m['role']!r} has no text but {sorted(set(m) - {'role'})}: only a chat template can "
                "write it; give the model a tokenizer with one, or leave such rows out"
            )
        segments += [(f"{m['role']}:", False), (f" {m['content']}\n", m["role"] == "assistant")]
    return segments


def _as_written(value: Any) -> Any:
    """A row's value without what the row lacks: a column of dicts has every key in every row, at any depth, with None
    for what a row has not (another tool's arguments, which would be learned as null)."""
    if isinstance(value, Mapping):
        return {name: _as_written(item) for name, item in value.items() if item is not None}
    return [_as_written(item) for item in value] if isinstance(value, list | tuple) else value


def _writer(tokenizer: Any, tools: Any) -> Callable[[list[Any], bool], str]:
    extra = {"tools": tools} if tools else {}

    def write(messages: list[Any], prompting: bool) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompting, **extra))

    return write


def _marks_generation(tokenizer: Any) -> bool:
    return re.search(r"\{%-?\s*generation\s*-?%\}", str(tokenizer.get_chat_template())) is not None


def _marked(messages: list[Any], tokenizer: Any, tools: Any) -> Segments:
    """Templates that mark what the assistant generates: what `return_assistant_tokens_mask` reads too."""
    from transformers.utils.chat_template_utils import render_jinja_template

    [text], [spans] = render_jinja_template(
        conversations=[messages],
        tools=tools,
        chat_template=tokenizer.get_chat_template(),
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    segments: Segments = []
    at = 0
    for start, end in spans:
        segments += [(text[at:start], False), (text[start:end], True)]
        at = end
    return [(part, loss) for part, loss in [*segments, (text[at:], False)] if part]


def _by_turns(messages: list[Any], write: Callable[[list[Any], bool], str]) -> Segments:
    """Every turn of the assistant as the template adds it; only the last, where later turns change earlier ones
    (Qwen3 writes a think block into the last turn only)."""
    segments: Segments = []
    done = ""
    spoken = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    for i in spoken:
        before, after = write(messages[:i], True), write(messages[: i + 1], False)
        if not after.startswith(before):
            raise DataError(_REWRITES)
        if not before.startswith(done):
            break
        segments += [(before[len(done) :], False), (after[len(before) :], True)]
        done = after
    else:
        return segments
    before, after = write(messages[: spoken[-1]], True), write(messages[: spoken[-1] + 1], False)
    if not after.startswith(before):
        raise DataError(_REWRITES)
    return [(before, False), (after[len(before) :], True)]


def _check_calls(message: Mapping[str, Any], written: str) -> None:
    """Templates that know no tool calls write the turn as empty, or as the word None, and that would be learned."""
    for call in message.get("tool_calls") or ():
        name = (call.get("function") or call).get("name")
        if not name or str(name) not in written:
            raise DataError(
                f"the tokenizer's chat template does not write tool calls (of {name!r}); give a tokenizer whose "
                "template does, or leave such rows out"
            )


def question_of(messages: Sequence[Mapping[str, Any]], tokenizer: Any, tools: Any = None) -> Question:
    """The last turn as the answer to all before it. Raises DataError when it is not the assistant's, in words."""
    *before, last = _as_written(messages)
    if last["role"] != "assistant" or not isinstance(last.get("content"), str) or not before:
        raise DataError("accuracy on a chat needs rows that end with the assistant's answer, in words")
    answer = last["content"].strip()
    if has_template(tokenizer):
        prompt = _writer(tokenizer, _as_written(tools))(before, True)
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
