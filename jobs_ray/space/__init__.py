"""Search spaces: parameters, mixtures, and nested configurations to and from points `X` (`n x d`) of the unit cube.

The bottom floor: it imports nothing of this project, and of others numpy and (for quasi-random points) scipy.
"""

from jobs_ray.space.base import Array, SpaceError
from jobs_ray.space.parameters import Categorical, Integer, Mixture, Parameter, Real
from jobs_ray.space.search_space import SearchSpace

__all__ = ["Array", "Categorical", "Integer", "Mixture", "Parameter", "Real", "SearchSpace", "SpaceError"]
