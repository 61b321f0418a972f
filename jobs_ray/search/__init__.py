"""What to do next: the acquisition function, the budget, the rule of the phases, and `JoBSOptimizer` around them.

Decisions are functions of (settings, trials, seed, ask-counter).
"""

from typing import TYPE_CHECKING

from jobs_ray._lazy import lazy

if TYPE_CHECKING:
    from jobs_ray.search.budget import Allocation, Budget, allocate, first_short_t, optimal_num_full
    from jobs_ray.search.optimizer import JoBSOptimizer
    from jobs_ray.search.progress import JUDGED
    from jobs_ray.search.settings import FINISHED, Decision, Recommendation, Settings, Suggestion

__all__ = [
    "FINISHED",
    "JUDGED",
    "Allocation",
    "Budget",
    "Decision",
    "JoBSOptimizer",
    "Recommendation",
    "Settings",
    "Suggestion",
    "allocate",
    "first_short_t",
    "optimal_num_full",
]

__getattr__, __dir__ = lazy(
    "jobs_ray.search",
    {
        "Allocation": "budget",
        "Budget": "budget",
        "allocate": "budget",
        "first_short_t": "budget",
        "optimal_num_full": "budget",
        "JoBSOptimizer": "optimizer",
        "JUDGED": "progress",
        "Decision": "settings",
        "FINISHED": "settings",
        "Recommendation": "settings",
        "Settings": "settings",
        "Suggestion": "settings",
    },
)
