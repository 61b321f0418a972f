"""How the searcher, the scheduler and the callback of one `fit()` find each other before the first suggestion.

Ray tells a searcher nothing of the scheduler, and the first `suggest` comes before the scheduler has seen the
controller (ray/tune/execution/tune_controller.py, `step`: queue first, `choose_trial_to_run` after). What does
come earlier, in one thread and in this order (ray/tune/tune.py, `run`): `searcher.set_search_properties` (only
with a non-empty param_space), `scheduler.set_search_properties`, the callbacks named in RAY_TUNE_CALLBACKS,
`searcher.restore`, `callback.setup`. So each joins the crew of the run that is being set up in this context.
Weak references: a finished run's crew keeps nothing alive.
"""

from __future__ import annotations

import os
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ray.tune.constants import RAY_TUNE_CALLBACKS_ENV_VAR

if TYPE_CHECKING:
    from jobs_ray.tune.callback import JoBSCallback
    from jobs_ray.tune.scheduler import JoBSScheduler
    from jobs_ray.tune.searcher import JoBSSearcher

_CALLBACK_PATH = "jobs_ray.tune.callback.JoBSCallback"


class Crew:
    """The members of one run; each is None until it has joined."""

    def __init__(self) -> None:
        self._searcher: weakref.ref[JoBSSearcher] | None = None
        self._scheduler: weakref.ref[JoBSScheduler] | None = None
        self._callback: weakref.ref[JoBSCallback] | None = None
        # what the Tuner told the others, for a searcher that it told nothing (an empty param_space)
        self.num_samples: int | None = None
        self.metric: str | None = None
        self.mode: str | None = None

    @property
    def searcher(self) -> JoBSSearcher | None:
        return self._searcher() if self._searcher else None

    @property
    def scheduler(self) -> JoBSScheduler | None:
        return self._scheduler() if self._scheduler else None

    @property
    def callback(self) -> JoBSCallback | None:
        return self._callback() if self._callback else None


_crew: ContextVar[Crew | None] = ContextVar("jobs_ray_crew", default=None)


def searcher_starts(searcher: JoBSSearcher) -> Crew:
    """`set_search_properties` of the searcher: the first thing that happens in a run."""
    crew = Crew()
    crew._searcher = weakref.ref(searcher)
    _crew.set(crew)
    summon_callback()
    return crew


def searcher_joins(searcher: JoBSSearcher) -> Crew:
    """The searcher at `restore` or `suggest`, when Ray skipped `set_search_properties`."""
    crew = _crew.get()
    if crew is None or crew.searcher not in (None, searcher):
        crew = Crew()
        _crew.set(crew)
    crew._searcher = weakref.ref(searcher)
    return crew


def scheduler_joins(scheduler: JoBSScheduler, metric: str | None, mode: str | None, num_samples: int | None) -> None:
    """`set_search_properties` of the scheduler: always called, also on restore."""
    crew = _crew.get()
    if crew is None or crew.scheduler is not None:  # an earlier run's
        crew = Crew()
        _crew.set(crew)
    crew._scheduler = weakref.ref(scheduler)
    crew.metric, crew.mode, crew.num_samples = metric, mode, num_samples
    summon_callback()


def callback_joins(callback: JoBSCallback) -> Crew | None:
    """None when another JoBSCallback works for this run already (the user's own and the summoned one)."""
    crew = _crew.get()
    if crew is None:
        crew = Crew()
        _crew.set(crew)
    if crew.callback not in (None, callback):
        return None
    crew._callback = weakref.ref(callback)
    return crew


def run_ends(crew: Crew) -> None:
    """Forgets the crew, so that the next run in this context does not take its scheduler for its own."""
    if _crew.get() is crew:
        _crew.set(None)


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
