"""The session of a search that begins, or what is missing for one."""

from __future__ import annotations

from ray.tune.result import DEFAULT_METRIC

from jobs_ray.space import SpaceError
from jobs_ray.tune import recovery
from jobs_ray.tune.domains import TuneSpace
from jobs_ray.tune.session import Session
from jobs_ray.tune.settings import Replaced, Settings

NOTHING = "JoBSSearcher has nothing to search; "
LOST = "JoBSSearcher has nothing to search: no saved state can be used; "
NOT_RESTORED = f"{recovery.NOT_RESTORED}. Else {NOTHING}"


def begin(
    settings: Settings,
    space: TuneSpace | None,
    metric: str | None,
    mode: str | None,
    num_samples: int | None,
    replaced: Replaced,
    why: str = NOTHING,
) -> Session:
    """Raises SpaceError without a space, `why` at its head, and ValueError while metric or mode are unknown."""
    if space is None or not space.core:
        raise SpaceError(
            f"{why}give tune.Tuner a param_space with at least one domain, "
            "as in {'lr': tune.loguniform(1e-5, 1e-2)}, or JoBSSearcher a space. (If a search has ended: under Ray "
            "Client, and with Tuner.restore, a copy of this object made it; ask jobs_ray.recommend(results))"
        )
    if metric is None and mode is not None:
        metric = DEFAULT_METRIC  # the trainable returns a bare number
    if metric is None or mode is None:
        raise ValueError(
            f"JoBSSearcher needs metric and mode, got metric={metric!r} and mode={mode!r}; "
            "pass both to tune.TuneConfig or to JoBSSearcher"
        )
    return Session(settings, space, metric, mode, num_samples, replaced)
