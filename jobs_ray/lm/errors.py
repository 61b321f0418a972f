"""What can go wrong in `lm/`, each with the remedy in its message."""


class TaskError(ValueError):
    """The task or a trial's config cannot be trained as written."""


class DataError(TaskError):
    """A domain cannot be read, formatted or packed."""


class TrainingError(RuntimeError):
    """A training run failed; the message names the reason and the step."""
