"""Whether a model keeps the examples of a packed row apart.

transformers tells them apart by `position_ids` that restart, in those models that make their masks with them. Others do
not (gpt-oss, OPT, BLOOM; Mamba, LFM2, Qwen3.5 and what else carries a state along the row), and nothing in the curves
says so: each example is learned as if it followed its neighbour, and the evaluation is wrong the same way.
"""

from __future__ import annotations

from typing import Any, Literal

from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.session import Session

_LENGTH = 8  # tokens of each of the two examples that are tried
_ROUNDING, _LOW_ROUNDING = 1e-4, 1e-2  # change of the logits, relative to their spread: in float32, in less


def refuse_to_mix(trainer: Any, session: Session) -> None:
    """Raises TaskError for a model that mixes them, where any are packed. Looks once a session.

    Not where the weights are spread over processes before training begins (DeepSpeed, FSDP): no process has a model.
    """
    packed = (*session.train.values(), *session.target.values())
    spread = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    if session.apart or spread or not session.task.pack or all(rows.info.layout == "text" for rows in packed):
        return
    if sees_its_neighbour(trainer.model, "bf16" if trainer.args.bf16 else "fp16" if trainer.args.fp16 else None):
        raise TaskError(
            f"the examples of a packed row see each other in {type(trainer.model).__name__}: it does not tell them "
            "apart by their positions; set Task(pack=False), one example a row"
        )
    session.apart = True


def sees_its_neighbour(model: Any, autocast: Literal["bf16", "fp16"] | None = None) -> bool:
    """Whether other tokens in the first example of a row change what the model says of the second.

    autocast: as in training; FlashAttention knows no float32.
    """
    import torch

    weight, vocabulary = next(model.parameters()), model.get_input_embeddings().num_embeddings
    device, low = weight.device, torch.float16 if autocast == "fp16" else torch.bfloat16
    row = torch.arange(2 * _LENGTH, device=device) % vocabulary
    other = torch.where(torch.arange(2 * _LENGTH, device=device) < _LENGTH, (row + 2 * _LENGTH) % vocabulary, row)
    positions = torch.arange(_LENGTH, device=device).repeat(2)[None]
    training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, dtype=low, enabled=autocast is not None):
        said, changed = (model(input_ids=ids[None], position_ids=positions).logits[0, _LENGTH:] for ids in (row, other))
    model.train(training)
    said, changed = said.float(), changed.float()
    rounding = _LOW_ROUNDING if autocast or weight.dtype != torch.float32 else _ROUNDING
    return bool((said - changed).norm() > rounding * (said - said.mean()).norm())
