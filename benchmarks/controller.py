"""Ray Tune's loop without its actors: the calls that searcher, scheduler and callback get, in Ray's order.

Written from ray/tune/execution/tune_controller.py of Ray 2.60 (`step`, `_process_trial_result`, `stop_trial`,
`_process_trial_failure`); tests/benchmarks/test_bench_scale.py compares the order with that of a real run. The trials
are Ray's own `Trial` objects; what they train, and when they report, is simulated.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ray.tune import Trainable
from ray.tune.experiment import Trial
from ray.tune.registry import register_trainable
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.utils import flatten_dict

from jobs_ray.tune import JoBSCallback, JoBSScheduler, JoBSSearcher
from jobs_ray.tune.pulse import Pulse

STEP_S = 0.1
"""Of simulated time that a step of the loop waits for an event (`_actor_manager.next(timeout=0.1)`)."""

Watch = Callable[[str, str, float], None]  # the call, the trial or "", CPU seconds in it
Train = Callable[[Mapping[str, Any], int], float]  # configuration and step: the value reported


class SimulatedTrial(Trial):  # type: ignore[misc]
    """Has no files."""

    error_file = None


class Controller:
    """One simulated experiment. Everything public but `step` and `now` is what the scheduler asks of Ray's controller.

    train: the value that a configuration reports at a step. reports: after so many a trial ends by itself.
    interval_s: mean simulated time between two reports of a trial, uniform within 20 %.
    lost_per_hour: share of the nodes lost in an hour, one trial on each; every other such trial starts anew.
    """

    def __init__(
        self,
        searcher: JoBSSearcher,
        space: Mapping[str, Any],
        train: Train,
        watch: Watch,
        *,
        num_samples: int,
        in_flight: int,
        reports: int,
        interval_s: float = 60.0,
        lost_per_hour: float = 0.01,
        seed: int = 0,
    ) -> None:
        register_trainable("Simulated", Trainable)
        self.search_alg, self._scheduler, self._train, self._watch = searcher, JoBSScheduler(), train, watch
        self._num_samples, self._reports, self._in_flight = num_samples, reports, in_flight
        self._interval_s, self._lost_per_hour = interval_s, lost_per_hour
        searcher.set_search_properties("loss", "min", dict(space), num_samples=num_samples)
        searcher.set_max_concurrency(in_flight)
        self._scheduler.set_search_properties("loss", "min", num_samples=num_samples)
        self._callback = JoBSCallback(quiet=True)
        self._callback.setup(num_samples=num_samples)
        searcher.session.pulse = Pulse(lambda: self.now)
        self._generator = np.random.default_rng(seed)
        self._trials: list[Trial] = []
        self._live: dict[str, Trial] = {}
        self._reached: dict[str, tuple[int, int]] = {}  # step, and process: the first one or its successor
        self._events: list[tuple[float, int, Trial]] = []
        self._numbers = itertools.count()
        self._finished = False
        self.now = 0.0
        self.results = self.lost = 0
        self.predicted: list[bool] = []  # of each result, whether it had something to predict its trial by
        self.idle_s = 0.0  # of simulated time, summed over the slots that wait for a suggestion

    # ---- what the scheduler asks

    def get_trials(self) -> list[Trial]:
        return self._trials

    def get_live_trials(self) -> set[Trial]:
        return set(self._live.values())

    def stop_trial(self, trial: Trial) -> None:
        """The trial ends in order."""
        last = flatten_dict(trial.last_result)
        self._call("scheduler.on_trial_complete", trial, self._scheduler.on_trial_complete, self, trial, last)
        self._call("searcher.on_trial_complete", trial, self.search_alg.on_trial_complete, trial.trial_id, result=last)
        self._tell("on_trial_complete", trial)
        trial.set_status(Trial.TERMINATED)
        del self._live[trial.trial_id]

    def ask_no_more(self) -> None:
        """The experiment ends with the trials that run."""
        self._finished = True

    # ---- the loop

    def step(self) -> bool:
        """One turn of Ray's loop. False when the experiment is over."""
        if self._finished and not self._live:
            self._callback.on_experiment_end(self._trials)
            return False
        self._call(
            "callback.on_step_begin", None, self._callback.on_step_begin, iteration=self.results, trials=self._trials
        )
        started = not self._finished and self._ask()
        chosen = self._call("scheduler.choose_trial_to_run", None, self._scheduler.choose_trial_to_run, self)
        if chosen is not None:
            chosen.set_status(Trial.RUNNING)
            self._schedule(chosen)
        if started:
            return True
        if self._finished or len(self._live) >= self._in_flight:
            self.now = max(self.now, self._events[0][0])
        elif self.search_alg._proposer.computing:
            time.sleep(STEP_S / 4)
            self._wait(self.now + STEP_S)
        else:  # the next suggestion waits for a result
            self._wait(self._events[0][0])
        if self._events and self._events[0][0] <= self.now:
            self._event(heapq.heappop(self._events)[2])
        return True

    def _wait(self, until: float) -> None:
        until = max(self.now, until)
        self.idle_s += (until - self.now) * (self._in_flight - len(self._live))
        self.now = until

    def _ask(self) -> bool:
        trial_id = f"t{len(self._trials):06d}"
        config = self._call("searcher.suggest", trial_id, self.search_alg.suggest, trial_id)
        if config == Searcher.FINISHED:
            self._finished = True
        if not isinstance(config, dict):
            return False
        trial = SimulatedTrial("Simulated", trial_id=trial_id, config=config, stub=True)
        self._trials.append(trial)
        self._live[trial_id], self._reached[trial_id] = trial, (0, 1)
        self._call("scheduler.on_trial_add", trial, self._scheduler.on_trial_add, self, trial)
        self._finished |= len(self._trials) >= self._num_samples
        return True

    def _schedule(self, trial: Trial) -> None:
        at = self.now + self._interval_s * self._generator.uniform(0.8, 1.2)
        heapq.heappush(self._events, (at, next(self._numbers), trial))

    def _event(self, trial: Trial) -> None:
        t, process = self._reached[trial.trial_id]
        if self._generator.random() < self._lost_per_hour * self._interval_s / 3600.0:
            self.lost += 1
            if self.lost % 2:
                self._fail(trial)
            else:  # `max_failures`: the searcher is not told
                self._reached[trial.trial_id] = 0, process + 1
                self._schedule(trial)
            return
        self._reached[trial.trial_id] = t + 1, process
        self.results += 1
        if self._process(trial, self._result(trial, t + 1, process)):
            self.stop_trial(trial)
        else:
            self._schedule(trial)

    def _result(self, trial: Trial, t: int, process: int) -> dict[str, Any]:
        """With the keys that Ray adds."""
        return {
            "loss": self._train(trial.config, t),
            "training_iteration": t,
            "iterations_since_restore": t,
            "done": t >= self._reports,
            "trial_id": trial.trial_id,
            "pid": process,
            "node_ip": "10.0.0.1",
            "hostname": trial.trial_id,
            "time_this_iter_s": self._interval_s,
            "time_total_s": t * self._interval_s,
            "timestamp": int(self.now),
            "date": "2026-01-01_00-00-00",
            "config": trial.config,
            "experiment_tag": trial.trial_id,
        }

    def _process(self, trial: Trial, result: dict[str, Any]) -> bool:
        """Whether the trial is to be stopped."""
        flat = flatten_dict(result)
        stop = result["done"]
        if not stop:
            decision = self._call(
                "scheduler.on_trial_result", trial, self._scheduler.on_trial_result, self, trial, flat
            )
            stop = decision == TrialScheduler.STOP
        if not stop:
            self._call("searcher.on_trial_result", trial, self.search_alg.on_trial_result, trial.trial_id, flat)
        result["done"] = stop
        self._tell("on_trial_result", trial, result=result)
        self.predicted.append(result["jobs/predicted"] is not None)
        trial.update_last_result(result)
        return bool(stop)

    def _fail(self, trial: Trial) -> None:
        self._call("scheduler.on_trial_error", trial, self._scheduler.on_trial_error, self, trial)
        self._call("searcher.on_trial_complete", trial, self.search_alg.on_trial_complete, trial.trial_id, error=True)
        trial.set_status(Trial.ERROR)
        del self._live[trial.trial_id]
        self._tell("on_trial_error", trial)

    def _tell(self, name: str, trial: Trial, **more: Any) -> None:
        method = getattr(self._callback, name)
        self._call(f"callback.{name}", trial, method, iteration=self.results, trials=self._trials, trial=trial, **more)

    def _call(
        self, name: str, trial: Trial | str | None, method: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        start = time.thread_time()
        answer = method(*args, **kwargs)
        self._watch(name, getattr(trial, "trial_id", trial) or "", time.thread_time() - start)
        return answer
