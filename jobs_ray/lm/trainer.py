"""`transformers.Trainer` with our data order, our evaluation and our reports.

Notation: R ranks, T targets with weights a_t, n_t tokens with loss in target t.
eval_loss = sum_t a_t / sum(a) x (sum over ranks of the summed loss on t) / n_t: a mean over *tokens*, the same
for every R (Trainer's own averages batch means, which depends on how rows fall into batches and ranks).
"""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback

from jobs_ray.lm import evaluation, harness, metrics
from jobs_ray.lm.errors import TrainingError, finite, out_of_memory
from jobs_ray.lm.mixing import MixedRows
from jobs_ray.lm.packed import PackedRows
from jobs_ray.lm.resume import RUN_FILE, shared_with
from jobs_ray.lm.session import Session

Report = Callable[[dict[str, Any], Path | None], None]
_RANK_STRIDE = 1_000_003


class MixtureTrainer(Trainer):  # type: ignore[misc]
    """Reads the plan in order, evaluates by tokens, reports and saves at the run's own steps."""

    def __init__(
        self,
        *,
        session: Session,
        config: Mapping[str, Any],
        report: Report,
        save: bool,
        best: float,
        startup: Mapping[str, float],
        **kwargs: Any,
    ) -> None:
        start = time.perf_counter()
        self.session = session
        self.lm_task = session.task
        self.config = config
        self.loss_sum: torch.Tensor | float = 0.0
        self.loss_steps = 0
        super().__init__(
            data_collator=session.collate,
            processing_class=session.tokenizer,
            callbacks=[_Reports(self, report, save=save, best=best)],
            **kwargs,
        )
        self.remove_callback(PrinterCallback)
        self.startup = {**startup, "trainer": time.perf_counter() - start}

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        # The order is the plan's. accelerate deals it out batch by batch to the ranks.
        return SequentialSampler(self.train_dataset)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        adapted = self.model if hasattr(self.model, "peft_config") and not self.is_fsdp_enabled else None
        if adapted is not None:
            # peft reads adapters onto "cuda", the first GPU of the node for every worker on it
            adapted.load_adapter = functools.partial(
                type(adapted).load_adapter, adapted, torch_device=str(self.args.device)
            )
        try:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        finally:
            if adapted is not None:
                del adapted.load_adapter

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # walks over all parameters at every step, for a number nobody reads

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self.loss_sum = self.loss_sum + loss.detach()
        return loss

    def train_loss(self) -> float:
        """Mean training loss a step since the last call, over all ranks."""
        total = torch.as_tensor(self.loss_sum, dtype=torch.float32, device=self.args.device).reshape(1)
        mean = float(self.accelerator.reduce(total, "mean")) / max(self.loss_steps, 1)
        self.loss_sum, self.loss_steps = 0.0, 0
        return mean

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """`eval_loss`, with several targets also `eval_<name>_loss`, and what else the task asks for.

        Called by Trainer's loop on every rank at once.
        """
        was_training = self.model.training
        self.model_wrapped.eval()
        if hasattr(self.optimizer, "eval"):
            self.optimizer.eval()  # a schedule-free one: its average is evaluated and saved; a step switches back
        try:
            with torch.no_grad():
                found = self._evaluated()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if isinstance(error, TrainingError) or not out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory in the evaluation at step {self.state.global_step}; lower Task.eval_batch_size (now "
                f"{self.lm_task.eval_batch_size}) and the batch_size of Accuracy or LmEval. ({str(error)[:200]})"
            ) from error
        self.model_wrapped.train(was_training)
        if self.args.report_to:
            self.log(dict(found))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _evaluated(self) -> dict[str, float]:
        found: dict[str, float] = {}
        total = weight = 0.0
        for name, target in self.lm_task.targets().items():
            loss = self._token_loss(self.session.target[name])
            finite(loss, f"eval loss on {name!r}", self.state.global_step)
            if len(self.lm_task.target) > 1:
                found[f"eval_{name}_loss"] = loss
            total += target.weight * loss
            weight += target.weight
        found["eval_loss"] = total / weight
        if self.lm_task.accuracy is not None:
            right = metrics.count_right(self.model, self.session, self.args.process_index, self.args.world_size)
            right = self._over_ranks(right)
            found["accuracy"] = float(right[0] / right[1])
        if self.lm_task.lm_eval is not None:
            found.update(harness.evaluate(self.model, self.session))
        return found

    def _token_loss(self, rows: PackedRows) -> float:
        """Mean loss a token on the sampled `rows`."""
        task = self.lm_task
        chosen = evaluation.sample(len(rows), task.eval_rows, task.seed)
        size = evaluation.pass_size(self.model, task.eval_batch_size, task.seq_len)
        rank, ranks = self.args.process_index, self.args.world_size
        part = evaluation.loss_sums(
            self.model_wrapped, rows, chosen, size, rank=rank, ranks=ranks, collate=self.session.collate
        )
        sums = self._over_ranks(part)
        return float(sums[0] / sums[1])

    def _over_ranks(self, sums: torch.Tensor) -> torch.Tensor:
        """Summed over the ranks, on the CPU."""
        if self.args.world_size == 1:
            return sums
        return self.accelerator.reduce(sums.to(self.args.device), "sum").cpu()  # type: ignore[no-any-return]


