"""Streams, long texts, several processes, instruction columns, functions as formats; what is lost is counted."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from datasets import Dataset, IterableDataset, IterableDatasetDict
from ray import tune

from jobs_ray.lm import Accuracy, DataError, Domain, Model, Session, Task, evaluation, run, tokens, trainable
from jobs_ray.lm.domains import fingerprint, load
from jobs_ray.lm.model import load_tokenizer
from jobs_ray.lm.packing import pack, prepare
from jobs_ray.lm.tokens import IGNORE

ROWS = [{"text": f"the cat sees {i} birds"} for i in range(40)]
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)


@pytest.fixture
def tokenizer(tokenizer_dir: Path) -> Any:
    return load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))


def sentences(count: int, seed: int) -> list[dict[str, str]]:
    rng, words = random.Random(seed), ["the", "cat", "sees", "a", "bird", "and", "one", "plus", "two"]
    return [{"text": " ".join(rng.choices(words, k=rng.randint(5, 30))) + "."} for _ in range(count)]


def birds(folder: str) -> Iterator[dict[str, str]]:
    """Endless, and it leaves a file for each time it is read."""
    (Path(folder) / f"{os.getpid()}-{random.random()}").touch()
    i = 0
    while True:
        yield {"text": f"the cat sees {i} birds"}
        i += 1


@pytest.mark.slow
def test_an_endless_stream_is_read_once(make_task: Callable[..., Task], cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "read").mkdir()
    stream = IterableDataset.from_generator(birds, gen_kwargs={"folder": str(tmp_path / "read")})
    domain = Domain(stream, streaming=40, held_out=0.1)
    assert load(domain, tmp_path / "c")["text"][:] == [row["text"] for row in ROWS]
    assert len(load(domain.validation(), tmp_path / "c")) == 4
    domains = {"s": domain, "n": Domain(ROWS)}
    task = make_task(domains=domains, target={"t": domain.validation()}, cache_dir=str(tmp_path / "c"), max_steps=3)
    [result] = tune.Tuner(
        trainable(task), run_config=tune.RunConfig(storage_path=str(tmp_path), name="x", verbose=0)
    ).fit()  # fmt: skip
    assert result.error is None
    assert result.metrics["tokens"]["s"] > 0
    assert run(task, {})[-1]["eval_loss"] == pytest.approx(result.metrics["eval_loss"])
    assert len(list((tmp_path / "read").iterdir())) == 1


def test_what_streams(tmp_path: Path) -> None:
    stream = Dataset.from_list(ROWS).to_iterable_dataset()
    assert len(load(Domain(stream, streaming=100), tmp_path)) == 40  # all there is
    assert [len(load(Domain(stream, streaming=count), tmp_path)) for count in (7, 3, 7)] == [7, 3, 7]
    split = IterableDatasetDict({"train": stream})
    assert load(Domain(split, streaming=3), tmp_path)["text"][:] == [row["text"] for row in ROWS[:3]]
    with pytest.raises(DataError, match=r"the splits \['train'\], not 'test'"):
        load(Domain(split, streaming=3, split="test"), tmp_path)
    (tmp_path / "a.txt").write_text("the cat")
    for source in (str(tmp_path / "a.txt"), ROWS):
        with pytest.raises(DataError, match="only a data set's name and an IterableDataset"):
            load(Domain(source, streaming=3), tmp_path)
    with pytest.raises(DataError, match="cannot stream 'nobody/no-such-set'"):
        load(Domain("nobody/no-such-set", streaming=3), tmp_path)
    with pytest.raises(DataError, match="at least 1, got 0"):
        Domain("x", streaming=0)


def test_a_long_text_has_the_tokens_of_the_whole(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(row["text"] for row in sentences(600, 0))
    calls: list[int] = []
    whole = pack(Domain([{"text": text}, {"text": "one"}]), tokenizer, 16, tmp_path / "a")
    monkeypatch.setattr(tokens, "PIECE", 1000)
    monkeypatch.setattr(tokens, "_CALL", 4000)
    cut = pack(Domain([{"text": text}, {"text": "one"}]), tokenizer, 16, tmp_path / "b")
    assert whole.info == cut.info
    assert whole.info.examples == 2
    assert all((whole[i]["input_ids"] == cut[i]["input_ids"]).all() for i in range(len(whole)))
    parts = [text[i : i + 1000] for i in range(0, len(text), 1000)]
    assert len(list(tokens._ids(parts, _Counted(tokenizer, calls)))) == len(parts)
    assert max(calls) <= 4000
    unbroken = pack(Domain([{"text": "cat" * 1000}]), tokenizer, 16, tmp_path / "b")  # no space to cut at
    assert unbroken.info.examples == 1
    assert tokenizer.decode(np.concatenate([unbroken[i]["input_ids"] for i in range(3)])).startswith("catcatcat")


class _Counted:
    def __init__(self, tokenizer: Any, calls: list[int]) -> None:
        self.tokenizer, self.calls = tokenizer, calls

    def __call__(self, texts: list[str], **how: Any) -> Any:
        self.calls.append(sum(map(len, texts)))
        return self.tokenizer(texts, **how)


def test_two_processes_give_what_one_gives(tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [{"prompt": row["text"], "completion": " six"} for row in sentences(700, 1)]
    for rows in (sentences(700, 0), pairs):
        one = pack(Domain(rows), tokenizer, 32, tmp_path / "one")
        assert "Tokenising" not in capsys.readouterr().err  # a moment's work
        two = pack(Domain(rows), tokenizer, 32, tmp_path / "two", processes=2)
        assert "Tokenising (num_proc=2)" in capsys.readouterr().err
        assert one.info == two.info
        for i in range(len(one)):
            assert all((one[i][name] == two[i][name]).all() for name in one[i])
        assert [p.name for p in two.folder.iterdir() if "tokens" in p.name] == []


def learned(rows: Any, tokenizer: Any) -> str:
    labels = np.concatenate([rows[i]["labels"] for i in range(len(rows))])
    return str(tokenizer.decode(labels[labels != IGNORE]))


def read(rows: Any, tokenizer: Any) -> str:
    return str(tokenizer.decode(rows[0]["input_ids"][: int(rows.lengths[0])]))


def test_alpaca(tokenizer: Any, make_task: Callable[..., Task], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": "Add.", "input": "one and two", "output": "three"}, {"instruction": "Count.", "output": "one"}
    ]  # fmt: skip
    packed = pack(Domain(rows[:1]), tokenizer, 256, tmp_path)
    assert learned(packed, tokenizer) == "three</s>"
    said = read(packed, tokenizer)
    assert "paired with an input" in said
    assert "### Instruction:\nAdd.\n\n### Input:\none and two\n\n### Response:\nthree</s>" in said
    said = read(pack(Domain(rows[1:]), tokenizer, 256, tmp_path), tokenizer)
    assert "paired with" not in said
    assert said.endswith("### Instruction:\nCount.\n\n### Response:\none</s>")
    tokenizer.chat_template = TEMPLATE
    said = read(pack(Domain(rows[:1], chat=True), tokenizer, 256, tmp_path), tokenizer)
    assert said == "<s>user Add.\n\none and two</s><s>assistant three</s>"
    task = make_task(accuracy=Accuracy(Domain(rows[:1])))
    [question] = evaluation.questions(task, tokenizer)
    assert question.prompt.endswith("### Response:\n")
    assert question.accepted == ("three",)


def test_sharegpt(tokenizer: Any, make_task: Callable[..., Task], tmp_path: Path) -> None:
    tokenizer.chat_template = TEMPLATE
    turns = [{"from": "system", "value": "count"}, {"from": "human", "value": "one"}, {"from": "gpt", "value": "two"}]
    packed = pack(Domain([{"conversations": turns}]), tokenizer, 64, tmp_path)
    assert read(packed, tokenizer) == "<s>system count</s><s>user one</s><s>assistant two</s>"
    assert learned(packed, tokenizer) == "two</s>"
    as_roles = [
        {"role": role, "content": t["value"]} for role, t in zip(("system", "user", "assistant"), turns, strict=True)
    ]
    assert learned(pack(Domain([{"conversations": as_roles}]), tokenizer, 64, tmp_path), tokenizer) == "two</s>"
    [question] = evaluation.questions(make_task(accuracy=Accuracy(Domain([{"conversations": turns}]))), tokenizer)
    assert (question.answer, question.templated) == ("two", True)
    with pytest.raises(DataError, match=r"a turn is from 'observation'"):
        pack(Domain([{"conversations": [{"from": "observation", "value": "x"}]}]), tokenizer, 64, tmp_path)


def test_a_function_as_format(tokenizer: Any, make_task: Callable[..., Task], tmp_path: Path) -> None:
    rows = [{"q": f"{w} plus one?", "a": w if w != "four" else "", "id": 1} for w in ("one", "two", "four")]
    pairs = Domain(rows, format=lambda row: {"prompt": row["q"], "completion": " " + row["a"] if row["a"] else ""})
    packed = pack(pairs, tokenizer, 64, tmp_path)
    assert learned(packed, tokenizer) == " one</s> two</s>"
    assert (packed.info.examples, packed.info.dropped) == (2, 1)
    texts = pack(Domain(rows, format=lambda row: row["q"]), tokenizer, 4, tmp_path)
    assert texts.info.layout == "text"
    assert texts.info.examples == 3
    assert len(evaluation.questions(make_task(accuracy=Accuracy(pairs, questions=2)), tokenizer)) == 2
    with pytest.raises(DataError, match=r"must return a text, or a row .* got None"):
        pack(Domain(rows, format=lambda row: None), tokenizer, 64, tmp_path)
    by = {name: Domain(rows, format=lambda row, name=name: row[name]) for name in ("q", "a")}
    assert fingerprint(by["q"]) != fingerprint(by["a"])
    assert fingerprint(Domain(rows, format=made(1))) == fingerprint(Domain(rows, format=made(1)))
    assert fingerprint(Domain(rows, format=made(1))) != fingerprint(Domain(rows, format=made(2)))


def test_a_function_as_format_has_the_same_key_in_every_process() -> None:
    """Of a set, each process has an order of its own."""
    script = (
        "from jobs_ray.lm.formatting import function_key\n"
        "print(function_key(lambda row: row['text'] if row['source'] in {'web', 'books', 'code', 'wiki'} else ''))\n"
        "print(function_key(lambda row: row['text'] if row['source'] in {'web', 'books', 'code', 'news'} else ''))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(keys) == 1
    assert len(set(keys.pop().split())) == 2


def made(times: int) -> Callable[[Any], str]:
    return lambda row: str(row["q"]) * times


@pytest.mark.slow
def test_a_function_as_format_travels_to_a_worker(make_task: Callable[..., Task], cluster: Any, tmp_path: Path) -> None:
    domain = Domain(ROWS, format=lambda row: row["text"].upper())
    task = make_task(domains={"d": domain}, target={"d": domain}, cache_dir=str(tmp_path))
    before = {name: rows.folder for name, rows in prepare(task)["train"].items()}

    @ray.remote(num_cpus=1)
    def elsewhere() -> dict[str, Path]:
        return {name: rows.folder for name, rows in Session(task).train.items()}

    assert ray.get(elsewhere.remote()) == before


def test_what_is_lost_is_shown(
    make_task: Callable[..., Task], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    rows = [{"prompt": "one", "completion": said} for said in (" two" * 40, "", " b")]
    domains = {"lost": Domain(rows), "whole": Domain(ROWS)}
    task = make_task(domains=domains, target={"t": Domain(ROWS)}, cache_dir=str(tmp_path))
    for _ in range(2):  # also when the tokens are found again
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="jobs_ray.lm.packing"):
            trainable(task)
        [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert warning.startswith("train 'lost': 2 examples in 2 rows, ")
        assert warning.endswith("1 longer than 32 tokens and cut; 1 with nothing to learn left out")
        assert any("train 'whole': 40 examples" in r.getMessage() for r in caplog.records)
