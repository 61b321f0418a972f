"""Whatever became of the checkpoints of short runs: promotions do not overspend, and what is left is too little."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from core_runs import MAX_T, loss, make, search, train
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from jobs_ray.models.prediction import LastValuePredictor
from jobs_ray.search.budget import promotion_cost
from jobs_ray.search.optimizer import FINISHED, Decision, JoBSOptimizer, Suggestion
from jobs_ray.trials import TrialStatus


def step(optimizer: JoBSOptimizer, name: str) -> bool:
    """One report of a running trial; False: it has ended."""
    trial = optimizer.trials[name]
    t = max(trial.curve.last_t, trial.start) + 1.0
    if optimizer.report(name, t, loss(trial.config, t)) is Decision.STOP:
        optimizer.tell(name)
        return False
    return True


@examples(25)
@given(
    options=st.fixed_dictionaries(
        {
            "budget": st.sampled_from([1.5, 3.0, 4.7]),
            "short_t": st.sampled_from(["auto", 2.0, 5.0]),
            "num_confirm": st.sampled_from(["auto", 3]),
            "extend": st.booleans(),
            "seed": st.integers(0, 9),
        }
    ),
    shares=st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 1.0]), min_size=1, max_size=12),
    workers=st.integers(1, 3),
)
def test_the_ledger_never_exceeds_the_budget(options: dict[str, Any], shares: list[float], workers: int) -> None:
    """`shares`: at what part of its short run the checkpoint of each that is to be promoted stands."""
    optimizer = make(resume=True, predictor=LastValuePredictor(), **options)
    names, left = (f"t{i}" for i in itertools.count()), itertools.cycle(shares)
    running: list[str] = []
    known: dict[str, float] = {}
    while True:
        answer = optimizer.propose() if len(running) < workers else None
        if isinstance(answer, Suggestion):
            source = answer.resume_from
            if source is not None:
                known.setdefault(source, next(left) * optimizer.trials[source].curve.last_t)
                if not optimizer.note_checkpoint(source, known[source]):
                    continue
            running.append(next(names))
            optimizer.accept(running[-1], answer)
            assert source is None or optimizer.trials[running[-1]].start == known[source]
        elif not running:
            break
        else:
            running = [name for name in running if step(optimizer, name)]
        money = optimizer.budget
        assert money.spent <= money.committed + 1e-9
        assert money.committed <= options["budget"] + 1e-9
    assert optimizer.budget.spent == optimizer.budget.committed
    # what is left pays for no promotion any more, unless the plan wants none
    resumable = [t for t in optimizer.trials.values() if t.status is TrialStatus.STOPPED]
    promoted = {t.promotes for t in optimizer.trials.values()}
    if options["num_confirm"] == "auto":
        for trial in resumable:
            assert trial.trial_id in promoted or not optimizer.budget.affords(1.0 - trial.resume_t / MAX_T)


def test_what_stands_at_the_end_without_a_final_is_trained_anew() -> None:
    """An observation as long as a full run, and not complete: to resume it would train nothing, for nothing, even when
    the budget is spent."""
    optimizer = make(budget=1.0, resume=True)
    config = optimizer.space.decode(optimizer.space.sample(1, np.random.default_rng(0))[0])
    optimizer.add_observation(config, [(t, loss(config, t)) for t in (6.0, MAX_T)], complete=False)
    optimizer.ask("a", full=True)
    train(optimizer, "a", optimizer.trials["a"].config)
    assert optimizer.ask("b") is FINISHED
    optimizer = make(budget=2.0, resume=True)
    name = optimizer.add_observation(config, [(t, loss(config, t)) for t in (6.0, MAX_T)], complete=False)
    promotions = [s for s in search(optimizer) if s.promotes == name]
    assert all(s.resume_from is None for s in promotions)
    costs = optimizer.costs
    assert costs is not None
    assert promotion_cost(optimizer.trials[name], True, costs) == 1.0
