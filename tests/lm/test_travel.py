"""What the workers need of a domain: the packed rows, and neither the hub nor the files behind a loaded data set."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from datasets import Dataset, load_dataset, load_from_disk

from jobs_ray import cluster
from jobs_ray.lm import Accuracy, DataError, Domain, Session, Task, metrics, run, travel
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
    assert [q.prompt for q in metrics.questions(there, tokenizer)] == [
        q.prompt for q in metrics.questions(replace(task, accuracy=Accuracy(Domain(QUESTIONS), questions=5)), tokenizer)
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
    with pytest.raises(DataError, match=r"the loaded Dataset .*hf_home.* stayed with the process that loaded it"):
        Session(replace(there, cache_dir=str(tmp_path / "another")))


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
    assert [r"would not find what was packed of ['v'], which stay" in said for said in _files(held, None)] == [True]
