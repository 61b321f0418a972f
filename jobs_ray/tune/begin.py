"""The session of a search that begins, or what is missing for one."""

from __future__ import annotations

from ray.tune.result import DEFAULT_METRIC

from jobs_ray.space import SpaceError
from jobs_ray.tune.domains import TuneSpace
from jobs_ray.tune.session import Session
from jobs_ray.tune.settings import Replaced, Settings

LOST = ": no saved state can be used; "


def begin(
    settings: Settings,
    space: TuneSpace | None,
    metric: str | None,
    mode: str | None,
    num_samples: int | None,
    replaced: Replaced,
    hint: str = "; ",
) -> Session:
    """Raises SpaceError without a space, its `hint` within, and ValueError while metric or mode are unknown."""
    if space is None or not space.core:
        raise SpaceError(
            f"JoBSSearcher has nothing to search{hint}give tune.Tuner a param_space with at least one domain, "
            "as in {'lr': tune.loguniform(1e-5, 1e-2)}, or JoBSSearcher a space"
        )
    if metric is None and mode is not None:
        metric = DEFAULT_METRIC  # the trainable returns a bare number
    if metric is None or mode is None:
        raise ValueError(
            f"JoBSSearcher needs metric and mode, got metric={metric!r} and mode={mode!r}; "
            "pass both to tune.TuneConfig or to JoBSSearcher"
        )
    return Session(settings, space, metric, mode, num_samples, replaced)
