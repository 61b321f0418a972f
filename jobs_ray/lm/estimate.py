"""Memory and time of a run before it is run, from shapes alone.

Against one H100 (`benchmarks.gpu`; torch's peak, without CUDA's own context): Llama 3 8B with LoRA 24.5 GB, here 24.5;
1B with LoRA 7.6 and 7.7; 1B in full fine-tuning 29.5 and 30.4. Sharding, and activations that are kept, were never
compared.

Notation: P parameters, Q of them trained, L layers, h hidden size, V words; a pass has b rows of s tokens, each of
R ranks b = batch / (R x accumulation). Bytes a number: 2 in bfloat16, 4 in float32.
- Weights: 2P in bf16, as a frozen base (LoRA) is by default; in float32 4P, and 2P for the copies that autocast
  computes with. Training: 12Q more (gradient and AdamW's two moments in float32; 6Q of weights in bf16). Sharded
  (FSDP, ZeRO-3), all of these are divided by R; one layer is whole at a time.
- Activations: 34 b s h a layer with attention that keeps no scores (Korthikanti et al. 2022, section 4); with
  activation checkpointing 2 b s h a layer and one layer in full.
- Logits: 12 b s V (in bf16 and in float32, and the gradients of both).
- Time: 6 floating-point operations a parameter and token (Kaplan et al. 2020), 4 where the base is frozen (no gradient
  of its weights), 2 more with checkpointing, 2 in evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs_ray.lm.model import adapted
from jobs_ray.lm.task import Task

_CONTEXT = 1.0e9  # a guess at CUDA's context, libraries and fragments


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    weights: float
    training: float
    activations: float
    logits: float
    context: float = _CONTEXT

    @property
    def total(self) -> float:
        return self.weights + self.training + self.activations + self.logits + self.context


def memory_per_gpu(task: Task, model: Any, *, lora: Any = None, workers: int = 1, sharded: bool = False) -> Memory:
    """Bytes that training `task` takes on each GPU.

    model: the base, on any device ("meta" is enough). lora: a trial's `config["lora"]`; None: full fine-tuning.
    sharded: FSDP2 or ZeRO-3 over the workers.
    """
    config = model.config.get_text_config()
    parameters = sum(p.numel() for p in model.parameters())
    layers, hidden = int(config.num_hidden_layers), int(config.hidden_size)
    rows = task.batch_size / (workers * task.accumulation)
    tokens = rows * task.seq_len
    parts = workers if sharded else 1
    trained = parameters if lora is None else _adapters(model, lora)
    low = task.model.dtype == "bfloat16" or (lora is not None and task.model.dtype != "float32")
    weights = parameters * (2 if low else 6)
    layer = 34 * tokens * hidden
    return Memory(
        weights=weights / parts + (weights / layers if sharded else 0.0),
        training=trained * (16 if lora is not None else 6 if low else 12) / parts,
        activations=layers * 2 * tokens * hidden + layer if task.activation_checkpointing else layers * layer,
        logits=12 * tokens * int(config.vocab_size),
    )


def operations(task: Task, model: Any, *, frozen: bool) -> float:
    """Floating-point operations of one full run, its evaluations included (but for targets that are read whole, whose
    sizes are not known yet, accuracy and harness)."""
    parameters = sum(p.numel() for p in model.parameters())
    each = (4 if frozen else 6) + 2 * task.activation_checkpointing
    trained = task.max_steps * task.batch_size * task.seq_len
    reports = -(-task.max_steps // task.eval_every)
    evaluated = reports * len(task.target) * (task.eval_rows or 0) * task.seq_len
    return float(parameters) * (each * trained + 2 * evaluated)


def _adapters(model: Any, lora: Any) -> int:
    """Numbers in the adapters and in `modules_to_save`, counted as peft makes them, on a copy of the model's shapes."""
    import torch

    with torch.device("meta"):
        shapes = type(model)(model.config)
    return sum(p.numel() for p in adapted(shapes, lora).parameters() if p.requires_grad)
