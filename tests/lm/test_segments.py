"""Prompts and answers: their tokens and labels with tokenizers of both kinds, and rows that are not what they seem."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaTokenizer, PreTrainedTokenizerFast

from jobs_ray.lm import Accuracy, DataError, Domain, Model, Session, formatting, metrics
from jobs_ray.lm.chat import as_chat
from jobs_ray.lm.model import load_tokenizer
from jobs_ray.lm.packing import pack
from jobs_ray.lm.questions import QUESTIONS
from jobs_ray.lm.tokens import IGNORE, numbered

TINY = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2}
# as TinyLlama's and Zephyr's: the answer comes after a newline
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# as Gemma's: it knows no system role
GEMMA = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}assistant\n{% endif %}"
)


def chat(*said: str) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(said)
    return {"messages": [{"role": role, "content": words} for role, words in zip(roles, said, strict=False)]}


@pytest.fixture
def byte_level(tokenizer_dir: Path) -> Any:
    return load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))


@pytest.fixture(scope="module")
def pieces() -> dict[str, Any]:
    """Vocabulary and merges of SentencePiece's kind."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    special = ["<unk>", "<s>", "</s>", *bytes_]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(
        ["one plus two equals three . Question : Answer : <|user|> <|assistant|>"] * 50, trainer
    )
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


@pytest.fixture(params=[True, False], ids=["legacy", "not legacy"])
def llama(request: pytest.FixtureRequest, pieces: dict[str, Any]) -> Any:
    return LlamaTokenizer(**pieces, legacy=request.param)


def packed(row: dict[str, Any], tokenizer: Any, folder: Path, **domain: Any) -> tuple[list[int], list[int]]:
    """Tokens, and those of them that are learned."""
    rows = pack(Domain([row], **domain), tokenizer, 128, folder)
    ids, labels = rows[0]["input_ids"][: int(rows.lengths[0])], rows[0]["labels"]
    return ids.tolist(), labels[labels != IGNORE].tolist()


def test_no_space_is_learned_that_the_text_has_not(llama: Any, tmp_path: Path) -> None:
    def ids_of(text: str) -> list[int]:
        return list(llama(text, add_special_tokens=False)["input_ids"])

    llama.chat_template = ZEPHYR
    row = chat("one plus two", "three", "two plus one", "three\n")
    ids, learned = packed(row, llama, tmp_path)
    assert ids == ids_of(llama.apply_chat_template(row["messages"], tokenize=False))
    after = ids_of("\nthree</s>\n")[2:]  # without ▁ and the newline: as the template writes it, with no space
    assert learned[: len(after)] == after
    # the legacy one writes a space after each special token, in that text too
    assert llama.decode(learned).replace("</s> ", "</s>") == "three</s>\nthree\n</s>\n"

    ids, learned = packed({"prompt": "one plus two\n", "completion": "three"}, llama, tmp_path)
    assert ids[-len(learned) :] == learned
    assert ids == [*ids_of("one plus two\nthree"), llama.eos_token_id]
    assert llama.decode(learned) == "three</s>"

    ids, learned = packed({"question": "one?", "choices": ["three", "two"], "answer": 0}, llama, tmp_path)
    assert learned == [*ids_of("three"), llama.eos_token_id]  # " three" after "Answer:", one space as in the text

    straddling = packed({"prompt": "Answer: ", "completion": "three"}, llama, tmp_path)
    assert straddling == packed({"prompt": "Answer:", "completion": " three"}, llama, tmp_path)


