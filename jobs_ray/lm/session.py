"""What a process keeps from trial to trial: the tokenizer, the mapped rows, the frozen base of LoRA trials."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs_ray.lm.task import Task


class Session:
    """Opened once a process. `seconds` says what the opening cost: imports, tokenizer, data."""

    def __init__(self, task: Task) -> None:
        start = time.perf_counter()
        import peft  # noqa: F401  (paid here, so that it is counted here)
        import torch  # noqa: F401
        import transformers  # noqa: F401

        from jobs_ray.lm.evaluation import questions
        from jobs_ray.lm.flattening import flatten, wanted
        from jobs_ray.lm.mixing import collate
        from jobs_ray.lm.model import ModelSource, load_tokenizer
        from jobs_ray.lm.packing import prepare

        imported = time.perf_counter()
        self.task = task
        self.tokenizer = load_tokenizer(task.model)
        packed = prepare(task, self.tokenizer, show=False)
        self.train = packed["train"]
        self.target = packed["target"]
        self.questions = None if task.accuracy is None else questions(task, self.tokenizer)
        self.models = ModelSource(task.model, self.tokenizer)
        self.collate = flatten if wanted(task.model) else collate
        self.apart = False  # the model is known to keep packed examples apart
        self.run_name: str | None = None  # the trial's, for logs
        self.harness: Any = None
        self.seconds = {"imports": imported - start, "data": time.perf_counter() - imported}


@contextmanager
def pinned_threads(threads: int | None) -> Iterator[None]:
    """Run with so many torch threads, and give the process its own number back afterwards."""
    import torch

    before = torch.get_num_threads()
    wanted = threads or int(os.environ.get("OMP_NUM_THREADS") or before)
    torch.set_num_threads(max(1, wanted))
    try:
        yield
    finally:
        torch.set_num_threads(before)
