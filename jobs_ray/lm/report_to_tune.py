"""For who has a `transformers.Trainer` already: a callback that reports its evaluations to Ray Tune."""

from __future__ import annotations

from typing import Any

from ray import tune
from transformers import TrainerCallback


class ReportToTune(TrainerCallback):  # type: ignore[misc]
    """Reports each evaluation's metrics (`eval_loss`, ...) and the `step` it was made at; for TRL's trainers, too.

    stop_at: step at which training ends, after an evaluation: what `JoBSSearcher(steps_key=...)` wrote into the
    configuration. The learning rate's schedule stays that of `max_steps`, so a curve begins as a full one.
    """

    def __init__(self, stop_at: float | None = None) -> None:
        self.stop_at = stop_at

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ends the training when the steps granted are done."""
        if self.stop_at is not None and state.global_step >= self.stop_at:
            control.should_evaluate = True
            control.should_training_stop = True

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """One report; of several processes the first one's."""
        if state.is_world_process_zero:
            tune.report({**(metrics or {}), "step": state.global_step})
