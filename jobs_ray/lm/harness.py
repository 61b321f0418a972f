"""Tasks of EleutherAI's lm-evaluation-harness (`pip install "jobs-ray[eval]"`) as metrics of a run."""

from __future__ import annotations

from typing import Any

from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.session import Session


def evaluate(model: Any, session: Session) -> dict[str, float]:
    """`{"lm_eval_<task>_<metric>": value}` of the model as it stands.

    Every rank runs all of it, since a sharded model needs every rank in its forward pass; the harness answers on
    the first of each node only, so the first rank's numbers are everybody's. Raises TaskError without lm_eval or for
    a task it does not know.
    """
    import torch

    answer = [_run(model, session)]
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.broadcast_object_list(answer, src=0)
    return answer[0]


def _run(model: Any, session: Session) -> dict[str, float]:
    spec, task = session.task.lm_eval, session.task
    assert spec is not None
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise TaskError(f"Task.lm_eval needs the package lm_eval ({error}); pip install 'jobs-ray[eval]'") from error
    if session.harness is None:  # reads some thousand files: once a process
        session.harness = TaskManager(include_path=spec.include_path)
    unknown = [name for name in spec.tasks if name not in session.harness.all_tasks]
    if unknown:
        raise TaskError(f"lm_eval has no task {unknown}; `lm_eval ls tasks` lists them, include_path adds your own")
    found = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=session.tokenizer, batch_size=spec.batch_size, max_length=task.seq_len),
        tasks=list(spec.tasks),
        num_fewshot=spec.num_fewshot,
        limit=spec.limit,
        bootstrap_iters=0,
        log_samples=False,
        task_manager=session.harness,
        # the run's own generators are none of its business
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
    )
    return {} if found is None else _numbers(found["results"])


def _numbers(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """`{"arc_easy": {"acc,none": .5, "acc_stderr,none": "N/A"}}` as one flat dict, standard errors left out."""
    return {
        f"lm_eval_{task}_{name.split(',')[0]}": float(value)
        for task, metrics in results.items()
        for name, value in metrics.items()
        if isinstance(value, int | float) and "_stderr" not in name and name != "sample_len"
    }
