"""Whether a new trial could start now, so that no configuration is chosen before the results it should know; and
whether an actor could be lost if none does.

Without `max_concurrent_trials` Ray asks for one trial more than the cluster can run and keeps it waiting
(ray/tune/execution/tune_controller.py, `_max_pending_trials`); it would start from knowledge of long ago.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from typing import Any

import ray
from ray.tune import Trainable
from ray.tune.experiment import Trial
from ray.tune.trainable import FunctionTrainable

_REFRESH_S = 1.0  # a cluster may grow
_MOST_SPARE = 63  # suggestions computed ahead: each takes a worker thread 2 to 5 ms


class Capacity:
    """How many trials the cluster runs at once, by the last trial's resources."""

    def __init__(self) -> None:
        self._resources: dict[str, float] = {}
        self._asked = -math.inf
        self._may_reuse: bool | None = None

    def running(self, live: Collection[str], trials: Sequence[Any]) -> int:
        """How many of `live` take resources: HyperBand lets those of a bracket wait until it is full."""
        return len(live) - len([t for t in trials if t.status == Trial.PAUSED and t.trial_id in live])

    def free(self, live: int, limit: int | None, trials: Sequence[Any]) -> bool:
        """False when `live` trials that run fill the cluster, or the user's `limit` instead; True when unknown."""
        if limit is not None:
            return live < limit
        if not trials:
            return True
        request = trials[-1].placement_group_factory.required_resources
        total = self._cluster()
        counts = [math.floor(total.get(key, 0.0) / amount) for key, amount in request.items() if amount > 0]
        # 0: the cluster cannot run one now, but may be about to grow; Ray must see the demand
        return not counts or min(counts) == 0 or live < min(counts)

    def spare(self, live: int, trials: Sequence[Any], hurried: bool = False) -> int:
        """How many suggestions may be wanted at once beside the present one: in a hurry, and where an actor is lost
        that finds none.

        Tune tells no searcher of `reuse_actors`, but only for a class of the user's that can be reset is it worth it.
        (Ray resets functions, too, which keep nothing.)
        """
        if self._may_reuse is None and trials:
            kind = trials[-1].get_trainable_cls()
            own = kind is not None and not issubclass(kind, FunctionTrainable)
            self._may_reuse = own and kind.reset_config is not Trainable.reset_config
        return min(live, _MOST_SPARE) if hurried or self._may_reuse else 0

    def _cluster(self) -> dict[str, float]:
        now = time.monotonic()
        if now - self._asked > _REFRESH_S:
            self._resources = ray.cluster_resources() if ray.is_initialized() else {}
            self._asked = now
        return self._resources
