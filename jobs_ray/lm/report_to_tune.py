"""For who has a `transformers.Trainer` already: a callback that reports its evaluations to Ray Tune."""

from __future__ import annotations

from typing import Any

from ray import tune
from transformers import TrainerCallback


class ReportToTune(TrainerCallback):  # type: ignore[misc]
    """Reports each evaluation's metrics (`eval_loss`, ...) and the `step` it was made at; for TRL's trainers, too.
    With a dict of evaluation sets all their metrics (`eval_<set>_loss`, ...) are one report.

    stop_at: step at which training ends, after an evaluation: what `JoBSSearcher(steps_key=...)` wrote into the
    configuration. The learning rate's schedule stays that of `max_steps`, so a curve begins as a full one.
    """

    def __init__(self, stop_at: float | None = None) -> None:
        self.stop_at = stop_at
        self._found: dict[str, Any] = {}  # of the evaluation that is not reported yet
        self._last: dict[str, Any] = {}
        self._ended = True  # no training is under way

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ends the training when the steps granted are done."""
        if self.stop_at is not None and state.global_step >= self.stop_at:
            control.should_evaluate = True
            control.should_training_stop = True

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Keeps the metrics: with a dict of evaluation sets Trainer calls this once a set, and does not say how many
        are to come."""
        self._found |= {**(metrics or {}), "step": state.global_step}
        if self._ended:  # the caller's own evaluation of the trained model: nothing comes after it
            self._report(state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Reports the evaluation before this step."""
        self._report(state)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Another training of the same Trainer, maybe."""
        self._ended = False

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Reports the last evaluation."""
        self._report(state)
        self._ended = True

    def _report(self, state: Any) -> None:
        """One report an evaluation, of all its sets; of several processes the first one's."""
        found, self._found = self._found, {}
        if found and state.is_world_process_zero:
            # a set evaluated by itself after the training: Tune refuses a report that lacks the search's metric
            self._last = self._last | found if self._ended else found
            tune.report(dict(self._last))
