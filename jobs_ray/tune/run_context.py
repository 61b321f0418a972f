"""The searcher, the scheduler and the callback of one `Tuner.fit()`: how they find each other.

Ray tells a searcher nothing of the scheduler, and the first `suggest` comes before the scheduler has seen the
controller (ray/tune/execution/tune_controller.py, `step`: queue first, `choose_trial_to_run` after). What does
come earlier, in one thread and in this order (ray/tune/tune.py, `run`): `searcher.set_search_properties` (only
with a non-empty param_space), `scheduler.set_search_properties`, the callbacks named in RAY_TUNE_CALLBACKS,
`searcher.restore`, `callback.setup`. So each joins the context of the run that is being set up in this thread.
Weak references: a finished run's context keeps nothing alive.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from ray.tune import Callback
from ray.tune.constants import RAY_TUNE_CALLBACKS_ENV_VAR
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.utils import log

_CALLBACK_PATH = "jobs_ray.tune.callback.JoBSCallback"


class RunContext:
    """Who takes part in one run (all of this project's kinds); each is None until it has joined."""

    def __init__(self) -> None:
        self._searcher: weakref.ref[Searcher] | None = None
        self._scheduler: weakref.ref[TrialScheduler] | None = None
        self._callback: weakref.ref[Callback] | None = None
        # what the Tuner told the others, for a searcher that it told nothing (an empty param_space)
        self.num_samples: int | None = None
        self.metric: str | None = None
        self.mode: str | None = None
        self.verbosity: int | None = None  # of RunConfig; None: not known
        self.stop: Any = None  # of RunConfig: a dict, or a stopper
        self.over = False

    def learn(self, num_samples: int | None, stop: Any) -> None:
        """What Ray tells a callback."""
        self.num_samples = num_samples if self.num_samples is None else self.num_samples
        self.stop = stop

    def met(self, result: Mapping[str, Any]) -> bool:
        """Whether a trial has come to the end that the user set for all, as {"time_total_s": 3600}."""
        stop = self.stop if isinstance(self.stop, dict) else {}
        return any(key in result and result[key] >= value for key, value in stop.items())

    @property
    def searcher(self) -> Searcher | None:
        return self._searcher() if self._searcher else None

    @property
    def scheduler(self) -> TrialScheduler | None:
        return self._scheduler() if self._scheduler else None

    @property
    def callback(self) -> Callback | None:
        return self._callback() if self._callback else None


_current: ContextVar[RunContext | None] = ContextVar("jobs_ray_run", default=None)


def searcher_starts(searcher: Searcher) -> RunContext:
    """`set_search_properties` of the searcher: the first thing that happens in a run."""
    run = RunContext()
    run._searcher = weakref.ref(searcher)
    _current.set(run)
    summon_callback()
    return run


def searcher_joins(searcher: Searcher) -> RunContext:
    """The searcher at `restore` or `suggest`, when Ray skipped `set_search_properties`."""
    run = _current.get()
    if run is None or run.searcher not in (None, searcher):
        run = RunContext()
        _current.set(run)
    run._searcher = weakref.ref(searcher)
    return run


def searcher_is_unpickled() -> None:
    """Most likely by `Tuner.restore`: without a scheduler of ours nothing else of us is called before Ray has made its
    callbacks, and without one the search would not know the trials that Ray goes on with, and spend their budget again.
    """
    summon_callback()


def scheduler_joins(scheduler: TrialScheduler, metric: str | None, mode: str | None, num_samples: int | None) -> None:
    """`set_search_properties` of the scheduler: always called, also on restore."""
    run = _current.get()
    if run is None or run.scheduler is not None:  # an earlier run's
        run = RunContext()
        _current.set(run)
    run._scheduler = weakref.ref(scheduler)
    run.metric, run.mode, run.num_samples = metric, mode, num_samples
    summon_callback()


def unwrapped(tune_controller: Any) -> Any:
    """Ray's own controller: what a scheduler is shown warns the user of each attribute that is not for schedulers."""
    return getattr(tune_controller, "_tune_controller", tune_controller)


def join_callbacks(tune_controller: Any) -> None:
    """What only the list of the run's callbacks tells, and it is no public one: without it nothing is changed.

    How much the user wants to read is known to Ray's reporter. And Ray appends a summoned callback to the user's own:
    it goes to the front, so that an MLflow or W&B logger among them finds `jobs/*` in each result.
    """
    run = _current.get()
    if run is None or run.verbosity is not None:
        return
    callbacks = getattr(getattr(unwrapped(tune_controller), "_callbacks", None), "_callbacks", None)
    callbacks = callbacks if isinstance(callbacks, list) else []
    callbacks.sort(key=lambda callback: callback is not run.callback)
    found = [callback.verbosity for callback in callbacks if isinstance(getattr(callback, "verbosity", None), int)]
    run.verbosity = int(found[0]) if found else int(log.verbosity)  # RAY_AIR_NEW_OUTPUT=0 has no such reporter


def callback_joins(callback: Callback) -> RunContext | None:
    """None when another JoBSCallback works for this run already (the user's own and the summoned one)."""
    run = _current.get()
    if run is None:
        run = RunContext()
        _current.set(run)
    if run.callback not in (None, callback):
        return None
    run._callback = weakref.ref(callback)
    return run


def run_ends(run: RunContext) -> None:
    """Forgets the run, so that the next one in this thread does not take its scheduler for its own."""
    run.over = True
    if _current.get() is run:
        _current.set(None)


def summon_callback() -> None:
    """Lets Ray add a JoBSCallback to this run by itself: it builds those named in the variable, once a run."""
    names = [name for name in os.environ.get(RAY_TUNE_CALLBACKS_ENV_VAR, "").split(",") if name]
    if _CALLBACK_PATH not in names:
        os.environ[RAY_TUNE_CALLBACKS_ENV_VAR] = ",".join([*names, _CALLBACK_PATH])


def dismiss_callback() -> None:
    """Takes the name out again, so that other experiments of this process get no JoBSCallback."""
    names = [name for name in os.environ.get(RAY_TUNE_CALLBACKS_ENV_VAR, "").split(",") if name]
    if _CALLBACK_PATH in names:
        names.remove(_CALLBACK_PATH)
        if names:
            os.environ[RAY_TUNE_CALLBACKS_ENV_VAR] = ",".join(names)
        else:
            del os.environ[RAY_TUNE_CALLBACKS_ENV_VAR]
