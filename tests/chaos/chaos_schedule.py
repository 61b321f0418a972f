"""What befalls an experiment, drawn from a seed: its settings, and one leg after the other, each a driver process."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

INTERRUPTIONS = ("kill driver", "kill driver", "kill driver", "kill in save", "SIGINT", "SIGTERM", "callback raises")
"""What ends a leg before the experiment is over; the next one restores it."""
NUISANCES = ("none", "none", "kill worker", "disk full")
"""What a leg must live through."""
BETWEEN = ("nothing", "nothing", "nothing", "move", "cut state", "no state", "torn")
"""What happens to the folder between two legs."""
RESTORES: tuple[dict[str, bool], ...] = (
    *({}, {}, {}),
    *({"resume_errored": True}, {"restart_errored": True}, {"resume_errored": True, "resume_unfinished": False}),
    {"resume_unfinished": False},
)
HANGS_S = 20.0
"""`trial_timeout_s` where trials hang: more than a start takes on a busy machine."""
TROUBLES = ("crash", "crash once", "die once", "nan", "back once", "hang")
SAVE_STAGES = ("half written", "before the rename", "after the rename")


@dataclass(frozen=True)
class Leg:
    """One life of the driver. `after`: steps trained in it before the interruption (the last leg has none)."""

    interruption: str | None
    after: int
    nuisance: str
    restore: dict[str, bool]
    before: str = "nothing"
    stage: str = ""


@dataclass(frozen=True)
class Schedule:
    """An experiment and its legs."""

    seed: int
    concurrent: int
    budget: float
    max_failures: int
    time_attr: str
    resume: bool
    scheduled: bool
    save_every_s: float
    troubled: float
    troubles: tuple[str, ...]
    legs: tuple[Leg, ...]
    trouble_after: int = 1  # steps that a trial trains before its trouble comes
    timeout_s: float | None = None

    def __str__(self) -> str:
        legs = " | ".join(
            ", ".join(
                filter(
                    None,
                    [
                        leg.before if leg.before != "nothing" else "",
                        "+".join(k for k in leg.restore)
                        + ("" if leg.restore.get("resume_unfinished", True) else "=False"),
                        leg.nuisance if leg.nuisance != "none" else "",
                        f"{leg.interruption} after {leg.after} {leg.stage}".strip()
                        if leg.interruption
                        else "to the end",
                    ],
                )
            )
            for leg in self.legs
        )
        return (
            f"seed {self.seed}: {self.concurrent} at once, max_failures={self.max_failures}, time {self.time_attr}, "
            f"resume_key={self.resume}, scheduler={self.scheduled}, saved every {self.save_every_s:g} s, "
            f"{self.troubled:.0%} troubled {self.troubles} after {self.trouble_after}; {legs}"
        )


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    chance = random.Random(seed)
    interruptions = [chance.choice(INTERRUPTIONS) for _ in range(chance.choice([1, 1, 2, 2, 3]))]
    legs = [
        Leg(
            interruption,
            after=chance.randint(2, 14),
            nuisance=chance.choice(NUISANCES),
            restore=chance.choice(RESTORES) if number else {},
            before=chance.choice(BETWEEN) if number else "nothing",
            stage=chance.choice(SAVE_STAGES) if interruption == "kill in save" else "",
        )
        for number, interruption in enumerate([*interruptions, None])
    ]
    kinds = TROUBLES[:-1]
    time_attr = chance.choice(["training_iteration", "step"])
    drawn = Schedule(
        seed=seed,
        concurrent=chance.choice([1, 2, 2, 3]),
        budget=chance.choice([3.0, 4.0]),
        max_failures=chance.choice([0, 0, 1, 2]),
        time_attr=time_attr,
        resume=time_attr == "step" and chance.random() < 0.5,
        scheduled=chance.random() < 0.9,
        save_every_s=chance.choice([0.2, 0.2, 1.0, 10.0]),
        troubled=chance.choice([0.0, 0.2, 0.4]),
        troubles=tuple(chance.sample(kinds, 2)),
        legs=tuple(legs),
    )
    # what came later is drawn last: the other draws of a seed stay as they were
    drawn = replace(drawn, trouble_after=chance.choice([1, 1, 3, 5]))
    # without the scheduler nothing ends a trial that hangs
    if drawn.scheduled and drawn.troubled and chance.random() < 0.25:
        drawn = replace(drawn, troubles=(drawn.troubles[0], "hang"), timeout_s=HANGS_S)
    return drawn
