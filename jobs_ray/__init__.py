"""jobs-ray: joint search of data mixture and model configuration from short training runs (JoBS, arXiv 2602.08351).

The names below are resolved on first use, so that importing the package costs nothing and does not import
ray, torch or transformers: the core runs where Ray is absent.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Real": "space",
    "Integer": "space",
    "Categorical": "space",
    "Mixture": "space",
    "SearchSpace": "space",
    "JoBSOptimizer": "optimizer",
    "Suggestion": "optimizer",
    "Recommendation": "optimizer",
    "Decision": "optimizer",
    "Phase": "optimizer",
    "FINISHED": "optimizer",
    "ScalingLawPredictor": "predictor",
    "Prediction": "predictor",
    "StateError": "state",
    "mixture": "tune.domains",
    "JoBSSearcher": "tune.searcher",
    "JoBSScheduler": "tune.scheduler",
    "JoBSCallback": "tune.callback",
    "recommend": "tune.results",
}

__all__ = list(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jobs_ray' has no attribute {name!r}")
    return getattr(import_module(f"jobs_ray.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
