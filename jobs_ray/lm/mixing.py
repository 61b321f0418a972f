"""The mixture: which row of which domain every position of a run reads.

Notation: D domains with weights w_d, row lengths l_d,i in tokens; N positions (rows) of a run.

`datasets.interleave_datasets(probabilities=w)` draws the domain of each position; over a run of 1,600 rows its
shares are off by 1-3 %, over a short run by 10 %, which is noise in exactly what the search studies. Here the
domains take turns instead (weighted fair queueing): the k-th row a domain gives is due at the virtual time
`(tokens before it + half its own) / w_d`, and rows are read in order of due time. So every *prefix* has the
right shares within about one row a domain, a short run is a prefix of the full one, and the order needs no N.
What the weights are shares of is `unit`. Under uniform weights over MMLU, commonsense_qa, gsm8k and wikitext the
shares of *learned* tokens were .03, .06, .34 and .57 with "tokens": of a question with its options only the answer is
learned. With "loss_tokens" they are what the weights say.
"tokens" stays the default, on the evidence of `benchmarks/loss_tokens.py` (two seeds, 120 steps, uniform weights over
two domains of questions, worked solutions and prose): with "loss_tokens" nearly all rows of a run are questions, whose
answers are a few tokens, and far fewer tokens are learned in the same steps. Held-out losses with "tokens" / with
"loss_tokens": questions 1.31 / 1.23, solutions .47 / 3.23, prose .79 / 4.00, their mean .97 / 2.42; of three
random mixtures a seed the median 1.61 / 3.55. Longer runs were not tried. "loss_tokens" is for a target of questions.
Within a domain rows are shuffled by (seed, domain, epoch); an exhausted domain starts its next epoch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jobs_ray.lm.errors import TaskError
from jobs_ray.lm.packed import PackedRows

UNITS = ("tokens", "loss_tokens", "examples")
IntArray = np.ndarray[Any, np.dtype[np.int64]]


def weights_of(mixture: Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    """Weights over `names` that sum to 1; None means equal. Raises TaskError on unknown names, no or bad weight."""
    if mixture is None:
        return dict.fromkeys(names, 1.0 / len(names))
    unknown = sorted(set(mixture) - set(names))
    if unknown:
        raise TaskError(f"mixture names {unknown} are not domains of the task; its domains: {names}")
    weights = {name: float(mixture.get(name, 0.0)) for name in names}
    total = sum(weights.values())
    if not np.isfinite(total) or min(weights.values()) < 0.0 or abs(total - 1.0) > 1e-3:
        raise TaskError(f"mixture weights must be >= 0 and sum to 1, got {dict(mixture)} (sum {total})")
    return {name: weight / total for name, weight in weights.items()}


class MixturePlan:
    """Positions 0..N-1 of a run: `domain` (N,) index into `names`, `row` (N,) row of that domain.

    unit: what the weights are shares of: "tokens" (prompts counted, padding not), "loss_tokens" (only those that are
        learned: of a question with a long prompt and a short answer, the answer) or "examples" of the source.
    """

    def __init__(
        self,
        rows: Mapping[str, PackedRows],
        weights: Mapping[str, float],
        positions: int,
        *,
        seed: int,
        unit: str = "tokens",
    ) -> None:
        self.names = list(rows)
        self.positions = positions
        share = np.array([weights[name] for name in self.names], dtype=np.float64)
        if unit not in UNITS:
            raise TaskError(f"unit must be one of {list(UNITS)}, got {unit!r}")
        if unit == "examples":
            share = share * [rows[n].info.tokens / rows[n].info.examples for n in self.names]
        share = share / share.sum()
        measures = [rows[n].learned if unit == "loss_tokens" else rows[n].lengths for n in self.names]
        due, domain, row, length, learned = [], [], [], [], []
        for d, name in enumerate(self.names):
            if share[d] == 0.0:
                continue
            order = _order(len(rows[name]), _enough(measures, share, d, positions), seed, name)
            measure = np.asarray(measures[d], dtype=np.int64)[order]
            due.append((np.cumsum(measure) - 0.5 * measure) / share[d])
            domain.append(np.full(len(order), d))
            row.append(order)
            length.append(np.asarray(rows[name].lengths, dtype=np.int64)[order])
            learned.append(np.asarray(rows[name].learned, dtype=np.int64)[order])
        first = np.argsort(np.concatenate(due), kind="stable")[:positions]
        if len(first) < positions:
            raise AssertionError("the plan was made too short")  # _enough promises enough rows
        self.domain: IntArray = np.concatenate(domain)[first]
        self.row: IntArray = np.concatenate(row)[first]
        self._length: IntArray = np.concatenate(length)[first]
        self._learned: IntArray = np.concatenate(learned)[first]
        self._sizes = [len(rows[name]) for name in self.names]

    def tokens(self, upto: int | None = None) -> dict[str, int]:
        """Tokens read from each domain in the first `upto` positions."""
        return self._sums(self._length[:upto], upto)

    def loss_tokens(self, upto: int | None = None) -> dict[str, int]:
        """Those of them that are learned."""
        return self._sums(self._learned[:upto], upto)

    def _sums(self, of: IntArray, upto: int | None) -> dict[str, int]:
        counts = np.bincount(self.domain[:upto], of, minlength=len(self.names))
        return {name: int(c) for name, c in zip(self.names, counts, strict=True)}

    def epochs(self, upto: int | None = None) -> dict[str, float]:
        """How often each domain has been read through in the first `upto` positions (2.5: repeated)."""
        counts = np.bincount(self.domain[:upto], minlength=len(self.names))
        return {n: float(c) / s for n, c, s in zip(self.names, counts, self._sizes, strict=True)}


def _enough(measures: list[Any], share: Any, d: int, positions: int) -> int:
    """Rows of domain d that surely cover its part of `positions` rows, capped by all of them."""
    whole = max(int(np.max(m)) for m, s in zip(measures, share, strict=True) if s > 0) * positions
    mean = float(np.mean(measures[d]))
    epoch = len(measures[d])
    # A whole extra epoch, since the mean only holds over full epochs; one extra row for rounding.
    return int(min(positions, np.ceil(share[d] * whole / mean) + epoch)) + 1


def _order(size: int, count: int, seed: int, name: str) -> IntArray:
    """The first `count` rows of a domain, reshuffled each epoch."""
    salt = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    epochs = -(-count // size)
    parts = [np.random.default_rng([seed, salt, epoch]).permutation(size) for epoch in range(epochs)]
    return np.concatenate(parts)[:count].astype(np.int64)


class MixedRows:
    """A map-style data set over the plan, for a DataLoader that reads it in order.

    Being an ordinary indexed data set is what makes it disjoint by rank and resumable: accelerate gives every
    rank its own indices, and skipping to a position skips indices, not data.
    """

    def __init__(self, rows: Mapping[str, PackedRows], plan: MixturePlan) -> None:
        self._rows: list[PackedRows] = [rows[name] for name in plan.names]
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.positions

    def __getitem__(self, position: int) -> dict[str, np.ndarray[Any, np.dtype[np.int32]]]:
        return self._rows[int(self.plan.domain[position])][int(self.plan.row[position])]


def collate(rows: list[dict[str, np.ndarray[Any, np.dtype[np.int32]]]]) -> dict[str, Any]:
    """Rows of any layouts to a batch of (B, seq_len) int64 tensors; `position_ids` only where a row restarts."""
    import torch

    batch = {
        "input_ids": np.stack([row["input_ids"] for row in rows]),
        "labels": np.stack([row.get("labels", row["input_ids"]) for row in rows]),
    }
    if any("position_ids" in row for row in rows):
        plain = np.arange(batch["input_ids"].shape[1], dtype=np.int32)
        batch["position_ids"] = np.stack([row.get("position_ids", plain) for row in rows])
    return {name: torch.from_numpy(values.astype(np.int64)) for name, values in batch.items()}


def weight_bounds(
    rows: Mapping[str, PackedRows], positions: int, seq_len: int, max_epochs: float, unit: str = "tokens"
) -> dict[str, float]:
    """The largest weight at which no domain is read more than `max_epochs` times in a run, whatever the others weigh.

    Raises TaskError when the bounds leave no mixture (all data together too small; or the unit is "examples", and those
    of some domains are so much longer than others' that no bounds of single weights will do).
    """
    if unit == "loss_tokens":
        sizes = {name: packed.info.loss_tokens for name, packed in rows.items()}
        run = math.ceil(positions * max(packed.info.loss_tokens / packed.info.rows for packed in rows.values()))
    else:
        sizes = {name: packed.info.tokens for name, packed in rows.items()}
        run = positions * seq_len
    bounds = {name: min(1.0, max_epochs * size / run) for name, size in sizes.items()}
    if sum(bounds.values()) < 1.0:
        have = sum(sizes.values())
        raise TaskError(
            f"max_epochs_per_domain={max_epochs} allows {max_epochs * have:.0f} {unit} of all domains together, "
            f"a full run reads {run}; raise it to at least {run / have:.2f}, add data, or train fewer steps"
        )
    return bounds if unit != "examples" else _of_examples(rows, bounds)


def _of_examples(rows: Mapping[str, PackedRows], bounds: Mapping[str, float]) -> dict[str, float]:
    """Bounds of shares of tokens, m, as bounds of shares of examples. With e tokens an example, where all others have
    the shortest of theirs, f, a weight w makes a share of w e / (w e + (1 - w) f) <= m."""
    each = {name: packed.info.tokens / packed.info.examples for name, packed in rows.items()}
    found = {}
    for name, m in bounds.items():
        f = min((e for other, e in each.items() if other != name), default=each[name])
        found[name] = m * f / (each[name] * (1.0 - m) + m * f)
    if sum(found.values()) < 1.0:
        raise TaskError(
            "max_epochs_per_domain cannot be kept with unit='examples' here: their mean lengths differ too much "
            f"({', '.join(f'{name} {e:.0f} tokens' for name, e in each.items())}); use unit='tokens', or raise it"
        )
    return found
