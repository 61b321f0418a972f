"""A chain of proposals: the first as without it, the others good, new, affordable, and no whole computation each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from botorch.acquisition import LogExpectedImprovement
from core_runs import SPACE, make, search, train

from jobs_ray.models import fitting
from jobs_ray.models.fitting import FittedModels
from jobs_ray.models.hooks import Hooks
from jobs_ray.models.scale import Scale
from jobs_ray.models.surrogate import fit_surrogate
from jobs_ray.search import generator
from jobs_ray.search.acquisition import acquisition, maximise
from jobs_ray.search.lookahead import Lookahead
from jobs_ray.search.optimizer import JoBSOptimizer, Phase, Suggestion
from jobs_ray.space import Real, SearchSpace


def searching(**kwargs: Any) -> JoBSOptimizer:
    """In SEARCH, with no trial in flight."""
    optimizer = make(**({"budget": 12.0, "resume": True} | kwargs))
    search(optimizer, most=30)
    assert isinstance(answer := optimizer.propose(), Suggestion)
    assert answer.phase is not Phase.LEARN
    return optimizer


def chain(optimizer: JoBSOptimizer, length: int) -> list[Suggestion]:
    """Suggestions of a chain that starts now; `optimizer` stays as it is."""
    fork, ahead, found = optimizer.fork(), Lookahead(), list[Suggestion]()
    while len(found) < length and isinstance(answer := fork.propose(ahead=ahead), Suggestion):
        fork.accept(f"ahead {len(found)}", answer)
        found.append(answer)
    return found


def count_calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the models were fitted and an acquisition function was maximised."""
    calls = {"fit_models": 0, "maximise": 0}
    for name, function in (("fit_models", fitting.fit_models), ("maximise", maximise)):

        def counted(*args: Any, _name: str = name, _function: Any = function, **kwargs: Any) -> Any:
            calls[_name] += 1
            return _function(*args, **kwargs)

        monkeypatch.setattr(generator, name, counted)
    return calls


def modelled(n: int) -> tuple[SearchSpace, FittedModels, Any]:
    """A space, a surrogate of `n` points of it, and the points, the best first."""
    space = SearchSpace(SPACE)
    X = space.sample(n, np.random.default_rng(0))
    z = -((space.features(X) - 0.3) ** 2).sum(axis=1)
    surrogate = fit_surrogate(space.features(X), z, np.zeros(n))
    return space, FittedModels(Scale(False), {}, space.features, surrogate, float(z.max())), X[np.argsort(-z)]


def test_the_first_is_what_would_be_proposed_without_it_and_nothing_changes() -> None:
    optimizer = searching()
    state, alone = optimizer.state_dict(), optimizer.propose()
    found = chain(optimizer, 8)
    assert found[0] == alone
    assert optimizer.state_dict() == state
    assert optimizer.propose() == alone
    assert len(found) == 8


def test_a_chain_takes_one_fit_and_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = searching()
    calls = count_calls(monkeypatch)
    found = chain(optimizer, 12)
    assert calls == {"fit_models": 1, "maximise": 1}
    assert len(found) == 12
    assert all(s.promotes is None for s in found), "the next promotion waits for short runs to end"


def test_no_two_are_alike_and_no_short_run_is_promoted_twice() -> None:
    optimizer = searching()
    found = chain(optimizer, 12)
    new = [repr(s.config) for s in found if s.promotes is None]
    promoted = [s.promotes for s in found if s.promotes is not None]
    assert len(set(new)) == len(new)
    assert len(set(promoted)) == len(promoted)
    asked = {repr(t.config) for t in optimizer.trials.values()}
    assert not asked & set(new)