def test_options_are_scored_as_they_are_learned(llama: Any, make_task: Any) -> None:
    llama.chat_template = ZEPHYR
    row = {"question": "one plus two?", "choices": ["three", "two"], "answer": 0}
    asked = as_chat(QUESTIONS["mmlu"](row), llama)
    session = Session(make_task(seq_len=128))
    session.tokenizer = llama
    torch.manual_seed(0)
    config = AutoConfig.for_model(**TINY, num_attention_heads=2, intermediate_size=32, vocab_size=len(llama))
    model = AutoModelForCausalLM.from_config(config).eval()
    head, *ids = llama(asked.prompt + "three", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        [score] = metrics._scores(model, session, [(asked, "three")])
        said = torch.log_softmax(model(torch.tensor([[head, *ids]])).logits[0, :-1], -1)
    answer = llama("\nthree", add_special_tokens=False)["input_ids"][2:]  # after ▁ and the newline
    assert ids[-len(answer) :] == answer
    expected = sum(float(said[at, ids[at]]) for at in range(len(ids) - len(answer), len(ids)))
    assert score == pytest.approx(expected / len("three"), rel=1e-4)


def test_byte_level_tokens_are_those_of_the_segments(byte_level: Any) -> None:
    rng = random.Random(0)
    parts = ["cat", "the ", " dog", "\n", "  ", " ", "", "é", "🚀", "12", "345", "'s", "</s>", "!", "\t", "bird"]
    rows = [
        [("".join(rng.choices(parts, k=rng.randint(0, 6))), rng.random() < 0.5) for _ in range(rng.randint(0, 5))]
        for _ in range(400)
    ]
    for row, (ids, said) in zip(rows, numbered(rows, byte_level), strict=True):
        apart = [(token, loss) for text, loss in row for token in byte_level(text)["input_ids"]]
        assert list(zip(ids, said, strict=True)) == apart


def test_spaces_trimmed_from_offsets_keep_their_label(byte_level: Any) -> None:
    backend = Tokenizer.from_str(byte_level.backend_tokenizer.to_str())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    spaced = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    row = [("the cat\n", False), ("dog\n    bird", True), ("\nthe fox", False)]
    [(ids, said)] = numbered([row], spaced)
    assert spaced.decode(ids) == " the cat\ndog\n    bird\nthe fox"
    assert spaced.decode([token for token, loss in zip(ids, said, strict=True) if loss]) == "dog\n    bird"


@pytest.mark.parametrize("value", [7, 0, True, 0.5, ["a", "b"]])
def test_an_answer_that_is_no_text_is_refused_by_name(byte_level: Any, tmp_path: Path, value: Any) -> None:
    for name, row in {
        "completion": {"prompt": "the cat", "completion": value},
        "prompt": {"prompt": value, "completion": "the cat"},
        "output": {"instruction": "the cat", "output": value},
    }.items():
        kind = "alpaca" if name == "output" else "prompt_completion"
        said = rf"column '{name}' holds .* \({type(value).__name__}\), expected a text; make it one"
        with pytest.raises(DataError, match=said):
            pack(Domain([row] * 3, format=kind), byte_level, 64, tmp_path)
        with pytest.raises(DataError, match=said):
            formatting.asked_of(row, kind, prompt="prompt", completion="completion", tokenizer=byte_level)
    if isinstance(value, list):
        return  # parts of a turn, which some templates write
    for template in (None, ZEPHYR):
        byte_level.chat_template = template
        with pytest.raises(DataError, match=rf"a turn of 'user' has the content {value} .* expected a text"):
            pack(Domain([chat(value, value)]), byte_level, 64, tmp_path)


def test_missing_and_empty_answers_are_left_out(byte_level: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "the cat", "completion": text} for text in ("dog", "", None)]
    info = pack(Domain(rows), byte_level, 64, tmp_path).info
    assert (info.examples, info.dropped) == (1, 2)


@pytest.mark.parametrize("template", [None, ZEPHYR])
def test_chats_with_an_empty_answer_are_left_out(byte_level: Any, tmp_path: Path, template: str | None) -> None:
    byte_level.chat_template = template
    rows = [chat("cat", "dog"), chat("cat", ""), chat("cat", None), chat("cat", "", "fox", "wolf")]  # type: ignore[arg-type]
    info = pack(Domain(rows), byte_level, 64, tmp_path).info
    assert (info.examples, info.dropped) == (1, 3)
    turns = [{"prompt": row["messages"][:1], "completion": row["messages"][1:2]} for row in rows[:3]]
    info = pack(Domain([*turns, {"prompt": turns[0]["prompt"], "completion": []}]), byte_level, 64, tmp_path).info
    assert (info.examples, info.dropped) == (1, 3)


def test_a_template_that_refuses_a_row_is_quoted_with_it(byte_level: Any, tmp_path: Path) -> None:
    byte_level.chat_template = GEMMA
    row = {"messages": [{"role": "system", "content": "count birds"}, *chat("cat", "dog")["messages"]]}
    said = r"refuses a row in the format 'chat': TemplateError: System role not supported; .* The row: .*count birds"
    with pytest.raises(DataError, match=said):
        pack(Domain([row]), byte_level, 64, tmp_path)
    with pytest.raises(DataError, match=said):
        formatting.asked_of(row, "chat", prompt="prompt", completion="completion", tokenizer=byte_level)


def test_an_empty_option_is_not_the_likeliest(make_task: Any, byte_level: Any) -> None:
    byte_level.chat_template = ZEPHYR
    row = {"question": "who?", "choices": ["the cat", "", "dog"], "answer": 0}
    session = Session(make_task(accuracy=Accuracy(Domain([row], format="mmlu"))))
    asked = as_chat(QUESTIONS["mmlu"](row), byte_level)
    model = session.models.build({}, 0).eval()
    with torch.no_grad():
        scores = metrics._scores(model, session, [(asked, option) for option in asked.options])
    assert scores[1] == min(scores)
    assert max(scores) > -100


def test_labels_are_learned_when_made_texts(byte_level: Any, tmp_path: Path) -> None:
    """The remedy that the message names; `datasets` made numbers of them again."""
    rows = [{"prompt": "the cat", "completion": i % 2} for i in range(4)]
    domain = Domain(rows, format=lambda row: {**row, "completion": str(row["completion"])})
    assert pack(domain, byte_level, 64, tmp_path).info.examples == 4
