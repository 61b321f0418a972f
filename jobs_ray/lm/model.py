"""Models: pretrained or fresh, whole or with LoRA adapters."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.lora import OTHER_SENSES, lora_config, lora_modules, refuse_unknown_flags
from jobs_ray.lm.task import Model

_EVERYWHERE = ("trust_remote_code", "token")  # of Model.kwargs, what tokenizer and configuration need too


def load_tokenizer(spec: Model) -> Any:
    """The tokenizer of a model; its padding token falls back to end-of-text."""
    from transformers import AutoTokenizer

    where = spec.tokenizer or spec.name
    extra: dict[str, Any] = {name: spec.kwargs[name] for name in _EVERYWHERE if name in spec.kwargs}
    if spec.gguf_file and not spec.tokenizer:
        extra["gguf_file"] = spec.gguf_file
    tokenizer = AutoTokenizer.from_pretrained(where, revision=spec.revision, **extra)
    if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def fresh_config(spec: Mapping[str, Any], overrides: Mapping[str, Any] | None, tokenizer: Any) -> Any:
    """A transformers configuration from `Model.config` and the trial's `config["model"]`."""
    from transformers import AutoConfig

    keys = {**spec, **(overrides or {})}
    kind = keys.pop("model_type")
    hidden, head = keys.get("hidden_size"), keys.get("head_dim")
    if hidden and head and "num_attention_heads" not in keys:
        if hidden % head:
            raise TaskError(f"hidden_size={hidden} is not a multiple of head_dim={head}")
        keys["num_attention_heads"] = hidden // head
    if hidden and "intermediate_size" not in keys:
        keys["intermediate_size"] = -(-hidden * 8 // 3 // 16) * 16
    if "num_attention_heads" in keys:
        keys.setdefault("num_key_value_heads", keys["num_attention_heads"])
        if hidden and not head and hidden % keys["num_attention_heads"]:
            raise TaskError(
                f"hidden_size={hidden} is not a multiple of num_attention_heads={keys['num_attention_heads']}"
            )
    keys.setdefault("vocab_size", len(tokenizer))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        keys.setdefault(name, getattr(tokenizer, name))
    made = AutoConfig.for_model(kind, **keys)
    text = made.get_text_config()
    heads, groups = (getattr(text, name, None) for name in ("num_attention_heads", "num_key_value_heads"))
    if isinstance(heads, int) and isinstance(groups, int) and groups and heads % groups:
        # attention would fail in the first step, with the sizes of two tensors
        raise TaskError(
            f"num_attention_heads={heads} is not a multiple of num_key_value_heads={groups}, which share them out; "
            "change one of them" + (f" (heads = hidden_size={hidden} / head_dim={head})" if hidden and head else "")
        )
    return made


def empty_model(spec: Model) -> Any:
    """The architecture of a pretrained model without its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    extra: dict[str, Any] = {name: spec.kwargs[name] for name in _EVERYWHERE if name in spec.kwargs}
    if spec.gguf_file:
        extra["gguf_file"] = spec.gguf_file
    config = AutoConfig.from_pretrained(spec.name, revision=spec.revision, **extra)
    trust = {"trust_remote_code": True} if spec.kwargs.get("trust_remote_code") else {}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, **trust)


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """peft 0.21 asks transformers 5.2x by a name that the latter deprecates; nothing a user can do about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def refuse_long_rows(model: Any, seq_len: int) -> None:
    """Raises TaskError where rows are longer than the positions that the model has learned (gpt2: 1,024), which would
    be an IndexError on a CPU and a failed assertion on a GPU, after which its process is lost."""
    import torch

    for name, module in model.named_modules():
        table = isinstance(module, torch.nn.Embedding) and re.fullmatch(r"(.*\.)?(wpe|\w*position\w*)", name)
        if table and not re.fullmatch(OTHER_SENSES, name):
            known = module.num_embeddings
            if type(module) is torch.nn.Embedding and module.padding_idx is not None:
                known -= module.padding_idx + 1  # RoBERTa's positions begin after it
            # OPT's table has two more than positions
            known = min(known, getattr(model.config.get_text_config(), "max_position_embeddings", known))
            if seq_len > known:
                raise TaskError(f"seq_len={seq_len} is beyond the {known} positions that {name!r} has; lower it")


def bf16_available() -> bool:
    """Whether this process's device computes in bfloat16 at full speed (CPUs: no, even where they can; V100 and T4 only
    emulate it)."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def adapted(base: Any, lora: Mapping[str, Any]) -> Any:
    """The base, in place, with the adapters of a trial's `config["lora"]`."""
    from peft import get_peft_model

    with _quiet_peft():
        names = lora_modules(base)
        refuse_unknown_flags(lora, base)
        made = lora_config(
            lora,
            base.config.get_text_config().num_hidden_layers,
            "q_proj" if "q_proj" in names else next(iter(names), "q_proj"),
            transposed=any(type(module).__name__ == "Conv1D" for module in base.modules()),
            composed=any(re.fullmatch(OTHER_SENSES, name) for name, _ in base.named_modules()),
        )
        return get_peft_model(base, made)


class ModelSource:
    """Builds a trial's model; keeps the frozen base of LoRA trials, so that the next trial does not load it again."""

    def __init__(self, spec: Model, tokenizer: Any) -> None:
        self.spec = spec
        self.tokenizer = tokenizer
        self._adapted: Any = None  # the last LoRA model, whose base is as it was loaded

    def build(self, config: Mapping[str, Any], seed: int) -> Any:
        """A model as the trial's config says; new weights (fresh model, adapters) depend on `seed` alone."""
        import torch
        from peft import prepare_model_for_kbit_training

        lora = config.get("lora")
        if config.get("model") and self.spec.config is None:
            raise TaskError("config['model'] changes an architecture; the task's model is pretrained")
        torch.manual_seed(seed)
        if lora is None:
            self._adapted = None
            return self._load(config, frozen=False)
        # peft's unload leaves the trained copies of modules_to_save in the base
        if self._adapted is not None and self.spec.config is None and not self._adapted.modules_to_save:
            base = self._adapted.unload()
            # of the last trial: noise on the embeddings, if it was stopped at a report, and activation checkpointing's
            base.get_input_embeddings()._forward_hooks.clear()
            torch.manual_seed(seed)
        else:
            self._adapted = None  # not two of them in memory
            base = self._load(config, frozen=True)
            if "quantization_config" in self.spec.kwargs:
                # norms and head to float32, as QLoRA does; checkpointing is TrainingArguments' to switch on
                base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
        self._adapted = adapted(base, lora)
        return self._adapted

    def _load(self, config: Mapping[str, Any], *, frozen: bool) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        spec = self.spec
        dtype = torch.float32
        if spec.dtype == "bfloat16" or (spec.dtype == "auto" and frozen and bf16_available()):
            dtype = torch.bfloat16
        elif spec.dtype == "float16" and frozen:  # what is trained stays float32: its gradients are unscaled in it
            dtype = torch.float16
        if spec.config is not None:
            made = fresh_config(spec.config, config.get("model"), self.tokenizer)
            return AutoModelForCausalLM.from_config(made, dtype=dtype, **spec.kwargs)
        extra = dict(spec.kwargs)
        if "quantization_config" in extra:
            if not frozen:
                raise TaskError("quantised weights cannot be trained themselves; give the space a 'lora' (QLoRA)")
            # quantised weights are made on the device they stay on
            extra["device_map"] = {"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"}
        if spec.gguf_file:
            extra["gguf_file"] = spec.gguf_file
        return AutoModelForCausalLM.from_pretrained(spec.name, revision=spec.revision, dtype=dtype, **extra)


def load(checkpoint: Any, **kwargs: Any) -> tuple[Any, Any]:
    """(model, tokenizer) of a checkpoint that a trial left, adapters on their base included.

    checkpoint: folder, URI or Ray `Checkpoint` (`result.checkpoint`), wherever it is stored. kwargs: of
    `from_pretrained` (dtype, attn_implementation, trust_remote_code, ...). Raises FileNotFoundError when it is none
    of a model.
    """
    from jobs_ray.lm.resume import local_folder

    with local_folder(checkpoint) as folder:
        return _load_folder(folder, kwargs)


def _load_folder(folder: Path, kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (folder / "adapter_config.json").exists():
        from peft import AutoPeftModelForCausalLM

        with _quiet_peft():
            model = AutoPeftModelForCausalLM.from_pretrained(str(folder), **kwargs)
    elif (folder / "config.json").exists():
        model = AutoModelForCausalLM.from_pretrained(str(folder), **kwargs)
    else:
        raise FileNotFoundError(f"{folder} holds neither config.json nor adapter_config.json: not a checkpoint")
    model.config.use_cache = True  # off in training, and saved so: generation would be slow
    return model, AutoTokenizer.from_pretrained(str(folder))
