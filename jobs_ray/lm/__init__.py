"""Fine-tune or train a causal language model on a mixture of domains, as a Ray Tune trainable.

The names are resolved on first use: importing `jobs_ray.lm` imports neither torch nor transformers.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Domain": "domains",
    "DataError": "errors",
    "TrainingError": "errors",
    "TaskError": "errors",
    "Model": "task",
    "Target": "task",
    "Task": "task",
    "Accuracy": "task",
    "LmEval": "task",
    "prepare": "packing",
    "MixturePlan": "mixing",
    "param_space": "space",
    "Session": "session",
    "load": "model",
    "run": "loop",
    "trainable": "train",
    "PruneCheckpoints": "checkpoints",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jobs_ray.lm' has no attribute {name!r}")
    return getattr(import_module(f"jobs_ray.lm.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
