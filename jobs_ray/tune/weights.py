"""A mixture's weights in a trial's configuration: a dict that Tune's table can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WIDTH = 20  # characters of a cell of Tune's table (ray/tune/experimental/output.py, `_max_len`)


class Weights(dict[str, float]):
    """`{name: weight}` whose `str()` is short: Tune shows the end of a longer text, and of a dict only that.

    A plain dict again once it is pickled: a trainable's process need not have this package.
    """

    def __str__(self) -> str:
        return readable(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __copy__(self) -> Weights:
        return Weights(self)

    def __deepcopy__(self, memo: Any) -> Weights:  # Ray copies a configuration before its trial holds it
        return Weights(self)


def plain(config: Any) -> Any:
    """The configuration with ordinary dicts, for who asks for it in Python: `str()` of those tells everything."""
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items()}
    return [plain(item) for item in config] if type(config) is list else config


def readable(weights: Mapping[str, float], width: int = _WIDTH) -> str:
    """`prose .50 code .20`, the largest first and none below .005; names are shortened, then the smallest left out."""
    shown = sorted(((w, name) for name, w in weights.items() if w >= 0.005), key=lambda item: -item[0])
    longest = max((len(name) for _, name in shown), default=0)
    names = [name for _, name in shown]
    least = next((n for n in range(1, longest) if len({name[:n] for name in names}) == len(names)), max(longest, 1))
    for size in range(longest, least - 1, -1):
        text = " ".join(f"{name[:size]} {_short(w)}" for w, name in shown)
        if len(text) <= width:
            return text
    parts = [f"{name[:least]} {_short(w)}" for w, name in shown]
    for kept in range(len(parts) - 1, 0, -1):
        text = f"{' '.join(parts[:kept])} +{len(parts) - kept}"
        if len(text) <= width:
            return text
    return " ".join(parts)[:width]


def _short(weight: float) -> str:
    return f"{weight:.2f}".removeprefix("0")
