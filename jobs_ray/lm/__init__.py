"""Fine-tune or train a causal language model on a mixture of domains, as a Ray Tune trainable.

The names are resolved on first use: importing `jobs_ray.lm` imports neither torch nor transformers.
"""

from typing import TYPE_CHECKING

from jobs_ray._lazy import lazy

if TYPE_CHECKING:
    from jobs_ray.lm.checkpoints import PruneCheckpoints, run_config
    from jobs_ray.lm.domain import Domain
    from jobs_ray.lm.errors import DataError, TaskError, TrainingError
    from jobs_ray.lm.estimate import memory_per_gpu
    from jobs_ray.lm.loop import run
    from jobs_ray.lm.mixing import MixturePlan
    from jobs_ray.lm.model import load
    from jobs_ray.lm.packing import prepare
    from jobs_ray.lm.report_to_tune import ReportToTune
    from jobs_ray.lm.requirements import preflight
    from jobs_ray.lm.session import Session
    from jobs_ray.lm.space import param_space
    from jobs_ray.lm.task import Accuracy, LmEval, Model, Target, Task
    from jobs_ray.lm.train import trainable

__all__ = [
    "Accuracy",
    "DataError",
    "Domain",
    "LmEval",
    "MixturePlan",
    "Model",
    "PruneCheckpoints",
    "ReportToTune",
    "Session",
    "Target",
    "Task",
    "TaskError",
    "TrainingError",
    "load",
    "memory_per_gpu",
    "param_space",
    "preflight",
    "prepare",
    "run",
    "run_config",
    "trainable",
]

__getattr__, __dir__ = lazy(
    "jobs_ray.lm",
    {
        "PruneCheckpoints": "checkpoints",
        "Domain": "domains",
        "DataError": "errors",
        "TaskError": "errors",
        "TrainingError": "errors",
        "memory_per_gpu": "estimate",
        "preflight": "requirements",
        "run": "loop",
        "run_config": "checkpoints",
        "MixturePlan": "mixing",
        "load": "model",
        "prepare": "packing",
        "ReportToTune": "report_to_tune",
        "Session": "session",
        "param_space": "space",
        "Accuracy": "task",
        "LmEval": "task",
        "Model": "task",
        "Target": "task",
        "Task": "task",
        "trainable": "train",
    },
)
