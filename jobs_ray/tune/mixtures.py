"""`mixture(...)`: weights over named training domains as a Ray Tune search-space domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.tune.search.sample import Domain, Sampler, Uniform, _BackwardsCompatibleNumpyRng

from jobs_ray.space import Mixture, SearchSpace, SpaceError


class _Dirichlet(Uniform):  # type: ignore[misc]  # ray.tune is not typed
    """Draws bounded Dirichlet weights; a `Uniform`, since concentration 1 is uniform on the simplex."""

    def sample(
        self, domain: MixtureDomain, config: Any = None, size: int = 1, random_state: Any = None
    ) -> dict[str, float] | list[dict[str, float]]:
        # Ray passes None, a seed, a legacy RandomState or a Generator: one integer from it seeds ours
        if not isinstance(random_state, _BackwardsCompatibleNumpyRng):
            random_state = _BackwardsCompatibleNumpyRng(random_state)
        rng = np.random.default_rng(int(random_state.integers(0, 2**31 - 1)))
        space = SearchSpace({"mixture": domain.parameter})
        items = [space.decode(x)["mixture"] for x in space.sample(size, rng)]
        return items if size > 1 else items[0]

    def __str__(self) -> str:
        return "Dirichlet"


class MixtureDomain(Domain):  # type: ignore[misc]  # ray.tune is not typed
    """Weights `{name: weight}` on the (bounded) simplex; samples as any Ray domain does."""

    default_sampler_cls: type[Sampler] = _Dirichlet

    def __init__(self, parameter: Mixture) -> None:
        try:
            parameter.check()
        except SpaceError as error:
            raise SpaceError(f"mixture {list(parameter.names)!r} {error}") from None
        self.parameter = parameter

    def is_valid(self, value: Any) -> bool:
        """True for a mapping with exactly the names, weights within the bounds, sum 1 (to 1e-6)."""
        try:
            self.parameter.encode(value)
        except SpaceError:
            return False
        return True

    @property
    def domain_str(self) -> str:
        bounds = "".join(
            f", {name}={bound!r}"
            for name, bound in (("min", self.parameter.min), ("max", self.parameter.max))
            if bound is not None
        )
        return f"mixture({', '.join(self.parameter.names)}{bounds})"

    def __repr__(self) -> str:
        return str(self.domain_str)


def mixture(
    *names: str,
    min: float | Mapping[str, float] | None = None,
    max: float | Mapping[str, float] | None = None,
    concentration: float = 1.0,
) -> MixtureDomain:
    """A data mixture for `param_space`: `mixture("code", "prose")` -> `{"code": 0.3, "prose": 0.7}`.

    `min`/`max` bound every weight (a number) or some (`{"code": 0.1}`); random weights are Dirichlet of the
    given `concentration`. Raises SpaceError when no weights satisfy the bounds.
    """
    if len(names) == 1 and isinstance(names[0], list | tuple):
        raise SpaceError(f"mixture({names[0]!r}) got one list; give the names one by one: mixture(*names)")
    if len(names) == 1:
        raise SpaceError(f"mixture({names[0]!r}) has one domain, whose weight is always 1; name at least two")
    return MixtureDomain(Mixture(names, min=min, max=max, concentration=concentration))
