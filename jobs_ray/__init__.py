"""jobs-ray: joint search of data mixture and model configuration from short training runs (JoBS, arXiv 2602.08351).

The names below are resolved on first use, so that importing the package costs nothing and does not import
ray, torch or transformers: the core runs where Ray is absent.
"""

from typing import TYPE_CHECKING

from jobs_ray._lazy import lazy

if TYPE_CHECKING:
    from jobs_ray.models.prediction import Prediction
    from jobs_ray.models.predictor import ScalingLawPredictor
    from jobs_ray.search.optimizer import JoBSOptimizer
    from jobs_ray.search.settings import FINISHED, Decision, Recommendation, Suggestion
    from jobs_ray.space import Categorical, Integer, Mixture, Real, SearchSpace
    from jobs_ray.trials import Phase, StateError
    from jobs_ray.tune.callback import JoBSCallback
    from jobs_ray.tune.mixtures import mixture
    from jobs_ray.tune.results import recommend
    from jobs_ray.tune.scheduler import JoBSScheduler
    from jobs_ray.tune.searcher import JoBSSearcher

__all__ = [
    "FINISHED",
    "Categorical",
    "Decision",
    "Integer",
    "JoBSCallback",
    "JoBSOptimizer",
    "JoBSScheduler",
    "JoBSSearcher",
    "Mixture",
    "Phase",
    "Prediction",
    "Real",
    "Recommendation",
    "ScalingLawPredictor",
    "SearchSpace",
    "StateError",
    "Suggestion",
    "mixture",
    "recommend",
]
__version__ = "0.1.0"

__getattr__, __dir__ = lazy(
    "jobs_ray",
    {
        "Real": "space",
        "Integer": "space",
        "Categorical": "space",
        "Mixture": "space",
        "SearchSpace": "space",
        "Phase": "trials",
        "StateError": "trials",
        "Prediction": "models.prediction",
        "ScalingLawPredictor": "models.predictor",
        "Suggestion": "search.settings",
        "Recommendation": "search.settings",
        "Decision": "search.settings",
        "FINISHED": "search.settings",
        "JoBSOptimizer": "search.optimizer",
        "mixture": "tune.mixtures",
        "JoBSSearcher": "tune.searcher",
        "JoBSScheduler": "tune.scheduler",
        "JoBSCallback": "tune.callback",
        "recommend": "tune.results",
    },
)
