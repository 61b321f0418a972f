"""Tokenise and pack a domain once, into memory-mapped Arrow rows that every trial and worker shares.

Rows have `seq_len` tokens. Two layouts:

- text: documents are joined with end-of-text tokens and cut into full rows; column `input_ids` (and `labels`, where a
  target of less than one row is padded to it).
- examples (chat, prompt/completion, questions): whole examples side by side in a row, the rest of it padding;
  columns `input_ids`, `labels` (-100: no loss) and `position_ids`, which restart at every example, so that
  transformers keeps the examples of a row from attending to each other.

Both are ordinary Arrow streams that `datasets.Dataset.from_file` opens too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs_ray.lm import domains, owned, sources, tokens, travel
from jobs_ray.lm.domain import Domain
from jobs_ray.lm.errors import DataError
from jobs_ray.lm.layouts import ExampleRows, TextRows
from jobs_ray.lm.packed import ROWS_A_BATCH, PackedRows, PackInfo

if TYPE_CHECKING:
    from datasets import Dataset

    from jobs_ray.lm.task import Task

_VERSION = 6  # part of every key: raise it when the rows of the same content would change
logger = logging.getLogger(__name__)


def key_of(domain: Domain, tokenizer: Any, seq_len: int, *, alone: bool = False, once: bool = False) -> str:
    """Key of the packed rows: content of the domain, tokenizer, row length, version of this module."""
    what = [_VERSION, domains.fingerprint(domain), tokenizer_key(tokenizer), seq_len, alone, once]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def tokenizer_key(tokenizer: Any) -> str:
    """Key of everything about a tokenizer that changes its tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.chat_template]
    return hashlib.sha256((vocabulary + json.dumps(special)).encode()).hexdigest()[:24]


def pack(
    domain: Domain,
    tokenizer: Any,
    seq_len: int,
    cache: str | Path,
    processes: int | None = None,
    *,
    alone: bool = False,
    once: bool = False,
) -> PackedRows:
    """The domain's packed rows, made now (by so many processes) or found in `cache`. alone: one example a row. once: a
    text of less than a row is not repeated to fill it.

    Safe when several processes ask at once: one packs under a file lock, the others wait and open what it made;
    the folder appears by a rename, so a killed process leaves nothing half-made behind.
    """
    from filelock import FileLock

    cache = Path(cache).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    domain = travel.settled(domain, cache)
    folder = cache / key_of(domain, tokenizer, seq_len, alone=alone, once=once)
    if not (folder / "info.json").exists():
        with FileLock(f"{folder}.lock"):
            if not (folder / "info.json").exists():
                _write(domains.load(domain, cache), domain, tokenizer, seq_len, folder, processes, alone, once)
    return PackedRows(folder)


def prepare(task: Task, tokenizer: Any = None, *, show: bool = True) -> dict[str, dict[str, PackedRows]]:
    """Pack everything a task needs: `{"train": {domain: rows}, "target": {name: rows}}`.

    Called by `lm.trainable` in the user's process, so that trials find their tokens ready.
    show: log what each domain gave; as a warning where examples were cut or left out.
    """
    if tokenizer is None:
        from jobs_ray.lm.model import load_tokenizer

        tokenizer = load_tokenizer(task.model)
    cache = Path(task.cache_dir)
    wanted = {
        "train": {name: domain.training() for name, domain in task.domains.items()},
        "target": {name: target.domain for name, target in task.targets().items()},
    }
    how: Any = {"processes": task.num_proc, "alone": not task.pack}
    packed = {
        part: {
            name: pack(domain, tokenizer, task.seq_len, cache, once=part == "target", **how)
            for name, domain in named.items()
        }
        for part, named in wanted.items()
    }
    for part, named in packed.items():
        for name, rows in named.items():
            lost = rows.info.truncated + rows.info.dropped
            if show:
                logger.log(logging.WARNING if lost else logging.INFO, "%s %r: %s", part, name, rows.info)
    return packed


