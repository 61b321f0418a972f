"""Chats: where the loss is, with templates that mark it, that treat the last turn specially, and with none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs_ray.lm import DataError, Domain, Model
from jobs_ray.lm.chat import chat_segments
from jobs_ray.lm.model import load_tokenizer
from jobs_ray.lm.packing import pack
from jobs_ray.lm.tokens import IGNORE

# as Qwen3's: the think block only in the last turn, and not after the generation prompt
THINKS = (
    "{% for m in messages %}<s>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think></think>\n{% endif %}"
    "{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
MARKS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<s>assistant {% generation %}{{ m.content }}</s>"
    "{% endgeneration %}{% else %}<s>{{ loop.revindex }} {{ m.content }}</s>{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}<s>{{ m.role }} {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


TWO = [turn("user", "cat"), turn("assistant", "dog"), turn("user", "fox"), turn("assistant", "wolf")]


@pytest.fixture
def tokenizer(tokenizer_dir: Path) -> Any:
    return load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))


def learned(segments: list[tuple[str, bool]]) -> str:
    return "|".join(text for text, loss in segments if loss)


def test_a_special_last_turn_costs_the_earlier_turns_of_that_row_only(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.chat_template = THINKS
    segments = chat_segments(TWO, tokenizer)
    assert learned(segments) == "<think></think>\nwolf</s>\n"
    assert "".join(text for text, _ in segments) == tokenizer.apply_chat_template(TWO, tokenize=False)
    assert learned(chat_segments(TWO[:2], tokenizer)) == "<think></think>\ndog</s>\n"
    rows = pack(Domain([{"messages": TWO}, {"messages": TWO[:2]}]), tokenizer, 128, tmp_path)
    assert (rows.info.examples, rows.info.dropped) == (2, 0)


def test_a_template_that_marks_generation_is_believed(tokenizer: Any) -> None:
    tokenizer.chat_template = MARKS  # it numbers the turns from behind: no prefix of it is one of a shorter chat
    segments = chat_segments(TWO, tokenizer)
    assert learned(segments) == "dog</s>|wolf</s>"
    assert "".join(text for text, _ in segments) == tokenizer.apply_chat_template(TWO, tokenize=False)


@pytest.mark.parametrize("template", [None, PLAIN, THINKS])
def test_conversational_prompt_and_completion(tokenizer: Any, tmp_path: Path, template: str | None) -> None:
    tokenizer.chat_template = template
    rows = pack(Domain([{"prompt": TWO[:3], "completion": TWO[3:]}]), tokenizer, 128, tmp_path)
    row, used = rows[0], int(rows.lengths[0])
    said = tokenizer.decode(row["labels"][row["labels"] != IGNORE])
    whole = tokenizer.decode(row["input_ids"][:used])
    if template is None:
        assert said == " wolf\n</s>"
        assert whole == "user: cat\nassistant: dog\nuser: fox\nassistant: wolf\n</s>"
    else:
        assert said == ("wolf</s>" if template == PLAIN else "<think></think>\nwolf</s>\n")
        assert whole == tokenizer.apply_chat_template(TWO, tokenize=False)


def test_a_template_without_a_place_for_the_answer_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ loop.revindex }}{{ m['content'] }}{% endfor %}"
    with pytest.raises(DataError, match="rewrites earlier turns"):
        pack(Domain([{"prompt": TWO[:3], "completion": TWO[3:]}]), tokenizer, 64, tmp_path)
