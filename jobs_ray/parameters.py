"""Where pickles of 0.1.0 (Ray's `tuner.pkl`) look for what has moved to `jobs_ray.space`. Import it from there."""

from jobs_ray.space import Categorical, Integer, Mixture, Real

__all__ = ["Categorical", "Integer", "Mixture", "Real"]
