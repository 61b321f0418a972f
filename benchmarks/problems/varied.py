"""One number at a time: a joint problem of 5 domains, LoRA's six model dimensions, 25 reports and little noise, in
which one of these differs. For `compare --families`: where does the search degrade, and is there a cliff?

    domains=K   of the mixture                  reports=T   a full run
    dims=K      model dimensions, no mixture    noise=S     sd of a report in spreads of the finals

Budget and trials in flight vary by `compare --budgets` and `--parallel`, on `domains=5`. With other reports or
noise the functions are those of `domains=5`; other numbers of domains or dimensions are other functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.problems.families import joint, numbered
from benchmarks.problems.layout import Layout
from benchmarks.problems.shapes import SPREAD, Drawn, losses
from benchmarks.problems.terms import Rng, bowls, standard


def dims(rng: Rng, instance: int, dimensions: int) -> Drawn:
    """Bowls over `dimensions`, of which a fifth or so matter, two at least."""
    layout = Layout(0, numbered(dimensions))
    return losses(layout, rng, standard(bowls(layout, rng, decay=max(dimensions / 5, 2.0)), layout))


VARIED: dict[str, Callable[[Rng, int], Drawn]] = {
    **{f"domains={k}": partial(joint, domains=k) for k in (2, 3, 5, 12, 30)},
    **{f"dims={k}": partial(dims, dimensions=k) for k in (2, 5, 10, 20, 40, 80)},
    **{f"reports={t}": partial(joint, domains=5, max_t=t) for t in (3, 5, 10, 60, 200)},
    **{f"noise={s}": partial(joint, domains=5, noise=SPREAD * s) for s in (0.0, 0.1, 0.25, 0.5)},
}


def seeded_as(family: str) -> str:
    """The family whose draws it shares: only what its name says differs."""
    return "domains=5" if family.startswith(("reports=", "noise=")) else family
