"""What a domain can be read from, and that everything else is refused by its type before anything is trained."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from jobs_ray.lm import DataError, Domain, Model, Task, formatting, run, trainable
from jobs_ray.lm.domains import fingerprint, load
from jobs_ray.lm.model import load_tokenizer
from jobs_ray.lm.packing import pack, settled
from jobs_ray.lm.sources import absolute

ROWS = [{"text": f"the cat sees {i}, birds"} for i in range(40)]
TEXTS = [row["text"] for row in ROWS]


def jsonl(path: Path) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


def as_csv(path: Path, delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def packed(plain: Path, suffix: str, codec: str) -> Path:
    path = plain.with_name(plain.name + suffix)
    with pa.output_stream(str(path), compression=codec) as out:
        out.write(plain.read_bytes())
    return path


def arrow(path: Path) -> Path:
    table = pa.table({"text": TEXTS})
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return path


def folder_with_readme(path: Path) -> Path:
    path.mkdir()
    as_csv(path / "a.csv")
    (path / "README.md").write_text("How this was collected.")
    (path / ".gitattributes").write_text("*.csv filter=lfs")
    return path


def saved(path: Path, data: Dataset | DatasetDict) -> Path:
    data.save_to_disk(path)
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "csv": lambda d: as_csv(d / "a.csv"),
    "tsv": lambda d: as_csv(d / "a.tsv", "\t"),
    "jsonl.gz": lambda d: packed(jsonl(d / "a.jsonl"), ".gz", "gzip"),
    "jsonl.zst": lambda d: packed(jsonl(d / "a.jsonl"), ".zst", "zstd"),
    "csv.bz2": lambda d: packed(as_csv(d / "a.csv"), ".bz2", "bz2"),
    "arrow": lambda d: arrow(d / "a.arrow"),
    "folder of csv": lambda d: folder_with_readme(d / "folder"),
    "save_to_disk": lambda d: saved(d / "s", Dataset.from_list(ROWS)),
    "dict saved to disk": lambda d: saved(d / "s", DatasetDict(train=Dataset.from_list(ROWS))),
    "DatasetDict": lambda d: DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS[:1])),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_give_their_rows(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path)
    rows = load(Domain(source), tmp_path / "cache")
    assert rows["text"][:] == TEXTS
    assert fingerprint(Domain(source)) == fingerprint(Domain(source))
    assert fingerprint(Domain(source)) != fingerprint(Domain(source, column="other"))


def test_a_compressed_text_is_its_words(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.txt.gz", "wt") as file:
        file.write("\n".join(TEXTS))
    assert load(Domain(tmp_path / "a.txt.gz", sample_by="line"), tmp_path / "cache")["text"][:] == TEXTS


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "spreadsheet": (lambda d: shutil.copy(as_csv(d / "a.csv"), d / "b.xlsx"), r"\.xlsx is none of"),
    "no suffix": (lambda d: shutil.copy(as_csv(d / "a.csv"), d / "b"), "without a suffix"),
    "gzip of what": (lambda d: packed(as_csv(d / "a.xml"), ".gz", "gzip"), r"\.xml\.gz is none of"),
    "folder of the unknown": (lambda d: _folder(d / "f", "a.txt", "b.docx"), r"\.docx is none of"),
    "mixed folder": (lambda d: _folder(d / "f", "a.txt", "b.csv"), r"mixes \['csv', 'text'\]"),
    "only a README": (lambda d: _folder(d / "f", "README.md"), "holds no data"),
    "empty glob": (lambda d: str(d / "*.csv"), "no file matches"),
    "stream": (
        lambda d: Dataset.from_list(ROWS).to_iterable_dataset(),
        "the end of an IterableDataset.*streaming=10_000",
    ),
    "endless stream": (
        lambda d: IterableDataset.from_generator(_for_ever),
        "the end of an IterableDataset.*streaming=10_000",
    ),
    "splits": (lambda d: DatasetDict(test=Dataset.from_list(ROWS)), r"the splits \['test'\], not 'train'"),
    "columns": (lambda d: {"text": TEXTS}, "cannot be a dict"),
    "number": (lambda d: 7, "cannot be a int"),
}


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text("the cat sees")
    return path


def _for_ever() -> Any:
    while True:
        yield ROWS[0]


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_refused_before_any_training(name: str, make_task: Callable[..., Task], tmp_path: Path) -> None:
    make, match = REFUSED[name]
    domain = Domain(make(tmp_path))
    task = make_task(domains={"d": domain}, target={"t": Domain(ROWS)}, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=match):
        trainable(task)


def test_shares_are_held_out_as_asked() -> None:
    for share in (0.1, 0.15, 0.3, 0.4, 0.5):
        domain = Domain(ROWS * 5, held_out=share)
        held, rest = load(domain.validation(), Path()), load(domain.training(), Path())
        assert len(held) == round(200 * share)
        assert len(held) + len(rest) == 200


CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]}
CALLING = [{"role": "user", "content": "cat"}, CALL]
PLAIN = (
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)
KNOWS = (
    "{% for m in messages %}<s>{{ m['role'] }} {% if m.tool_calls is defined %}call {{ m.tool_calls[0].function.name }}"
    "{% else %}{{ m['content'] }}{% endif %}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant {% endif %}"
)


def test_a_turn_without_words_is_not_learned_as_the_word_none(tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))
    for template, match in ((None, "only a chat template"), (PLAIN, "does not write tool calls")):
        tokenizer.chat_template = template
        with pytest.raises(DataError, match=match):
            pack(Domain([{"messages": CALLING}]), tokenizer, 64, tmp_path)
    tokenizer.chat_template = KNOWS
    assert formatting.chat_segments(CALLING, tokenizer) == [
        ("<s>user cat</s><s>assistant ", False),
        ("call weather</s>", True),
    ]
    # a column of dicts has "tool_calls" in every row, as None where there is none
    spoken = [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "dog", "tool_calls": None}]
    assert formatting.chat_segments(spoken, tokenizer)[1] == ("dog</s>", True)


def test_another_tools_arguments_are_not_learned_as_null(tokenizer_dir: Path) -> None:
    """Arrow gives every dict of a column the keys of all."""
    tokenizer = load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))
    tokenizer.chat_template = KNOWS.replace(".function.name }}", ".function | tojson }}")
    call = {"name": "weather", "arguments": {"city": "Paris", "symbol": None}}
    answer = {"role": "assistant", "content": None, "tool_calls": [{"function": call}]}
    asked = [{"role": "user", "content": "cat"}]
    for segments in (
        formatting.chat_segments([*asked, answer], tokenizer),
        formatting.segments_of(
            {"p": asked, "c": [answer]}, "conversational", column="", prompt="p", completion="c", tokenizer=tokenizer
        ),
    ):
        written, learned = segments[-1]
        assert learned
        assert "Paris" in written
        assert "symbol" not in written


def test_a_column_that_is_no_text_is_refused(tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))
    with pytest.raises(DataError, match="not in the format 'text'"):
        pack(Domain([{"text": 7}] * 3), tokenizer, 16, tmp_path)


def test_all_columns_of_rows_in_memory_count(tmp_path: Path) -> None:
    rows = [{"instruction": "add", "output": "3"}, {"instruction": "add", "input": "1 and 2", "output": "3"}]
    assert load(Domain(rows), tmp_path)["input"] == [None, "1 and 2"]


def test_rows_in_memory_may_hold_what_json_does_not(tmp_path: Path) -> None:
    rows = [{"text": "the cat", "seen": datetime(2026, 1, day), "count": np.int64(day)} for day in (1, 2)]
    assert load(Domain(rows), tmp_path)["count"] == [1, 2]
    assert fingerprint(Domain(rows)) != fingerprint(Domain(rows[::-1]))


def test_relative_paths_are_those_of_the_users_folder(
    make_task: Callable[..., Task], base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune gives each trial a folder of its own to work in."""
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    shutil.copytree(base_dir, here / "base")
    jsonl(here / "a.jsonl")
    as_csv(here / "b.csv")
    monkeypatch.chdir(here)
    task = make_task(
        domains={"one": Domain("a.jsonl"), "some": Domain("b.*"), "several": Domain(["a.jsonl"])},
        target={"one": Domain(Path("b.csv"))},
        model=Model("base", tokenizer="base"),
        max_steps=3,
    )
    found = settled(task)
    monkeypatch.chdir(there)
    [report] = run(found, {"lora": {"r": 2}}, keep=tmp_path / "kept")
    assert report["step"] == 3
    assert json.loads((tmp_path / "kept" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        here / "base"
    )


def test_what_is_not_here_stays_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("allenai/c4", "s3://bucket/part-*.parquet", "missing.jsonl", None, ROWS):
        assert absolute(name) == name
