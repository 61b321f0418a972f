"""The task: everything about a training run that the search does not vary.

What it does vary is the trial's config, a plain dict with any of these keys (the rest comes from the task):

    mixture        {domain: weight}, summing to 1; absent: equal weights
    lr, weight_decay, warmup      learning rate; AdamW's decay; warm-up as a fraction of the full run
    lora           {"r", "alpha", "dropout", "<module>": bool ..., "num_layers", "end", "rslora", "dora",
                   "modules_to_save"} (see `lora.lora_config`); absent or None: full fine-tuning
    model          overrides of `Model.config` (architecture search)
    seed           overrides `Task.seed`
    max_steps      (`Task.steps_key`) optimiser steps to train to, counted from the start of the *full* run
    resume_from    (`Task.resume_key`) a checkpoint of the same run to go on from: folder, URI or Ray `Checkpoint`
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

from jobs_ray.lm import owned
from jobs_ray.lm.domain import Domain
from jobs_ray.lm.errors import TaskError


@dataclass(frozen=True)
class Model:
    """What is trained: a pretrained model (`name`: hub name or folder) or a fresh one (`config`).

    config: `model_type` and that type's configuration keys. Of a fresh Llama-like model, what is absent follows
        `hidden_size`: heads of `head_dim`, `intermediate_size` = 8/3 of it in multiples of 16. The vocabulary
        comes from the tokenizer.
    tokenizer: hub name or folder; by default that of `name`.
    dtype: of the weights; "auto": bfloat16 where the device has it and the base is frozen (LoRA), float32
        otherwise (bf16 autocast is used then). "float16", for GPUs without bfloat16: frozen weights in it, trained ones
        in float32 with its autocast and a scaled loss.
    kwargs: more arguments of `from_pretrained`: attn_implementation (with a "flash..." one rows are flattened, see
        `flattening.py`), quantization_config (QLoRA), trust_remote_code, token, ...
    """

    name: str | None = None
    config: Mapping[str, Any] | None = None
    tokenizer: str | None = None
    revision: str | None = None
    gguf_file: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.name is None) == (self.config is None):
            raise TaskError("Model needs exactly one of name (pretrained) and config (fresh)")
        if self.config is not None and "model_type" not in self.config:
            raise TaskError("Model.config needs 'model_type', for example {'model_type': 'llama', ...}")
        if self.tokenizer is None and self.name is None:
            raise TaskError("a fresh model needs Model.tokenizer, a hub name or a folder")
        owned.check_model(self.kwargs)


@dataclass(frozen=True)
class Target:
    """A validation set; `eval_loss` is the average of the targets' losses by `weight`."""

    domain: Domain
    weight: float = 1.0


@dataclass(frozen=True)
class Accuracy:
    """Questions to answer at every report, reported as `accuracy`: by likelihood where a question has options,
    by greedy generation and exact match otherwise. `domain.format` must be a question format, prompt/completion or
    chat.

    questions: a sample of so many rows, the same for all trials. max_new_tokens: of a generated answer; None: room for
    the longest right answer. batch_size: questions (or options) a forward pass, over which memory may ask for fewer.
    """

    domain: Domain
    questions: int = 100
    max_new_tokens: int | None = None
    batch_size: int = 16


@dataclass(frozen=True)
class LmEval:
    """Tasks of lm-evaluation-harness to run at every report, reported as `lm_eval_<task>_<metric>`.

    limit: at most so many documents of each (None: all). include_path: a folder with tasks of your own.
    """

    tasks: Sequence[str]
    limit: int | None = 100
    num_fewshot: int | None = None
    batch_size: int = 16
    include_path: str | None = None


