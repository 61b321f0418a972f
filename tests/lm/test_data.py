"""Domains, formats, packing: what is learned, what is shared, what is refused."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from jobs_ray.lm import DataError, Domain, Model, Session, Task, formatting, tokens
from jobs_ray.lm.domains import fingerprint, load
from jobs_ray.lm.model import load_tokenizer
from jobs_ray.lm.packed import ROWS_A_BATCH, PackedRows
from jobs_ray.lm.packing import key_of, pack
from jobs_ray.lm.tokens import IGNORE

ROWS = [{"text": f"the cat sees {i} birds"} for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir: Path) -> Any:
    return load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))


def write(rows: list[dict[str, Any]], folder: Path) -> dict[str, Path]:
    jsonl, parquet, text = folder / "a.jsonl", folder / "a.parquet", folder / "a.txt"
    jsonl.write_text("\n".join(json.dumps(r) for r in rows))
    Dataset.from_list(rows).to_parquet(parquet)
    text.write_text("\n".join(r["text"] for r in rows))
    return {"jsonl": jsonl, "parquet": parquet, "text": text}


def test_every_kind_of_source_gives_the_same_rows(tmp_path: Path) -> None:
    files = write(ROWS, tmp_path)
    domains = {
        "list": Domain(ROWS),
        "dataset": Domain(Dataset.from_list(ROWS)),
        "jsonl": Domain(str(files["jsonl"])),
        "parquet": Domain(files["parquet"]),
        "glob": Domain(str(tmp_path / "*.jsonl")),
        "text": Domain(files["text"], sample_by="line"),
    }
    for name, domain in domains.items():
        assert load(domain, tmp_path / "cache")["text"][:] == [r["text"] for r in ROWS], name
    whole = load(Domain(files["text"]), tmp_path / "cache")
    assert len(whole) == 1


def test_parts_are_disjoint_and_complete() -> None:
    domain = Domain(ROWS, held_out=0.1)
    train = load(domain.training(), Path("."))["text"][:]
    held = load(domain.validation(), Path("."))["text"][:]
    assert len(held) == 4
    assert sorted(train + held) == sorted(r["text"] for r in ROWS)
    assert len(load(replace(domain, part="all", max_examples=7), Path("."))) == 7
    few = replace(domain, max_examples=3)  # of what is trained on
    assert [len(load(part, Path("."))) for part in (few.training(), few.validation())] == [3, 4]


def test_what_is_held_out_is_not_trained_on(make_task: Callable[..., Task]) -> None:
    domain = Domain([{"prompt": f"one {i}", "completion": " two"} for i in range(40)], held_out=0.25)
    session = Session(make_task(domains={"d": domain}, target={"d": domain.validation()}))
    assert (session.train["d"].info.examples, session.target["d"].info.examples) == (30, 10)


def test_fingerprints_follow_content_not_place(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    one, two = write(ROWS, tmp_path), write(ROWS, tmp_path / "b")
    assert fingerprint(Domain(one["jsonl"])) == fingerprint(Domain(two["jsonl"]))
    two["jsonl"].write_text(one["jsonl"].read_text().replace("cat", "dog"))
    assert fingerprint(Domain(one["jsonl"])) != fingerprint(Domain(two["jsonl"]))
    assert fingerprint(Domain(ROWS)) != fingerprint(Domain(ROWS, held_out=0.1, part="train"))


def test_what_changes_the_rows_changes_their_key(tokenizer_dir: Path, tokenizer: Any, with_begin: Any) -> None:
    domain = Domain([{"prompt": f"one {i}", "completion": " two"} for i in range(40)], held_out=0.1)
    changes: list[dict[str, Any]] = [
        {"part": "train"}, {"part": "held_out"}, {"max_examples": 7}, {"chat": True}, {"prompt": "x"},
        {"completion": "x"}, {"column": "x"}, {"format": "x"}, {"held_out": 0.2}, {"split": "test"}, {"subset": "x"},
        {"revision": "x"}, {"sample_by": "line"},
    ]  # fmt: skip
    others = [replace(domain, **change) for change in changes]
    assert len({fingerprint(one) for one in (domain, *others)}) == 1 + len(others)
    ends = load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))
    ends.eos_token = "<s>"
    keys = {key_of(domain, tokenizer, 32), key_of(domain, tokenizer, 64), key_of(domain, tokenizer, 32, alone=True)}
    assert len(keys | {key_of(domain, other, 32) for other in (ends, with_begin)}) == 5


def test_text_rows_are_the_documents_joined(tokenizer: Any, tmp_path: Path) -> None:
    rows = pack(Domain(ROWS), tokenizer, 16, tmp_path)
    stream = [t for r in ROWS for t in [*tokenizer(r["text"])["input_ids"], tokenizer.eos_token_id]]
    joined = np.concatenate([rows[i]["input_ids"] for i in range(len(rows))])
    assert joined.tolist() == stream[: len(stream) // 16 * 16]
    assert rows.info.layout == "text"
    assert rows.info.examples == 40
    assert len(Dataset.from_file(str(rows.folder / "rows.arrow"))) == len(rows)


def test_less_text_than_a_row_is_repeated_in_training_and_padded_in_a_target(tokenizer: Any, tmp_path: Path) -> None:
    """A row of padding would be a step of training lost; a target that is repeated is told what comes next."""
    ids = [*tokenizer("the cat sees")["input_ids"], tokenizer.eos_token_id]
    text = Domain([{"text": "the cat sees"}])
    [trained] = pack(text, tokenizer, 64, tmp_path)
    assert trained["input_ids"].tolist() == (ids * 64)[:64]
    assert set(trained) == {"input_ids"}
    [row] = rows = pack(text, tokenizer, 64, tmp_path, once=True)
    assert row["input_ids"][: len(ids)].tolist() == ids
    assert row["labels"].tolist() == [IGNORE, *ids[1:], *[IGNORE] * (64 - len(ids))]
    assert (rows.info.tokens, rows.info.loss_tokens) == (len(ids), len(ids) - 1)
    assert rows.lengths.tolist() == [len(ids)]
    assert rows.learned.tolist() == [len(ids) - 1]


def test_loss_only_on_the_completion(tokenizer: Any, tmp_path: Path) -> None:
    data = [
        {"prompt": "one plus two equals", "completion": " three"},
        {"prompt": "two plus two", "completion": " four"},
    ]
    rows = pack(Domain(data), tokenizer, 64, tmp_path)
    assert (rows.info.layout, len(rows)) == ("examples", 1)
    row = rows[0]
    learned = tokenizer.decode(row["labels"][row["labels"] != IGNORE])
    assert learned == " three</s> four</s>"
    used = int(rows.lengths[0])
    assert tokenizer.decode(row["input_ids"][:used]) == "one plus two equals three</s>two plus two four</s>"
    starts = np.flatnonzero(row["position_ids"][:used] == 0)
    assert len(starts) == 2
    assert (row["labels"][used:] == IGNORE).all()


def test_the_first_token_of_an_example_is_not_learned(tokenizer: Any, tmp_path: Path) -> None:
    """What stands before it in its row is another example."""
    rows = pack(Domain([{"prompt": "", "completion": "one two"}] * 2), tokenizer, 32, tmp_path)
    row, used = rows[0], int(rows.lengths[0])
    starts = np.flatnonzero(row["position_ids"][:used] == 0)
    assert len(starts) == 2
    assert (row["labels"][starts] == IGNORE).all()
    assert rows.info.loss_tokens == used - 2


def test_begin_of_text_stands_before_each_document_and_example(
    with_begin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "PIECE", 200)
    texts = ["the cat sees a bird " * 40, "one"]  # the first in pieces
    rows = pack(Domain([{"text": text} for text in texts]), with_begin, 16, tmp_path)
    ids = [t for text in texts for t in [*with_begin(text)["input_ids"], with_begin.eos_token_id]]
    assert ids[0] == with_begin.bos_token_id
    joined = np.concatenate([rows[i]["input_ids"] for i in range(len(rows))])
    assert joined.tolist() == ids[: len(ids) // 16 * 16]
    pair = pack(Domain([{"prompt": "one", "completion": " two"}]), with_begin, 16, tmp_path)
    assert with_begin.decode(pair[0]["input_ids"][: int(pair.lengths[0])]) == "<s>one two</s>"


def test_rows_beyond_the_first_batch_are_their_own(tokenizer: Any, tmp_path: Path) -> None:
    pairs = [{"prompt": "one", "completion": f" {i}"} for i in range(ROWS_A_BATCH + 50)]
    rows = pack(Domain(pairs), tokenizer, 16, tmp_path, alone=True)
    assert len(rows) == len(pairs)
    for i in (0, ROWS_A_BATCH - 1, ROWS_A_BATCH, len(pairs) - 1):
        labels = rows[i]["labels"]
        assert tokenizer.decode(labels[labels != IGNORE]) == f" {i}</s>"


def test_long_examples_keep_what_is_learned(tokenizer: Any, tmp_path: Path) -> None:
    data = [{"prompt": "one plus two " * 20, "completion": " three"}, {"prompt": "cat", "completion": " dog" * 40}]
    rows = pack(Domain(data), tokenizer, 16, tmp_path)
    assert (rows.info.examples, rows.info.truncated, len(rows)) == (2, 2, 2)
    learned = [tokenizer.decode(rows[i]["labels"][rows[i]["labels"] != IGNORE]) for i in (0, 1)]
    assert learned[0] == " three</s>"
    assert learned[1].startswith(" dog dog")


def test_packed_examples_do_not_see_each_other(tokenizer: Any, tmp_path: Path, base_dir: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from jobs_ray.lm.mixing import collate

    data = [{"prompt": f"one plus {w}", "completion": " equals six"} for w in ("two", "four")]
    both = collate([pack(Domain(data), tokenizer, 64, tmp_path)[0]])
    alone = collate([pack(Domain(data[1:]), tokenizer, 64, tmp_path)[0]])
    model = AutoModelForCausalLM.from_pretrained(base_dir).eval()
    start = int((both["position_ids"][0] == 0).nonzero()[1])
    length = int((alone["position_ids"][0] == 0).nonzero()[1])
    with torch.no_grad():
        a = model(input_ids=both["input_ids"], position_ids=both["position_ids"], use_cache=False).logits[
            0, start : start + length
        ]
        b = model(input_ids=alone["input_ids"], position_ids=alone["position_ids"], use_cache=False).logits[0, :length]
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


CHAT = [
    {"role": "system", "content": "count"},
    {"role": "user", "content": "one plus one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "two plus one"},
    {"role": "assistant", "content": "three"},
]
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_chat_learns_what_the_assistant_says(tokenizer_dir: Path, tmp_path: Path, template: str | None) -> None:
    tokenizer = load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))
    tokenizer.chat_template = template
    rows = pack(Domain([{"messages": CHAT}]), tokenizer, 256, tmp_path)
    row = rows[0]
    learned = tokenizer.decode(row["labels"][row["labels"] != IGNORE])
    assert learned == ("two</s>three</s>" if template else " two\n three\n</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ loop.revindex }}{{ m['content'] }}{% endfor %}"
    with pytest.raises(DataError, match="rewrites earlier turns"):
        pack(Domain([{"messages": CHAT}]), tokenizer, 256, tmp_path)


HUB_ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "gsm8k": (
        {"question": "One plus one?", "answer": "1+1=<<1+1=2>>2\n#### 2"}, "Answer:", " 1+1=<<1+1=2>>2\n#### 2",
    ),
    "commonsense_qa": (
        {
            "id": "x", "question": "Where do birds go?", "question_concept": "bird", "answerKey": "B",
            "choices": {"label": ["A", "B"], "text": ["water", "sky"]},
        }, "- sky", " sky",
    ),
    "triviaqa": (
        {"question": "Who?", "answer": {"value": "Ann", "aliases": ["Anne"], "type": "X"}}, "Who?", " Ann",
    ),
    "sciq": (
        {
            "question": "What is hot?", "distractor1": "ice", "distractor2": "snow", "distractor3": "rain",
            "correct_answer": "sun", "support": "The sun burns.",
        }, "The sun burns.", " sun",
    ),
    "hellaswag": (
        {"ctx": "A man runs. He", "endings": ["stops.", "flies.", "melts.", "sings."], "label": "0", "ind": 3},
        "A man runs. He", " stops.",
    ),
    "truthfulqa": (
        {"type": "x", "question": "Is it?", "best_answer": "No", "correct_answers": ["No", "Never"]}, "Is it?", " No",
    ),
    "truthfulqa_mc": (
        {"question": "Is it?", "mc1_targets": {"choices": ["Yes", "No"], "labels": [0, 1]}}, "- Yes", " No",
    ),
    "wikitext": ({"text": " = Title = \n"}, "", " = Title = \n"),
    "mmlu": ({"question": "2+2?", "subject": "maths", "choices": ["3", "4", "5", "6"], "answer": 1}, "- 5", " 4"),
    "arc": (
        {"id": "y", "question": "Which?", "answerKey": "2", "choices": {"text": ["a", "b"], "label": ["1", "2"]}},
        "- a", " b",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB_ROWS)
def test_hub_column_formats(name: str, tokenizer: Any, tmp_path: Path) -> None:
    row, prompt, answer = HUB_ROWS[name]
    kind = formatting.detect(row, column="text", prompt="prompt", completion="completion")
    segments = formatting.segments_of(row, kind, column="text", prompt="prompt", completion="completion")
    assert [text for text, loss in segments if loss] == [answer]
    assert prompt in "".join(text for text, loss in segments if not loss)
    rows = pack(Domain([row] * 3), tokenizer, 128, tmp_path)
    assert rows.info.examples == 3


def test_refusals_say_what_to_do(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no format fits the columns \['foo'\]"):
        pack(Domain([{"foo": "x"}]), tokenizer, 16, tmp_path)
    with pytest.raises(DataError, match="no such file"):
        pack(Domain("/nowhere/at/all.jsonl"), tokenizer, 16, tmp_path)
    with pytest.raises(DataError, match="nothing to learn"):
        pack(Domain([{"text": " "}]), tokenizer, 16, tmp_path)
    with pytest.raises(DataError, match="not in the format 'mmlu'"):
        pack(Domain(ROWS, format="mmlu"), tokenizer, 16, tmp_path)
    with pytest.raises(DataError, match="cannot read 'nobody/no-such-set'"):
        pack(Domain("nobody/no-such-set"), tokenizer, 16, tmp_path)
    with pytest.raises(DataError, match="held_out"):
        Domain(ROWS, held_out=0.9)


def _pack_at_once(gate: Any, task: Task, folder: str, answers: Any) -> None:
    tokenizer = load_tokenizer(task.model)
    gate.wait()
    rows = pack(task.domains["animals"], tokenizer, 16, folder)
    answers.put((str(rows.folder), len(rows), rows.folder.stat().st_ino))


@pytest.mark.slow
def test_two_processes_at_once_pack_once(make_task: Callable[..., Task], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate, answers = context.Barrier(2), context.Queue()
    task = make_task()
    jobs = [context.Process(target=_pack_at_once, args=(gate, task, str(tmp_path), answers)) for _ in range(2)]
    for job in jobs:
        job.start()
    got = [answers.get(timeout=120) for _ in jobs]
    for job in jobs:
        job.join()
        assert job.exitcode == 0
    assert got[0] == got[1]
    assert [p.name for p in tmp_path.iterdir() if p.is_dir() and p.name.startswith(".")] == []


def test_packed_rows_are_found_again(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack(Domain(ROWS), tokenizer, 16, tmp_path)
    monkeypatch.setattr("jobs_ray.lm.packing._write", lambda *_: pytest.fail("packed again"))
    again = pack(Domain(ROWS), tokenizer, 16, tmp_path)
    assert again.folder == first.folder
    import pickle

    copy: PackedRows = pickle.loads(pickle.dumps(again))
    assert (copy[1]["input_ids"] == first[1]["input_ids"]).all()
    with pytest.raises(IndexError):
        copy[len(copy)]
