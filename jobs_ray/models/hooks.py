"""A user's own BoTorch model and acquisition function in place of the project's.

    surrogate(train_X, train_Y, train_Yvar) -> botorch.models.model.Model
    acquisition(model, best_f, X_pending) -> botorch.acquisition.AcquisitionFunction

    train_X     n x p in [0, 1]: numbers as they are, square roots of mixture weights, one-hot choices / sqrt 2
    train_Y     n x 1, standardised and maximised: confirmed finals and predicted ones
    train_Yvar  n x 1, their variances in the same unit: at least 1e-5, large where a final is only predicted
    best_f      the largest posterior mean at a point observed
    X_pending   m x p of the trials in flight that have reported nothing yet; None when there are none

Of a model only `posterior` is asked and, while trials are pending and there is no acquisition function of the user's,
`condition_on_observations`. What a hook does wrong must not end a search that has run for days: the search goes on
with a space-filling point, and says so once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from botorch.acquisition import AcquisitionFunction
    from botorch.models.model import Model
    from torch import Tensor

    SurrogateHook: TypeAlias = Callable[[Tensor, Tensor, Tensor], Model]
    AcquisitionHook: TypeAlias = Callable[[Model, float, Tensor | None], AcquisitionFunction]

logger = logging.getLogger(__name__)

_NAMES = ("surrogate", "acquisition")


class HookError(RuntimeError):
    """A hook of the user raised, or answered with something that cannot be used."""


@dataclass(frozen=True)
class Hooks:
    """Both are optional. Raises TypeError for what cannot be called."""

    surrogate: SurrogateHook | None = None
    acquisition: AcquisitionHook | None = None
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    def __post_init__(self) -> None:
        expected = {"surrogate": "train_X, train_Y, train_Yvar", "acquisition": "model, best_f, X_pending"}
        for name, arguments in expected.items():
            hook = getattr(self, name)
            if hook is not None and not callable(hook):
                raise TypeError(f"{name} is {hook!r}; expected a function of ({arguments})")

    def names(self) -> dict[str, str]:
        """Where each hook that is set is defined, for the saved state."""
        return {name: _name_of(hook) for name in _NAMES if (hook := getattr(self, name)) is not None}

    def compare(self, saved: Any) -> None:
        """Says which hooks of a saved search (`names()` of then) are not those of now. Nothing of it is trusted."""
        saved, now = saved if isinstance(saved, Mapping) else {}, self.names()
        for name in _NAMES:
            if saved.get(name) != now.get(name):
                before, after = (repr(names.get(name, "the one of jobs-ray")) for names in (saved, now))
                logger.warning(
                    "the saved search had the %s %.200s, it goes on with %s; pass the same %s=... to go on as before",
                    name, before, after, name,
                )  # fmt: skip

    def complain(self, error: HookError) -> None:
        """Once for each message."""
        if str(error) not in self._said:
            self._said.add(str(error))
            logger.warning("%s: the search goes on with space-filling points where this happens", error)


@contextmanager
def guarded(hook: Any, what: str) -> Iterator[None]:
    """Turns whatever is raised inside into a HookError, if `hook` is the user's; our own errors stay what they are."""
    try:
        yield
    except Exception as error:
        if hook is None or isinstance(error, HookError):
            raise
        text = " ".join(str(error).split())[:300]
        raise HookError(f"{what} {_name_of(hook)} failed with {type(error).__name__}: {text}") from error


def _name_of(hook: Any) -> str:
    module, name = getattr(hook, "__module__", None), getattr(hook, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(type(hook))
