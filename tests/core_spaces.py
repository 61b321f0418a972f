"""Random search spaces (hypothesis strategies) that the tests of the core share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jobs_ray.space import Categorical, Integer, Mixture, Real


@st.composite
def mixtures(draw: st.DrawFn, when: Mapping[str, Any] | None = None) -> Mixture:
    """A mixture with random bounds around one valid point, so that the bounds always hold something."""
    k = draw(st.integers(1, 5))
    raw = np.array(draw(st.lists(st.integers(0, 20), min_size=k, max_size=k)), dtype=float) + 0.5
    inside = raw / raw.sum()
    down = np.array(draw(st.lists(st.sampled_from([0.0, 0.5, 0.9, 1.0]), min_size=k, max_size=k)))
    up = np.array(draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=k, max_size=k)))
    names = [f"d{i}" for i in range(k)]
    low, high = inside * down, inside + (1.0 - inside) * up
    if draw(st.booleans()):
        return Mixture(names, concentration=draw(st.sampled_from([0.05, 0.5, 1.0, 4.0])), when=when)
    return Mixture(
        names,
        min=dict(zip(names, low.tolist(), strict=True)),
        max=dict(zip(names, np.minimum(high, 1.0).tolist(), strict=True)),
        when=when,
    )


@st.composite
def numbers(draw: st.DrawFn, when: Mapping[str, Any] | None = None) -> Real | Integer:
    log = draw(st.booleans())
    lower = draw(st.sampled_from([1, 2, 16] if log else [-5, 0, 1, 16]))
    upper = lower + draw(st.sampled_from([1, 3, 100]))
    if draw(st.booleans()):
        return Integer(lower, upper, log=log, when=when)
    scale = draw(st.sampled_from([1e-6, 0.3, 1.0, 1e6]))
    return Real(lower * scale, upper * scale, log=log, when=when)


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Nested, with a constant, conditional parameters (two deep) and bounded mixtures."""
    space: dict[str, Any] = {"fixed": {"epochs": 1, "tag": "x"}}
    if draw(st.booleans()):
        space["method"] = Categorical(["full", "lora", "ia3"])
        space["lora"] = {"r": draw(numbers(when={"method": "lora"}))}
        if draw(st.booleans()):
            space["lora"]["kind"] = Categorical([True, 1, None], when={"method": ("lora", "ia3")})
            space["lora"]["deep"] = draw(st.one_of(numbers({"lora/kind": 1}), mixtures({"lora/kind": 1})))
    if draw(st.booleans()):
        space["data"] = draw(mixtures())
    if draw(st.booleans()) or len(space) == 1:
        space["x"] = draw(numbers())
    return space
