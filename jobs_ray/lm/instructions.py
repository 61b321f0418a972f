"""Instruction data in the columns of Stanford Alpaca and of ShareGPT, as prompts and turns."""

from __future__ import annotations

from typing import Any

from jobs_ray.lm.errors import DataError
from jobs_ray.lm.questions import Row

_ALPACA = (
    "Below is an instruction that describes a task{with_input}. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n"
)
_PAIRED = ", paired with an input that provides further context"
_SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "model": "assistant", "system": "system",
}  # fmt: skip


def alpaca(row: Row, *, chat: bool) -> tuple[str, str]:
    """(prompt, answer) of instruction, input (may be absent or empty) and output.

    chat: the prompt is what a user would say; else Stanford's own, which the published Alpaca models were trained on.
    """
    instruction, given = row["instruction"] or "", row.get("input") or ""
    if chat:
        return f"{instruction}\n\n{given}" if given else instruction, row["output"] or ""
    prompt = _ALPACA.format(with_input=_PAIRED if given else "", instruction=instruction)
    return prompt + (f"### Input:\n{given}\n\n" if given else "") + "### Response:\n", row["output"] or ""


def sharegpt(row: Row) -> list[dict[str, Any]]:
    """Turns of {"from", "value"} as turns of {"role", "content"}; those that are so already stay.

    Raises DataError for a speaker that is neither system, user nor assistant: nobody here knows how to write it.
    """
    turns = []
    for turn in row["conversations"] or ():
        speaker = turn.get("from") or turn.get("role")
        if speaker not in _SPEAKERS:
            raise DataError(
                f"a turn is from {speaker!r}, not from {', '.join(_SPEAKERS)}; give Domain.format a function that "
                "turns such rows into messages"
            )
        words = turn.get("value") if turn.get("value") is not None else turn.get("content")
        turns.append({"role": _SPEAKERS[speaker], "content": words})
    return turns
