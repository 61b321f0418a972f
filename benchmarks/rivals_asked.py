"""What rivals have in common whose library is asked for a configuration and a length, and told its value.

A configuration that the library asks for again, longer, goes on from where it stopped and is charged the rest only, as
everywhere here. What it asks for again at a length it had is answered from memory.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.box import Box
from benchmarks.rivals import Rival, Run, sound
from benchmarks.simulate import Problem


@dataclass(frozen=True)
class Wish:
    """What a library asks for: `handle` is its own object, `values` of every dimension of the box, `goal` a t."""

    handle: Any
    values: Mapping[str, Any]
    goal: int


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Libraries warn and log a lot; their errors still come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Asked(Rival):
    """A subclass writes `wish` and `told`; both in a library's terms, costs minimised."""

    def __init__(self, problem: Problem, budget: float, seed: int) -> None:
        super().__init__(problem, budget, seed)
        if problem.candidates is not None:
            raise ValueError(f"{type(self).__name__}: a library cannot be asked for rows of a table")
        self.box = Box(problem.coding.space())
        self.seed = seed % 2**31
        self.total = budget
        self.open: dict[str, Wish] = {}
        self.held: Wish | None = None
        self.past: dict[tuple[Any, ...], Run] = {}

    def wish(self) -> Wish | None:
        """The library's next; None: it waits for what is in flight."""
        raise NotImplementedError

    def told(self, wish: Wish, cost: float) -> None:
        """The cost (minimised, finite) at wish.goal."""
        raise NotImplementedError

    def ask(self, trial_id: str) -> Any:
        for _ in range(100):  # a library may ask for what is known many times, not for ever
            with quiet():
                wish = self.held or self.wish()
            self.held = None
            if wish is None:
                return self.wait_or_finish()
            earlier = self.past.get(self.key(wish))
            if earlier is not None and (not sound(earlier) or max(earlier.values) >= wish.goal):
                with quiet():
                    self.told(wish, self.cost(earlier, wish.goal))
                continue
            if wish.goal - (max(earlier.values) if earlier else 0) > self.left:
                self.held = wish  # a crash may give some budget back
                return self.wait_or_finish()
            self.open[trial_id] = wish
            config = earlier.config if earlier else self.box.config(wish.values)
            return self.begin(trial_id, config, wish.goal, earlier)
        return self.wait_or_finish()

    def tell(self, trial_id: str, error: bool = False) -> None:
        super().tell(trial_id, error)
        run, wish = self.runs[trial_id], self.open.pop(trial_id)
        self.past[self.key(wish)] = run
        with quiet():
            self.told(wish, self.cost(run, wish.goal))

    def cost(self, run: Run, goal: int) -> float:
        """Minimised value at `goal`; of a crash the worst seen so far."""
        value = run.values.get(goal, run.last)
        if sound(run):
            return -value
        seen = [-v for r in self.runs.values() for v in r.values.values() if v > -float("inf")]
        return max(seen, default=1e3)

    def key(self, wish: Wish) -> tuple[Any, ...]:
        return tuple(wish.values[d.name] for d in self.box.dimensions)
