"""Whether a model keeps the examples of a packed row apart.

transformers tells them apart by `position_ids` that restart, in those models that make their masks with them. Others do
not (gpt-oss, OPT, BLOOM; Mamba, LFM2, Qwen3.5 and what else carries a state along the row), and nothing in the curves
says so: each example is learned as if it followed its neighbour, and the evaluation is wrong the same way.
"""

from __future__ import annotations

from typing import Any

from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.session import Session

_LENGTH = 8  # tokens of each of the two examples that are tried
_ROUNDING = {"torch.float32": 1e-4}  # change of the logits, relative to their spread; equal rows differ by 1e-7
_LOW_ROUNDING = 1e-2


def refuse_to_mix(trainer: Any, session: Session) -> None:
    """Raises TaskError for a model that mixes them, where any are packed. Looks once a session.

    Not where the weights are spread over processes before training begins (DeepSpeed, FSDP): no process has a model.
    """
    packed = (*session.train.values(), *session.target.values())
    spread = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    if session.apart or spread or not session.task.pack or all(rows.info.layout == "text" for rows in packed):
        return
    if sees_its_neighbour(trainer.model):
        raise TaskError(
            f"the examples of a packed row see each other in {type(trainer.model).__name__}: it does not tell them "
            "apart by their positions; set Task(pack=False), one example a row"
        )
    session.apart = True


def sees_its_neighbour(model: Any) -> bool:
    """Whether other tokens in the first example of a row change what the model says of the second."""
    import torch

    device, vocabulary = next(model.parameters()).device, model.get_input_embeddings().num_embeddings
    row = torch.arange(2 * _LENGTH, device=device) % vocabulary
    other = torch.where(torch.arange(2 * _LENGTH, device=device) < _LENGTH, (row + 2 * _LENGTH) % vocabulary, row)
    positions = torch.arange(_LENGTH, device=device).repeat(2)[None]
    training = model.training
    model.eval()
    with torch.no_grad():
        said, changed = (model(input_ids=ids[None], position_ids=positions).logits[0, _LENGTH:] for ids in (row, other))
    model.train(training)
    spread = (said.float() - said.float().mean()).norm()
    return bool((said.float() - changed.float()).norm() > _ROUNDING.get(str(said.dtype), _LOW_ROUNDING) * spread)