@dataclass(frozen=True)
class Task:
    """One fine-tuning or training problem.

    domains: training domains by name. target: validation sets by name; a bare `Domain` has weight 1.
    max_steps: optimiser steps of a full run; the learning-rate schedule always spans them.
    eval_every: steps between reports. A report every few seconds is enough: each costs an evaluation.
    batch_size: rows (of `seq_len` tokens) an optimiser step, over all workers and accumulation steps.
    pack: several examples in a row, where they do not see each other; False: one, for models that do not tell them
        apart (gpt-oss, Mamba, ...: such a model is refused before it trains). Texts are joined and cut either way.
    unit: what mixture weights are shares of: "tokens", "loss_tokens" (only what is learned) or "examples". With
        "tokens" little is learned of questions with short answers, with "loss_tokens" most of a run reads their
        prompts; at equal steps the first was better (`mixing.py` has the numbers).
    max_epochs_per_domain: bounds the mixture in `param_space` so that no domain is repeated more often.
    eval_rows: a sample of at most so many rows of each target, the same for all trials. eval_batch_size: rows a pass;
        fewer where their logits would not fit (see `evaluation.py`).
    seed: of new weights, the order of the data, dropout, and the samples of the targets. seed_per_config: only the last
        of these is shared by all trials, and each configuration trains with a seed derived from it and `seed` (a
        promoted run keeps its short run's): a search over one shared seed finds what is good with that seed.
    save: full runs keep their "best" or "last" checkpoint (a promoted one: of what it trains itself).
    keep_optimizer: full runs keep the state to go on from, too, so that Tune can restart a failed one in its midst
        (FailureConfig); it is twice the size of what is trained. None: where that is small, with LoRA. Runs that a
        scheduler may stop always keep it, for their promotion.
    threads: torch threads of a worker; None: what Ray gave it (or as torch stands).
    num_proc: processes that tokenise (of `datasets.map`); None: this one.
    trainer_args: more arguments of `transformers.TrainingArguments` (fsdp, deepspeed, optim, ...), but none that the
        task itself sets (`owned.py` says which, and what to use instead). For logs of every so many steps, the
        evaluations among them: {"report_to": "wandb", "logging_strategy": "steps", "logging_steps": 10}; runs are named
        after their trials. For "tensorboard" the workers need TENSORBOARD_LOGGING_DIR in their environment.
    """

    domains: Mapping[str, Domain]
    target: Mapping[str, Target | Domain]
    model: Model
    max_steps: int
    eval_every: int
    batch_size: int = 8
    seq_len: int = 128
    accumulation: int = 1
    cache_dir: str = "~/.cache/jobs-ray"
    unit: Literal["tokens", "loss_tokens", "examples"] = "tokens"
    max_epochs_per_domain: float | None = None
    eval_rows: int | None = None
    eval_batch_size: int = 16
    accuracy: Accuracy | None = None
    lm_eval: LmEval | None = None
    lr: float = 3e-4
    weight_decay: float = 0.0
    warmup: float = 0.0
    schedule: str = "cosine"
    seed: int = 0
    seed_per_config: bool = False
    activation_checkpointing: bool = False
    save: Literal["best", "last"] = "best"
    keep_optimizer: bool | None = None
    threads: int | None = None
    num_proc: int | None = None
    steps_key: str = "max_steps"
    resume_key: str = "resume_from"
    trainer_args: Mapping[str, Any] = field(default_factory=dict)
    pack: bool = True

    def __post_init__(self) -> None:
        from pathlib import Path

        if not self.domains or not self.target:
            raise TaskError("a task needs at least one domain and one target")
        for name in ("max_steps", "eval_every", "batch_size", "seq_len", "accumulation", "eval_batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise TaskError(f"{name} must be a positive integer, got {value!r}")
        if self.eval_every > self.max_steps:
            raise TaskError(f"eval_every={self.eval_every} is beyond max_steps={self.max_steps}: nothing reported")
        if self.batch_size % self.accumulation:
            raise TaskError(f"batch_size={self.batch_size} is not a multiple of accumulation={self.accumulation}")
        samples = {"eval_rows": self.eval_rows}
        if self.accuracy is not None:
            samples["accuracy.questions"] = self.accuracy.questions
        for name, count in samples.items():
            # of no rows the loss is NaN, which a run would take for its own divergence
            if count is not None and (not isinstance(count, Integral) or count < 1):
                raise TaskError(f"{name} must be a positive integer, or None for all rows, got {count!r}")
        owned.check(self.trainer_args)
        targets = {n: t if isinstance(t, Target) else Target(t) for n, t in self.target.items()}
        if min(t.weight for t in targets.values()) < 0 or sum(t.weight for t in targets.values()) <= 0:
            raise TaskError("target weights must be >= 0 and not all zero")
        object.__setattr__(self, "target", targets)
        object.__setattr__(self, "cache_dir", str(Path(self.cache_dir).expanduser().resolve()))

    def targets(self) -> dict[str, Target]:
        """The targets, all as `Target`."""
        return {n: t if isinstance(t, Target) else Target(t) for n, t in self.target.items()}

    def granted_steps(self, config: Mapping[str, Any]) -> int:
        """Steps this trial trains to: `config[steps_key]`, rounded up to a reported step, at most `max_steps`."""
        asked = config.get(self.steps_key)
        if asked is None:
            return self.max_steps
        if not 0 < asked < float("inf"):
            raise TaskError(f"config[{self.steps_key!r}] must be a positive number of steps, got {asked!r}")
        return min(self.max_steps, -int(-asked // self.eval_every) * self.eval_every)

    def open_ended(self, config: Mapping[str, Any]) -> bool:
        """Whether a scheduler may stop this trial at any report, to go on from there in another one: it says where one
        goes on (from nothing, as yet), but not to which step."""
        return self.resume_key in config and not config[self.resume_key] and self.steps_key not in config

    def resumable(self, config: Mapping[str, Any]) -> bool:
        """Whether this trial's checkpoints keep the optimiser."""
        if self.granted_steps(config) < self.max_steps or self.open_ended(config):
            return True
        return config.get("lora") is not None if self.keep_optimizer is None else self.keep_optimizer

    def seed_of(self, config: Mapping[str, Any]) -> int:
        """The trial's seed: `config["seed"]`, else the task's or, with `seed_per_config`, one of the configuration."""
        if "seed" in config or not self.seed_per_config:
            return int(config.get("seed", self.seed))
        derived = zlib.crc32(json.dumps([self.seed, self.comparable(config)]).encode())
        return derived % 2**31  # what every generator takes

    def comparable(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a config that tells one run from another: what a resumed run must share with its short run."""
        skip = {self.steps_key, self.resume_key}
        kept = {k: v for k, v in config.items() if k not in skip}
        return json.loads(json.dumps(kept, sort_keys=True, default=str))  # type: ignore[no-any-return]
