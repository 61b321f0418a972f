"""The search as Ray Tune sees it: domains, searcher, scheduler, callback, results.

The only package that imports `ray.tune`; it translates and decides nothing.
"""

from typing import TYPE_CHECKING

from jobs_ray._lazy import lazy

if TYPE_CHECKING:
    from jobs_ray.tune.callback import JoBSCallback
    from jobs_ray.tune.mixtures import mixture
    from jobs_ray.tune.results import load_session, locate, recommend
    from jobs_ray.tune.scheduler import JoBSScheduler
    from jobs_ray.tune.searcher import JoBSSearcher

__all__ = [
    "JoBSCallback",
    "JoBSScheduler",
    "JoBSSearcher",
    "load_session",
    "locate",
    "mixture",
    "recommend",
]

__getattr__, __dir__ = lazy(
    "jobs_ray.tune",
    {
        "JoBSCallback": "callback",
        "mixture": "mixtures",
        "load_session": "results",
        "locate": "results",
        "recommend": "results",
        "JoBSScheduler": "scheduler",
        "JoBSSearcher": "searcher",
    },
)