def test_each_is_the_best_of_the_list_as_if_those_before_had_come_out_as_expected() -> None:
    """Against the naive way: the Gaussian process conditioned anew, the acquisition function on the whole list."""
    space, models, X = modelled(24)
    surrogate = models.surrogate
    assert surrogate is not None
    ahead, noted = Lookahead(models), list[Any]()

    def note(points: Any, score: Any) -> None:
        noted.extend(points[np.argsort(-score, kind="stable")[:64]])
        ahead.note(points, score)

    x = maximise(space, acquisition(models, Hooks()), X[:8], X, np.random.default_rng(1), note)
    ahead.fill(x)
    points, chosen = np.unique(np.array(noted), axis=0), [x]
    for _ in range(10):
        believed = surrogate.with_pending(space.features(np.array(chosen)))
        best = max(models.best, float(models.posterior(np.array(chosen))[0].max()))
        naive = acquisition(FittedModels(Scale(False), {}, space.features, believed, best), Hooks())(points)
        taken = ahead.take(lambda X: np.ones(len(X), dtype=bool))
        assert taken is not None
        new = ~(points[:, None] == np.array(chosen)).all(axis=2).any(axis=1)
        at = int(np.flatnonzero((points == taken).all(axis=1))[0])
        assert new[at]
        assert naive[at] >= naive[new].max() - 1e-6
        chosen.append(taken)
    assert len(np.unique(np.array(chosen), axis=0)) == 11


def test_it_is_nearly_as_good_as_a_whole_computation_would_find() -> None:
    """In expected improvement, as if those before had come out as expected."""
    short = []
    for seed in range(4):
        optimizer = searching(seed=seed)
        fork, ahead, follower = optimizer.fork(), Lookahead(), optimizer.fork()
        for i in range(6):
            answer, whole = fork.propose(ahead=ahead), follower.propose()
            assert isinstance(answer, Suggestion)
            if i and answer.promotes is None and isinstance(whole, Suggestion) and whole.promotes is None:
                points = np.array([follower.space.encode(s.config) for s in (answer, whole)])
                values = acquisition(fit(follower), Hooks())(points)
                short.append(values[1] - values[0])
            fork.accept(f"a{i}", answer)
            follower.accept(f"a{i}", answer)
    assert len(short) >= 8
    assert np.median(short) < 0.5  # of log EI; a random point is several below


def fit(optimizer: JoBSOptimizer) -> FittedModels:
    cache = optimizer._cache
    trials = cache.recall(optimizer._trials)
    policy = optimizer._policy
    return fitting.fit_models(optimizer.space, trials, policy.predictor, optimizer.max_t, cache, policy.hooks)


def test_with_a_model_of_the_users_each_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def improvement(model: Any, best_f: float, X_pending: Any) -> Any:
        return LogExpectedImprovement(model, best_f=best_f)

    optimizer = searching(acquisition=improvement)
    calls = count_calls(monkeypatch)
    found = [s for s in chain(optimizer, 6) if s.promotes is None]
    assert calls["maximise"] == len(found) >= 3


def test_fixed_candidates_are_taken_once_each() -> None:
    candidates = [{"x": i / 40} for i in range(41)]
    optimizer = JoBSOptimizer({"x": Real(0.0, 1.0)}, mode="min", max_t=10, budget=8, seed=0, candidates=candidates)

    def curve(config: Mapping[str, Any], t: float) -> float:
        return (config["x"] - 0.6) ** 2 + 1.0 / t

    for i in range(14):
        answer = optimizer.ask(str(i))
        assert isinstance(answer, Suggestion)
        train(optimizer, str(i), answer.config, curve, end=10.0)
    new = [s.config["x"] for s in chain(optimizer, 12) if s.promotes is None]
    assert len(set(new)) == len(new) >= 5
    assert all({"x": x} in candidates for x in new)


def test_where_nothing_is_within_the_price_there_is_nothing() -> None:
    space, models, X = modelled(12)
    ahead = Lookahead(models)
    x = maximise(space, acquisition(models, Hooks()), X, X, np.random.default_rng(1), ahead.note)
    ahead.fill(x)
    assert ahead.take(lambda X: np.zeros(len(X), dtype=bool)) is None
    cheap = ahead.take(lambda X: X[:, 0] < 0.3)
    assert cheap is not None
    assert cheap[0] < 0.3
