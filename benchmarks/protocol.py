"""What the simulator asks of a method: the core API's ask / report / tell, and a recommendation.

JoBSOptimizer has this shape already; the rivals are written to it.
"""

from __future__ import annotations

from typing import Any, Protocol

from jobs_ray.search.optimizer import FINISHED, Decision, Phase, Suggestion

__all__ = ["FINISHED", "Decision", "HasConfig", "Method", "Phase", "Suggestion"]


class HasConfig(Protocol):
    """A recommendation: at least the configuration to train."""

    @property
    def config(self) -> dict[str, Any]: ...


class Method(Protocol):
    """The optimiser's side. `ask` answers a Suggestion, None (wait for something in flight) or FINISHED."""

    def ask(self, trial_id: str) -> Any: ...

    def report(self, trial_id: str, t: float, value: float) -> Decision: ...

    def tell(self, trial_id: str, error: bool = False) -> None: ...

    def recommendation(self) -> HasConfig | None: ...
