"""What the workers need of a domain: the packed rows, and neither the hub nor the files behind a loaded data set."""

from __future__ import annotations

import functools
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from datasets import Dataset, load_dataset, load_from_disk
from ray import cloudpickle

from jobs_ray import cluster
from jobs_ray.lm import Accuracy, DataError, Domain, Session, Task, evaluation, run, travel
from jobs_ray.lm.formatting import function_key
from jobs_ray.lm.packing import packed_for_workers, settled
from jobs_ray.lm.requirements import _files

TEXTS = [{"text": f"the cat sees {i} birds and a dog runs from the wolf"} for i in range(60)]
QUESTIONS = [{"prompt": f"who sees {i}?", "completion": " the cat"} for i in range(20)]


def gone(domain: Domain) -> Any:
    raise DataError(f"{domain.source} was asked of the hub")


def test_workers_do_not_ask_the_hub(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"some/texts": TEXTS, "some/questions": QUESTIONS}
    asked: list[str] = []

    def hub(domain: Domain) -> Any:
        asked.append(str(domain.source))
        return Dataset.from_list(rows[str(domain.source)])

    monkeypatch.setattr(travel, "from_hub", hub)
    texts = Domain("some/texts", held_out=0.2)
    task = make_task(
        domains={"t": texts},
        target={"v": texts.validation()},
        accuracy=Accuracy(Domain("some/questions"), questions=5),
        cache_dir=str(tmp_path / "c"),
        max_steps=3,
    )
    expected = run(task)
    ready = packed_for_workers(settled(task))
    assert set(asked) == set(rows)
    monkeypatch.setattr(travel, "from_hub", gone)
    there = pickle.loads(pickle.dumps(ready))
    assert [r["eval_loss"] for r in run(there)] == pytest.approx([r["eval_loss"] for r in expected])
    tokenizer = Session(there).tokenizer
    assert [q.prompt for q in evaluation.questions(there, tokenizer)] == [
        q.prompt
        for q in evaluation.questions(replace(task, accuracy=Accuracy(Domain(QUESTIONS), questions=5)), tokenizer)
    ]
    with pytest.raises(DataError, match="was asked of the hub"):  # it is the packing that spares the question
        Session(replace(there, cache_dir=str(tmp_path / "another")))


def test_a_data_set_on_the_drivers_disk_stays_there(make_task: Callable[..., Task], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in [*TEXTS, {"text": ""}]))
    home = tmp_path / "hf_home"
    data = load_dataset("json", data_files=str(tmp_path / "rows.jsonl"), split="train", cache_dir=str(home))
    domain = Domain(data.filter(lambda row: len(row["text"]) > 0), held_out=0.2)
    how: dict[str, Any] = {"domains": {"t": domain}, "target": {"v": domain.validation()}, "max_steps": 3}
    task = make_task(**how, cache_dir=str(tmp_path / "c"), accuracy=Accuracy(Domain(QUESTIONS), questions=3))
    expected = run(task)
    sent = pickle.dumps(packed_for_workers(settled(task)))
    del data, domain, task, how
    home.rename(tmp_path / "elsewhere")
    there = pickle.loads(sent)
    assert [r["eval_loss"] for r in run(there)] == pytest.approx([r["eval_loss"] for r in expected])
    elsewhere = replace(there, cache_dir=str(tmp_path / "another"))
    with pytest.raises(
        DataError, match=r"the loaded Dataset .*hf_home.* lies on a disk that this process does not see"
    ):
        Session(elsewhere)
    (tmp_path / "elsewhere").rename(home)
    assert len(Session(elsewhere).train["t"]) > 0  # a node that sees the disk, but not the cache


def asked_politely(row: dict[str, str], *, word: str) -> str:
    return f"{word} {row['text']}"


class Asking:
    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, row: dict[str, str]) -> str:
        return asked_politely(row, word=self.word)


@pytest.mark.parametrize("made", [functools.partial(asked_politely, word="the"), Asking("the")])
def test_functions_of_every_kind_have_one_key_here_and_there(made: Any) -> None:
    """In a process that has read them from a pickle, as Ray does: by value."""
    program = "import pickle, sys; from jobs_ray.lm.formatting import function_key as k; "
    program += "print(k(pickle.loads(sys.stdin.buffer.read())))"
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        sent = cloudpickle.dumps(made)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    there = subprocess.run([sys.executable, "-c", program], input=sent, capture_output=True, check=True)
    assert there.stdout.decode().strip() == function_key(made)
    other = functools.partial(asked_politely, word="a"), Asking("a")
    assert function_key(made) not in [function_key(one) for one in other]


def test_the_hub_is_asked_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("datasets.load_dataset", lambda *names, **how: asked.append(names) or Dataset.from_list(TEXTS))
    domain = Domain("asked/once-a-process", held_out=0.2)
    assert travel.from_hub(domain)._fingerprint == travel.from_hub(domain.validation())._fingerprint
    assert len(asked) == 1


def test_rows_in_memory_travel_themselves(make_task: Callable[..., Task], tmp_path: Path) -> None:
    domain = Domain(Dataset.from_list(TEXTS), held_out=0.2)
    task = make_task(domains={"t": domain}, target={"v": domain.validation()}, cache_dir=str(tmp_path / "c"))
    there = pickle.loads(pickle.dumps(packed_for_workers(settled(task))))
    assert len(Session(replace(there, cache_dir=str(tmp_path / "another"))).train["t"]) > 0


def test_what_a_node_without_the_cache_would_miss(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said by `lm.preflight`: tokens can be made again there, of rows that stay here they cannot. Ray's answers, which
    are those of two nodes, the second without the cache, are written out: see `test_lm_preflight` for real ones."""
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}] * 2)
    monkeypatch.setattr(cluster, "missing_on_nodes", lambda paths: {"10.0.0.2": [p for p in paths if "/c/" in p]})
    Dataset.from_list(TEXTS).save_to_disk(str(tmp_path / "rows"))
    stream = Domain(Dataset.from_list(TEXTS).to_iterable_dataset(), streaming=40)
    task = make_task(domains={"s": stream}, target={"v": Domain(TEXTS)}, cache_dir=str(tmp_path / "c"))
    assert ["tokenises the data itself" in said for said in _files(task, None)] == [True]
    held = replace(task, target={"v": Domain(load_from_disk(str(tmp_path / "rows")))})
    assert [r"would not find what was packed of ['v'], and needs the files" in said for said in _files(held, None)] == [
        True
    ]