def settled(task: Task, *, look: bool = True) -> Task:
    """The task as workers can use it: each stream that has no name read and replaced by its rows (see
    `travel.settled`), local paths absolute; and what only this process can read packed.

    look: False leaves names on the hub and loaded data sets for the workers to read, who then need to be able to.
    """
    cache, model = Path(task.cache_dir), task.model
    return replace(
        _with_domains(task, lambda domain: travel.settled(domain, cache, look=look)),
        model=replace(model, name=sources.absolute(model.name), tokenizer=sources.absolute(model.tokenizer)),
        trainer_args=owned.settled(task.trainer_args),
    )


def packed_for_workers(task: Task) -> Task:
    """A settled task, packed in this process, without the rows that stay here. Raises DataError where rows cannot be
    packed, or those of the accuracy metric are not questions."""
    from jobs_ray.lm.evaluation import questions
    from jobs_ray.lm.model import load_tokenizer

    tokenizer = load_tokenizer(task.model)
    if task.accuracy is not None:  # its questions are not packed
        domains.keep(task.accuracy.domain, Path(task.cache_dir))
        questions(task, tokenizer)  # here, and not at the first evaluation of a trial
    prepare(task, tokenizer)
    return _with_domains(task, travel.without_rows)


def _with_domains(task: Task, changed: Callable[[Domain], Domain]) -> Task:
    return replace(
        task,
        domains={name: changed(domain) for name, domain in task.domains.items()},
        target={name: replace(target, domain=changed(target.domain)) for name, target in task.targets().items()},
        accuracy=task.accuracy and replace(task.accuracy, domain=changed(task.accuracy.domain)),
    )


def _write(
    rows: Dataset,
    domain: Domain,
    tokenizer: Any,
    seq_len: int,
    folder: Path,
    processes: int | None,
    alone: bool,
    once: bool,
) -> None:
    kind = domains.kind_of(domain, rows)
    layout = "text" if kind in tokens.TEXTS else "examples"
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (temporary / "tokens").mkdir()
        encoded = tokens.examples(tokens.encode(rows, domain, kind, tokenizer, temporary / "tokens", processes))
        packed = (
            TextRows(encoded, tokenizer, seq_len, once=once)
            if layout == "text"
            else ExampleRows(encoded, tokenizer, seq_len, alone=alone)
        )
        lengths, learned = _write_arrow(packed, temporary / "rows.arrow", seq_len)
        if not lengths:
            raise DataError(
                f"nothing to learn in {domain.source!r:.200} as {kind!r} ({packed.dropped} examples dropped); "
                "check format and columns"
            )
        np.save(temporary / "lengths.npy", np.asarray(lengths, dtype=np.int32))
        np.save(temporary / "learned.npy", np.asarray(learned, dtype=np.int32))
        info = PackInfo(
            layout,
            seq_len,
            rows=len(lengths),
            tokens=sum(lengths),
            loss_tokens=sum(learned),
            examples=packed.examples,
            truncated=packed.truncated,
            dropped=packed.dropped,
        )
        shutil.rmtree(temporary / "tokens")
        (temporary / "info.json").write_text(json.dumps(asdict(info)))
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_arrow(packed: TextRows | ExampleRows, path: Path, seq_len: int) -> tuple[list[int], list[int]]:
    """Write the rows in record batches of `ROWS_A_BATCH`; returns their numbers of tokens and of those learned."""
    import pyarrow as pa

    row_type = pa.list_(pa.int32(), seq_len)
    lengths: list[int] = []
    learned: list[int] = []
    waiting: list[dict[str, tokens.IntArray]] = []
    writer: Any = None

    def flush() -> None:
        nonlocal writer
        names = list(waiting[0])
        arrays = [
            pa.FixedSizeListArray.from_arrays(
                pa.array(np.concatenate([row[name] for row in waiting]).astype(np.int32, copy=False)), seq_len
            )
            for name in names
        ]
        if writer is None:
            schema = pa.schema([(name, row_type) for name in names])
            writer = pa.ipc.new_stream(str(path), schema)
        writer.write_batch(pa.record_batch(arrays, schema=pa.schema([(n, row_type) for n in names])))
        waiting.clear()

    for used, row in packed:
        lengths.append(used)
        # nothing predicts the first token of a row
        learned.append(int((row["labels"] != tokens.IGNORE).sum()) if "labels" in row else max(1, used - 1))
        waiting.append(row)
        if len(waiting) == ROWS_A_BATCH:
            flush()
    if waiting:
        flush()
    if writer is not None:
        writer.close()
    return lengths, learned