class _Reports(TrainerCallback):  # type: ignore[misc]
    """Evaluate every `eval_every` steps and at the end, save when worth it, report, stop at the granted steps."""

    def __init__(self, trainer: MixtureTrainer, report: Report, *, save: bool, best: float) -> None:
        self._trainer = trainer
        self._report = report
        self._save = save
        self._task = trainer.lm_task
        self._granted = self._task.granted_steps(trainer.config)
        self._best = best
        self._saved = False
        self._waiting: dict[str, Any] = {}
        self._clock = self._trained = 0.0
        self._last_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Ranks must not share their dropout masks. Rank 0 draws as a single worker does.
        torch.manual_seed(args.seed + _RANK_STRIDE * args.process_index)
        self._clock, self._last_step = time.perf_counter(), state.global_step
        self._trainer.loss_sum, self._trainer.loss_steps = 0.0, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self._trainer.loss_steps += 1
        last = state.global_step >= self._granted
        control.should_evaluate = last or state.global_step % self._task.eval_every == 0
        if control.should_evaluate:
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # else the steps still queued would count as evaluation
            self._trained = time.perf_counter()
        control.should_training_stop = last
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> Any:
        step = state.global_step
        plan = _plan(self._trainer)
        read = step * self._task.batch_size
        now = time.perf_counter()
        tokens = (step - self._last_step) * self._task.batch_size * self._task.seq_len
        train_loss = self._trainer.train_loss()
        done = step >= self._granted
        self._waiting = {
            **metrics,
            "step": step,
            "train_loss": finite(train_loss, "training loss", step),
            "tokens": plan.tokens(read),
            "loss_tokens": plan.loss_tokens(read),
            "epochs": plan.epochs(read),
            "train_seconds": self._trained - self._clock,
            "eval_seconds": now - self._trained,
            "tokens_per_second": tokens / (self._trained - self._clock),
            "learning_rate": self._trainer._get_learning_rate(),
            "startup_s": dict(self._trainer.startup),
            "done": done,
        }
        self._clock, self._last_step = now, step
        full = self._granted == self._task.max_steps
        better = metrics["eval_loss"] < self._best
        self._best = min(self._best, metrics["eval_loss"])
        # A short run leaves the state it ended in, to go on from; a full run the best it has seen.
        worth = (better if self._task.save == "best" else done) if full else done
        worth = worth or self._task.open_ended(self._trainer.config)
        control.should_save = self._save and worth
        args.save_only_model = not self._task.resumable(self._trainer.config)
        if not control.should_save:
            self._report(self._waiting, None)
            self._clock = time.perf_counter()
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if args.should_save:
            saved = {
                "config": self._task.comparable(self._trainer.config),
                "step": state.global_step,
                "max_steps": self._task.max_steps,
                "task": shared_with(self._task, self._trainer.session.train, self._trainer.config),
                "resumable": not args.save_only_model,
                "metrics": {k: v for k, v in self._waiting.items() if isinstance(v, float | int)},
            }
            (folder / RUN_FILE).write_text(json.dumps(saved))
        # without the optimiser only the first rank has anything to write
        self._report(self._waiting, folder if folder.exists() else None)
        shutil.rmtree(folder, ignore_errors=True)
        self._clock = time.perf_counter()


def _plan(trainer: MixtureTrainer) -> Any:
    dataset = trainer.train_dataset
    assert isinstance(dataset, MixedRows)
    return dataset.plan
