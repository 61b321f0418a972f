"""The mixture plan: shares, prefixes, repeats, ranks, bounds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs_ray.lm import Domain, Model, Session, Task, TaskError
from jobs_ray.lm.mixing import MixedRows, MixturePlan, collate, weight_bounds, weights_of
from jobs_ray.lm.model import load_tokenizer
from jobs_ray.lm.packed import PackedRows
from jobs_ray.lm.packing import pack


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir: Path) -> Any:
    return load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))


@pytest.fixture(scope="module")
def rows(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PackedRows]:
    """Large text, tiny text (one row), questions of uneven length, and another text."""
    folder = tmp_path_factory.mktemp("mix")
    rng = random.Random(0)
    uneven = [{"prompt": "one plus " * rng.randint(1, 6), "completion": " two" * rng.randint(1, 5)} for _ in range(60)]
    sources = {
        "large": [{"text": f"the cat sees bird {i}"} for i in range(500)],
        "tiny": [{"text": "one two three"}],
        "uneven": uneven,
        "other": [{"text": f"the wolf eats mouse {i} and runs"} for i in range(100)],
    }
    return {name: pack(Domain(data), tokenizer, 32, folder) for name, data in sources.items()}


@pytest.mark.parametrize("seed", range(10))
def test_token_shares_match_the_weights(rows: dict[str, PackedRows], seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(4, 0.6))
    weights[seed % 4] = 0.0
    weights /= weights.sum()
    wanted = dict(zip(rows, weights.tolist(), strict=True))
    plan = MixturePlan(rows, wanted, 1600, seed=seed)
    for upto in (160, 1600):  # a tenth of the run has its shares right too
        tokens = plan.tokens(upto)
        total = sum(tokens.values())
        for name, weight in wanted.items():
            assert abs(tokens[name] / total - weight) < (0.02 if upto == 160 else 0.003), (name, upto)
            assert (tokens[name] == 0) == (weight == 0.0)
    epochs = plan.epochs()
    assert epochs["tiny"] == plan.tokens()["tiny"] / 32
    assert sum(epochs[n] * len(rows[n]) for n in rows) == pytest.approx(1600)


def test_examples_as_the_unit(rows: dict[str, PackedRows]) -> None:
    weights = {"large": 0.5, "tiny": 0.0, "uneven": 0.5, "other": 0.0}
    tokens = MixturePlan(rows, weights, 2000, seed=0, unit="examples").tokens()
    examples = {n: tokens[n] * rows[n].info.examples / rows[n].info.tokens for n in ("large", "uneven")}
    assert examples["large"] / sum(examples.values()) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(TaskError, match="unit"):
        MixturePlan(rows, weights, 10, seed=0, unit="bytes")


def test_learned_tokens_as_the_unit(rows: dict[str, PackedRows]) -> None:
    """Of the questions only a part is learned: by tokens their share of what is learned falls short."""
    weights = {"large": 0.5, "tiny": 0.0, "uneven": 0.5, "other": 0.0}
    labels = sum(int((rows["uneven"][i]["labels"] != -100).sum()) for i in range(len(rows["uneven"])))
    assert rows["uneven"].info.loss_tokens == labels < rows["uneven"].info.tokens
    assert rows["large"].info.loss_tokens == 31 * len(rows["large"])

    def share(unit: str, upto: int) -> float:
        learned = MixturePlan(rows, weights, 2000, seed=0, unit=unit).loss_tokens(upto)
        return learned["uneven"] / sum(learned.values())

    assert share("tokens", 2000) < 0.4
    assert share("loss_tokens", 2000) == pytest.approx(0.5, abs=0.003)
    assert share("loss_tokens", 200) == pytest.approx(0.5, abs=0.02)
    bounds = weight_bounds(rows, 500, 32, 40.0, "loss_tokens")
    for name in ("large", "uneven"):
        plan = MixturePlan(rows, {n: float(n == name) for n in rows}, 500, seed=0, unit="loss_tokens")
        assert plan.epochs()[name] * bounds[name] <= 40.0 * 1.05


def test_prefix_seed_and_epochs(rows: dict[str, PackedRows]) -> None:
    weights = {"large": 0.4, "tiny": 0.1, "uneven": 0.3, "other": 0.2}
    long = MixturePlan(rows, weights, 900, seed=1)
    short = MixturePlan(rows, weights, 100, seed=1)
    assert (long.domain[:100] == short.domain).all()
    assert (long.row[:100] == short.row).all()
    assert (MixturePlan(rows, weights, 100, seed=2).row != short.row).any()
    # every epoch of a domain reads each of its rows exactly once
    mine = long.row[long.domain == long.names.index("other")]
    size = len(rows["other"])
    assert len(mine) > 2 * size
    for epoch in range(len(mine) // size):
        assert sorted(mine[epoch * size : (epoch + 1) * size]) == list(range(size))


class FullRows:
    """What a plan asks of packed rows: here so many rows of 32 tokens, all learned."""

    def __init__(self, count: int) -> None:
        self.lengths = self.learned = np.full(count, 32, dtype=np.int32)
        self.info = SimpleNamespace(tokens=32 * count, examples=count, rows=count, loss_tokens=32 * count)

    def __len__(self) -> int:
        return len(self.lengths)


def test_every_domain_and_epoch_has_an_order_of_its_own() -> None:
    rows: Any = {"a": FullRows(50), "b": FullRows(50)}
    plan = MixturePlan(rows, {"a": 0.5, "b": 0.5}, 300, seed=0)
    a, b = (plan.row[plan.domain == d] for d in (0, 1))
    assert (a[:50] != a[50:100]).any()
    assert (a[:50] != b[:50]).any()


def test_a_small_weight_waits_for_its_turn() -> None:
    rows: Any = {"most": FullRows(400), "few": FullRows(400)}
    plan = MixturePlan(rows, {"most": 0.95, "few": 0.05}, 200, seed=0)
    for upto in range(1, 201):  # within half a row
        assert abs(int((plan.domain[:upto] == 1).sum()) - 0.05 * upto) <= 0.5 + 1e-9, upto


def test_weights_that_are_none_are_refused() -> None:
    for mixture in ({"a": 1.5, "b": -0.5}, {"a": math.nan, "b": 1.0}, {"a": math.inf, "b": 0.0}):
        with pytest.raises(TaskError, match=">= 0 and sum to 1"):
            weights_of(mixture, ["a", "b"])


def test_a_row_of_text_beside_packed_examples_counts_through(tokenizer: Any, tmp_path: Path) -> None:
    text = pack(Domain([{"text": "the cat sees a bird " * 20}]), tokenizer, 32, tmp_path)[0]
    pairs = pack(Domain([{"prompt": "one", "completion": " two"}] * 2), tokenizer, 32, tmp_path)[0]
    batch = collate([text, pairs])
    assert batch["position_ids"][0].tolist() == list(range(32))
    assert batch["labels"][0].tolist() == text["input_ids"].tolist()
    assert batch["position_ids"][1].tolist() == pairs["position_ids"].tolist()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_read_disjoint_positions_that_make_up_the_plan(rows: dict[str, PackedRows], ranks: int) -> None:
    from accelerate.data_loader import prepare_data_loader, skip_first_batches
    from torch.utils.data import DataLoader, SequentialSampler

    plan = MixturePlan(rows, dict.fromkeys(rows, 0.25), 48, seed=0)
    data = MixedRows(rows, plan)

    def read(rank: int, skip: int = 0) -> list[list[int]]:
        loader = DataLoader(data, batch_size=12 // ranks, sampler=SequentialSampler(data), collate_fn=collate)
        loader = prepare_data_loader(loader, num_processes=ranks, process_index=rank, put_on_device=False)
        return [b["input_ids"].tolist() for b in skip_first_batches(loader, skip)]

    steps: list[list[Any]] = [[] for _ in range(4)]
    for rank in range(ranks):
        batches = read(rank)
        assert len(batches) == 4
        for step, batch in enumerate(batches):
            steps[step] += batch
        assert read(rank, skip=2) == batches[2:]
    expected = [data[i]["input_ids"].tolist() for i in range(48)]
    for step in range(4):
        assert steps[step] == expected[12 * step : 12 * step + 12]


def test_max_epochs_bounds_the_mixture(rows: dict[str, PackedRows], make_task: Callable[..., Task]) -> None:
    positions = 300
    bounds = weight_bounds(rows, positions, 32, max_epochs=8.0)
    assert bounds["tiny"] == pytest.approx(8 / 300)
    weights = dict.fromkeys(rows, 0.0) | {"tiny": bounds["tiny"], "large": 1 - bounds["tiny"]}
    assert MixturePlan(rows, weights, positions, seed=0).epochs()["tiny"] <= 8.0
    with pytest.raises(TaskError, match="raise it to at least"):
        weight_bounds(rows, 100_000, 32, max_epochs=1.0)


def test_max_epochs_with_examples_as_the_unit(rows: dict[str, PackedRows]) -> None:
    pair = {name: rows[name] for name in ("uneven", "other")}
    each = {name: packed.info.tokens / packed.info.examples for name, packed in pair.items()}
    assert max(each.values()) > 1.15 * min(each.values())
    most = 1.2 * 2000 * 32 / sum(packed.info.tokens for packed in pair.values())  # both bounds below 1
    bounds = weight_bounds(pair, 2000, 32, max_epochs=most, unit="examples")
    assert max(bounds.values()) < 1.0
    for name, bound in bounds.items():
        weights = {n: bound if n == name else 1.0 - bound for n in pair}
        share = bound * each[name] / sum(weights[n] * each[n] for n in pair)
        assert share * 2000 * 32 / pair[name].info.tokens == pytest.approx(most)  # neither more nor less than asked


def test_examples_too_unlike_for_any_bounds_are_refused(rows: dict[str, PackedRows]) -> None:
    least = 300 * 32 / sum(packed.info.tokens for packed in rows.values())  # all tokens together just do
    with pytest.raises(TaskError, match="unit='tokens'"):
        weight_bounds(rows, 300, 32, max_epochs=1.01 * least, unit="examples")


def test_param_space(make_task: Callable[..., Task], base_dir: Path) -> None:
    from ray import tune

    from jobs_ray.lm import param_space

    task = make_task(model=Model(name=str(base_dir)), max_epochs_per_domain=0.7, max_steps=40)
    space = param_space(task)
    assert set(space) == {"mixture", "lr", "lora"}
    assert set(space["lora"]) == {
        "r", "alpha", "dropout", "q_proj", "v_proj", "up_proj", "down_proj", "gate_proj", "num_layers", "end",
    }  # fmt: skip
    packed = Session(task).train
    for _ in range(20):
        weights = space["mixture"].sample()
        assert sum(weights.values()) == pytest.approx(1.0)
        plan = MixturePlan(packed, weights, task.max_steps * task.batch_size, seed=0)
        assert max(plan.epochs().values()) <= 0.7 + 1 / min(len(r) for r in packed.values())
    assert max(space["lora"]["num_layers"].sample() for _ in range(50)) == 2
    assert set(param_space(task, model=False)) == {"mixture"}
    assert set(param_space(task, data=False)) == {"lr", "lora"}
    fixed = param_space(task, {"lr": 1e-3, "lora": {"r": 16}, "mixture": {"animals": 1.0}})
    assert (fixed["lr"], fixed["lora"]["r"], fixed["mixture"]) == (1e-3, 16, {"animals": 1.0})
    assert isinstance(fixed["lora"]["alpha"], tune.search.sample.Domain)
    assert param_space(task, {"lora": None})["lora"] is None
    fresh = param_space(make_task())
    assert {fresh["model"]["hidden_size"].sample() for _ in range(50)} == {16, 32, 48, 64}
