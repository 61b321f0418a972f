"""Points to evaluate as users write them: some parameters left out, weights of a mixture as parts (2 / 5 / 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jobs_ray.space import SearchSpace, SpaceError
from jobs_ray.tune.domains import TuneSpace


def complete(space: TuneSpace, point: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The core's `{path: value}` of a point; what it leaves out is drawn. Raises SpaceError if it is not of the space.

    A whole point stays exactly as it is.
    """
    try:
        return space.core_config(point)
    except SpaceError:
        given = space.core_config(point, lenient=True)
    core = SearchSpace(space.core)
    x = core.sample(1, rng)
    for block in core.blocks:
        if block.name in given:
            x[0, block.columns] = block.parameter.encode(given[block.name])
    config = core.decode(core.snap(x)[0])
    return {name: given.get(name, value) for name, value in config.items()}
