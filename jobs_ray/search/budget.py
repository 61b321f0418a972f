"""What the budget buys: the ledger, the paper's bound with its minimiser N*, and the split of the budget.

notation   meaning                                                                  unit
C          budget                                                                   full-run equivalents, or costs
T          max_t                                                                    steps
s, p       cost of a short run (short_t / T) and of a promotion                     full-run equivalents
N          full runs that the predictor learns from                                 -
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs_ray.trials import Trial, TrialTable

if TYPE_CHECKING:  # what only plans needs no numpy
    from jobs_ray.models.cost import Costs

TOLERANCE = 1e-9  # budgets are sums of fractions
LEARN_FULL = 1
"""Promotions by last value in LEARN. The predictor needs three full runs, but the next ones come where the surrogate
points: 3 / 1 measure .239 / .212, .123 / .127, .047 / .028 on the emulator at C = 5, 10, 20 and .026 / .019 in the pool
at C = 10 (20 seeds x 3 tasks; standard errors .015, .010, .005, .004). A second one of a typical run, for contrast,
costs .059 +- .029 at C = 10 on the generated problems and is a tie at C = 20."""
_MIN_LEARN = 8  # short runs in LEARN, one a full run of the budget
_MOST_LEARN = 64  # the space-filling sequence is so long; a large budget is for SEARCH, not for a million random runs
_EARLY = 10  # one in so many of SEARCH's short runs may be asked for by LEARN
_UNLIMITED = 20.0  # a search without an end is planned like one of this budget


@dataclass(frozen=True)
class Budget:
    """The ledger, in full runs or in the unit of the costs reported.

    `committed` holds what running trials may still use, so `left` can be given away safely (as far as predicted, where
    costs are reported).
    """

    total: float | None
    spent: float
    committed: float

    @property
    def left(self) -> float:
        return math.inf if self.total is None else max(self.total - self.committed, 0.0)

    def affords(self, cost: float) -> bool:
        return cost <= self.left + TOLERANCE


def ledger(trials: TrialTable, total: float | None, costs: Costs | None) -> Budget:
    """Every step that was trained is charged: failed, restarted and overrun ones too.

    Without `costs` (the length of a full run is not known yet) every trial counts as one full run.
    """
    if costs is None:
        spent = trials.spent(None)
        return Budget(total, spent, spent + sum(t.charged and not t.curve.last_t for t in trials.running()))
    spent = costs.spent(trials)
    return Budget(total, spent, spent + costs.outstanding(trials) + _late(trials, costs))


def unheard(trials: TrialTable) -> int:
    """How many trials run while none has ever reported: 0 as soon as one has, and it is known when trials report."""
    return len(trials.running()) if trials.first_report == 0.0 else 0


def _late(trials: TrialTable, costs: Costs) -> float:
    """What running trials cost beyond their grants that end before trials report: they are stopped at a report."""
    first = trials.first_report
    if not any(kind.running and kind.charged and (kind.grant or first) < first for kind in trials.kinds()):
        return 0.0
    early = (t for t in trials.running() if t.charged and not t.steps and (t.grant or first) < first)
    return sum(costs.of(trial, first - (trial.grant or first)) for trial in early)


def promotion_cost(trial: Trial, resume: bool, costs: Costs) -> float:
    """What a promotion of the short run `trial` costs: the rest of a full run from its checkpoint on, if it resumes."""
    return costs.of(trial, costs.max_t - (trial.resume_before(costs.max_t) if resume else 0.0))


def optimal_num_full(budget: float, short_cost: float, dim: int, *, bo: float = 1.0, predictor: float = 1.0) -> int:
    """N*: minimises the bound on the average regret with N full runs and T = (C - N) / s short ones.

        bo * sqrt(gamma_T / T) + predictor / sqrt(N),   gamma_T = d log(1 + T)

    after arXiv 2602.08351 (BO's information gain with a linear kernel's rate; the constants are unknown, 1 each). It
    is what `jobs-ray plan` prints; the search itself splits adaptively (`allocate`), which measures better.
    """
    if not (budget >= 1 and 0 < short_cost < 1 and dim >= 1):
        raise ValueError(f"expected budget >= 1, 0 < short_cost < 1, dim >= 1, got {budget}, {short_cost}, {dim}")

    def bound(num_full: int) -> float:
        short_runs = (budget - num_full) / short_cost
        search = math.sqrt(dim * math.log1p(short_runs) / short_runs) if short_runs > 0 else math.inf
        return bo * search + predictor / math.sqrt(num_full)

    low, high = 1, max(int(budget), 1)
    while high - low > 2:  # the bound falls, then rises: a third of what is left goes at a time
        third = (high - low) // 3
        if bound(low + third) <= bound(high - third):
            high -= third
        else:
            low += third
    return min(range(low, high + 1), key=bound)


@dataclass(frozen=True)
class Allocation:
    """The plan: `learn_short` random short runs, `learn_full` full ones, then `search_short` and `confirm` in turns.

    The j-th confirmation is due when `search_short * j / confirm` short runs of SEARCH have ended.
    """

    learn_short: int
    learn_full: int
    search_short: int
    confirm: int

    @property
    def trials(self) -> int:
        return self.learn_short + self.learn_full + self.search_short + self.confirm

    @property
    def early(self) -> int:
        """Short runs of SEARCH that LEARN may ask for while slots would wait for its own to end."""
        return self.search_short // _EARLY

    def due(self, search_short: int) -> int:
        """Confirmations due after so many short runs of SEARCH."""
        if self.search_short == 0:
            return self.confirm
        return min(self.confirm, int(search_short * self.confirm / self.search_short + TOLERANCE))


def first_short_t(max_t: float, budget: float | None) -> float:
    """About 1/8 of a full run up to C = 10 and 1/6 above, a whole number of steps and at least one.

    At C = 10 k = 2 / 3 of 25 measure .097 / .085 on the emulator (10 seeds x 3 tasks, +-.011); above as in DESIGN.
    """
    fraction = 1.0 / 8.0 if (_UNLIMITED if budget is None else budget) <= 10.0 else 1.0 / 6.0
    return max(float(math.floor(max_t * fraction + 0.5)), 1.0) if max_t >= 2 else max_t * fraction


def confirm_share(budget: float) -> float:
    """Share of what LEARN leaves that is spent on confirmations: the more runs there are to choose from, the more.

    With little money it is the suggestions that are missing, not the selection: .6 at any budget costs .05 at C = 10.
    """
    return min(0.2 + 0.01 * budget, 0.5)


def allocate(
    budget: float | None,
    num_trials: int | None,
    short_cost: float,
    promotion_cost: float,
    *,
    num_full: int | None = None,
    num_confirm: int | None = None,
) -> Allocation:
    """Split the budget. With `num_full` the paper's two phases: that many random full runs, no short ones, first.

    Without a budget the unit is the trial: `num_trials` of them, full or short, each counting one. With both, what the
    trials do not suffice for is taken from SEARCH first, so that confirmations stay as many as the budget pays for.
    """
    if budget is None and num_trials is not None:
        total, s, p, share = float(num_trials), 1.0, 1.0, 0.25
    else:
        total, s, p = budget or _UNLIMITED, short_cost, promotion_cost
        share = confirm_share(total)
    if num_full is not None:
        learn_short, learn_full = 0, min(num_full, int(total + TOLERANCE))
        left = total - learn_full
    else:
        learn_full = max(1, min(LEARN_FULL, int(total / (2.0 * p) + TOLERANCE)))
        most = max(int((total - learn_full * p) / (2.0 * s) + TOLERANCE), 1)
        wanted = max(_MIN_LEARN, round(total)) if s < 1.0 else max(round(total / 3.0), 1)
        learn_short = min(wanted, _MOST_LEARN, most)
        left = total - learn_full * p - learn_short * s
    if num_confirm is None:
        confirm = max(1, round(share * left / p)) if left >= p - TOLERANCE else 0
    else:
        confirm = min(num_confirm, int(max(left, 0.0) / p + TOLERANCE))
    search_short = max(int((left - confirm * p) / s + TOLERANCE), 0)
    if budget is not None and num_trials is not None:
        # LEARN takes half of the trials, CONFIRM half of the rest, or what the others have no money for
        others = learn_full + search_short + confirm
        learn_short = min(learn_short, max(num_trials // 2, num_trials - others, 1))
        free = max(num_trials - learn_short - learn_full, 0)
        most = max(math.ceil(free / 2), free - search_short) if num_confirm is None else free
        confirm = min(confirm, most)
        search_short = min(search_short, free - confirm)
    return Allocation(learn_short, learn_full, search_short, confirm)
