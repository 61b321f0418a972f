"""Which configuration is next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from core_runs import SPACE as RAW

from jobs_ray.models.fitting import FittedModels, ModelCache
from jobs_ray.models.hooks import Hooks
from jobs_ray.models.predictor import ScalingLawPredictor
from jobs_ray.models.scale import Scale
from jobs_ray.search.generator import CandidateGenerator
from jobs_ray.space import SearchSpace
from jobs_ray.trials import Phase

SPACE = SearchSpace(RAW)
NO_POINTS = np.empty((0, SPACE.dim))
CASES = [(0, None), (15, None), (16, None), (17, 4.0), (18, None), (19, 4.0)]


def _generator(phases: list[Phase], hooks: Hooks) -> CandidateGenerator:
    table = cast(Any, {str(i): SimpleNamespace(phase=phase) for i, phase in enumerate(phases)})
    return CandidateGenerator(
        SPACE,
        ScalingLawPredictor(),
        hooks,
        NO_POINTS,
        None,
        0,
        8.0,
        table,
        len(phases),
        ModelCache(),
        False,
    )


@pytest.mark.parametrize(("searched", "incumbent"), CASES)
def test_late_in_a_search_every_other_suggestion_has_a_raised_incumbent(searched: int, incumbent: float | None) -> None:
    models = FittedModels(Scale(False), {}, SPACE.features, best=1.0, spread=6.0)
    phases = [Phase.LEARN] * 5 + [Phase.SEARCH] * searched + [Phase.CONFIRM] * 3
    assert _generator(phases, Hooks())._incumbent(models) == incumbent
    own = _generator(phases, Hooks(acquisition=lambda model, best_f, pending: None))  # type: ignore[arg-type, return-value]
    assert own._incumbent(models) is None, "a user's acquisition function gets the best as it is"
