"""An experiment as plain data: one `Row` a trial, one `Report` for all. Everything that is shown is made from these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs_ray.models.prediction import CrossValidation
from jobs_ray.report.predictions import Predicted
from jobs_ray.report.ray_folder import lived_s
from jobs_ray.space import SearchSpace
from jobs_ray.trials import Phase, TrialStatus

if TYPE_CHECKING:
    from jobs_ray.search.optimizer import Recommendation

OURS = "JoBSSearcher"


@dataclass(frozen=True)
class Row:
    """One trial. `curve`: (t, value) pairs in the user's sign; `charged`: in the report's `unit`.

    `full`: it was to train to the end, and nothing is known to have cut it short.
    `phase`: None in an experiment of another searcher. `x`: its point of `Report.space`.
    `predicted`: of a full run from its first `short_t` steps, of any other trial from all it reported.
    `superseded`: a later trial went on with this configuration. `reason`: why it failed, if known.
    `started`, `ended`: seconds since 1970 of its start and its last report, if Ray's own state tells.
    """

    trial_id: str
    config: Mapping[str, Any]
    phase: Phase | None
    status: TrialStatus
    full: bool
    last_t: float
    curve: tuple[tuple[float, float], ...]
    failed_at: tuple[float, ...]
    final: float | None
    predicted: Predicted | None
    charged: float
    promotes: str | None
    resumed: bool
    superseded: bool
    observed: bool
    reason: str | None = None
    x: tuple[float, ...] = ()
    started: float | None = None
    ended: float | None = None

    @property
    def group(self) -> str:
        """What it is shown with: its phase, or in an experiment without phases how it ended."""
        if self.phase is not None:
            return self.phase.value
        return "trained to the end" if self.full else "ended earlier"

    @property
    def estimate(self) -> float | None:
        """The best that is known of its final value: confirmed, else predicted, else None."""
        if self.final is not None:
            return self.final
        return None if self.predicted is None else self.predicted.mean


@dataclass(frozen=True)
class Report:
    """An experiment. Times in units of `time_attr`, costs in `unit`, values in the user's sign.

    `quality`, `left_out`: the predictor's accuracy, as in `predictions.Predictions`.
    `mixtures`: paths of the mixture parameters; `searched`: of everything that the search varied.
    `searcher`: what chose the configurations; a folder of another one than `OURS` has no plan and no recommendation.
    `default`: ids of the trials of the first of `points_to_evaluate`. `space`: what `Row.x` is a point of.
    `mode_is_told`: else it was guessed from the metric's name. `stops`: the search itself ends trials early.
    `wall_s`: seconds from the first trial's start to the last report in which a driver lived, if Ray's state tells.
    `pauses`: (start, end) of each time in which no driver lived, apart from each other, in seconds since 1970.
    `repeats`: trials of Ray's for each configuration, behind a Repeater. Budget and costs are of one of them
    in `ours`; of others each is a row of its own.
    """

    folder: str
    metric: str
    mode: str
    time_attr: str
    plan: Mapping[str, Any] | None
    budget: Mapping[str, Any]
    num_samples: int | None
    trials: tuple[Row, ...]
    quality: CrossValidation | None
    left_out: CrossValidation | None
    recommendation: Recommendation | None
    mixtures: tuple[str, ...]
    searched: frozenset[str]
    searcher: str = OURS
    default: tuple[str, ...] = ()
    space: SearchSpace | None = None
    mode_is_told: bool = True
    stops: bool = True
    wall_s: float | None = None
    pauses: tuple[tuple[float, float], ...] = ()
    repeats: int = 1

    @property
    def direction(self) -> str:
        """Of the metric, in words."""
        guessed = "" if self.mode_is_told else " (guessed from the name; --mode says it)"
        return ("minimised" if self.mode == "min" else "maximised") + guessed

    @property
    def unit(self) -> str:
        """Of the budget and of every cost: full runs, or the result key that holds the cost."""
        return str(self.budget.get("unit", "full runs"))

    @property
    def ours(self) -> bool:
        return self.searcher == OURS

    def unit_of(self, amount: float) -> str:
        """`unit` after this number."""
        return "full run" if amount == 1 and self.unit == "full runs" else self.unit

    @property
    def sign(self) -> float:
        return 1.0 if self.mode == "max" else -1.0

    @property
    def longest(self) -> str:
        """In an experiment of another searcher: what every cost is in."""
        return "the longest trial" + (" that did not diverge" if any(row.charged > 1 for row in self.trials) else "")

    def lived_s(self, start: float, end: float) -> float:
        """Seconds between the two, without those in which no driver lived."""
        return lived_s(start, end, self.pauses)

    def share_of(self, path: str) -> tuple[str, str] | None:
        """(mixture, domain) of a path in a configuration that is a mixture's weight, else None."""
        head = next((name for name in self.mixtures if path.startswith(f"{name}/")), None)
        return None if head is None else (head, path[len(head) + 1 :])

    def best_first(self) -> list[Row]:
        """Every configuration once: the confirmed and predicted ones by their estimate, best first."""
        rows = [row for row in self.trials if not row.superseded and row.estimate is not None]
        return sorted(rows, key=lambda row: -self.sign * (row.estimate or 0.0))


def leaves(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """`(path, value)` of everything in a nested configuration; paths join keys by "/"."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from leaves(value, f"{path}/{key}" if path else str(key))
    else:
        yield path, config


def varied(parameters: Mapping[str, Any], configs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Paths of what the search varied: its parameters, and (parts of chosen options) whatever differs.

    Everything, where no parameters are known and nothing differs.
    """
    seen: dict[str, set[str]] = {}
    for config in configs:
        for path, value in leaves(config):
            seen.setdefault(path, set()).add(repr(value))
    unknown = not parameters and all(len(values) == 1 for values in seen.values())

    def is_of(path: str, parameter: str) -> bool:  # or the other way round: a list is one leaf
        return f"{path}/".startswith(f"{parameter}/") or parameter.startswith(f"{path}/")

    return frozenset(
        path for path, values in seen.items() if unknown or len(values) > 1 or any(is_of(path, p) for p in parameters)
    )
