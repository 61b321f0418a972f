"""What can go wrong in `lm/`, each with the remedy in its message."""

import math


class TaskError(ValueError):
    """The task or a trial's config cannot be trained as written."""


class DataError(TaskError):
    """A domain cannot be read, formatted or packed."""


class TrainingError(RuntimeError):
    """A training run failed; the message names the reason and the step."""


def finite(value: float, what: str, step: int) -> float:
    """The value itself. Raises TrainingError when it is NaN or infinite."""
    if not math.isfinite(value):
        raise TrainingError(f"{what} is {value} at step {step}; the run diverged (lower lr, or warm up)")
    return value


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is one of memory, of the device or of the machine."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
