"""What only GPUs can tell (`make gpu`): bf16, memory, groups of GPUs, FSDP2, QLoRA, FlashAttention, speed.

A small model of its own is written (60 million weights): no download. A test that needs two GPUs, or a package that
is not there, is skipped and says so.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune
from ray.train import ScalingConfig

from benchmarks import gpu
from jobs_ray.lm import Domain, Model, Session, Task, load, run, trainable
from jobs_ray.lm.model import bf16_available

GPUS = torch.cuda.device_count()
pytestmark = pytest.mark.filterwarnings(
    "default::ResourceWarning", "default::FutureWarning", "default::DeprecationWarning"
)
two_gpus = pytest.mark.skipif(GPUS < 2, reason=f"needs two NVIDIA GPUs; this machine has {GPUS}")
LORA = {"r": 8, "alpha": 16, "q_proj": True, "v_proj": True, "down_proj": True}
MODEL = {
    "model_type": "llama", "hidden_size": 512 if GPUS else 64, "head_dim": 64, "num_hidden_layers": 12 if GPUS else 2,
    "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip


def on_a_gpu(test: Callable[..., None]) -> Callable[..., None]:
    needed = pytest.mark.skipif(GPUS < 1, reason="needs an NVIDIA GPU; this machine has none")
    return pytest.mark.gpu(needed(test))  # type: ignore[no-any-return]


def words(count: int, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    kinds = ["the cat sees a bird", "one plus two equals three", "the wolf runs from the mouse", "five times six"]
    return [{"text": " ".join(rng.choices(kinds, k=rng.randint(5, 60))) + "."} for _ in range(count)]


@pytest.fixture(scope="module")
def gpu_base(make_task: Callable[..., Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    session = Session(make_task(model=Model(config=MODEL, tokenizer=make_task().model.tokenizer)))
    folder = tmp_path_factory.mktemp("base")
    session.models.build({}, seed=0).save_pretrained(folder)
    session.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpu_task(make_task: Callable[..., Task], gpu_base: Path) -> Task:
    domains = {"a": Domain(words(400, 0), held_out=0.1), "b": Domain(words(400, 1))}
    return make_task(
        domains=domains, target={"a": domains["a"].validation()}, model=Model(name=str(gpu_base)), seq_len=256,
        batch_size=16, max_steps=20, eval_every=5, lr=1e-3, threads=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def gpu_ray(shared_ray: Any) -> Iterator[None]:
    import ray

    shared_ray.stop()
    ray.init("local", include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def fit(what: Any, space: dict[str, Any], folder: Path, **settings: Any) -> Any:
    results = tune.Tuner(
        what,
        param_space=space,
        tune_config=tune.TuneConfig(metric="eval_loss", mode="min", max_concurrent_trials=1, **settings),
        run_config=tune.RunConfig(storage_path=str(folder), name="x", verbose=0),
    ).fit()
    assert not results.errors
    return results


def curve(reports: list[dict[str, Any]]) -> list[float]:
    return [r["eval_loss"] for r in reports]


@on_a_gpu
def test_lora_in_bf16(gpu_task: Task, tmp_path: Path) -> None:
    session = Session(gpu_task)
    reports = run(gpu_task, {"lora": LORA}, session=session, keep=tmp_path / "c")
    model = session.models.build({"lora": LORA}, 0)
    kinds = {p.dtype for p in model.parameters() if not p.requires_grad}
    if bf16_available():
        assert kinds == {torch.bfloat16}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert curve(reports)[-1] < curve(reports)[0]
    assert curve(run(gpu_task, {"lora": LORA}, session=session)) == pytest.approx(curve(reports), rel=1e-3)
    precise = replace(gpu_task, model=replace(gpu_task.model, dtype="float32"))
    assert curve(run(precise, {"lora": LORA}))[-1] == pytest.approx(curve(reports)[-1], rel=0.05)
    assert load(tmp_path / "c")[0].num_parameters() > 1e6


@on_a_gpu
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_memory_is_flat_over_twenty_trials(gpu_task: Task, lora: dict[str, Any] | None) -> None:
    session = Session(replace(gpu_task, max_steps=3, eval_every=3))
    peaks = []
    for trial in range(20):
        torch.cuda.reset_peak_memory_stats()
        run(session.task, {"lora": lora, "lr": 1e-4 * (trial + 1)}, session=session)
        peaks.append(torch.cuda.max_memory_allocated())
    assert max(peaks[1:]) <= 1.05 * peaks[0], peaks
    assert peaks[-1] <= 1.01 * peaks[1], peaks


@on_a_gpu
def test_a_reused_actor_holds_its_gpu(gpu_ray: None, gpu_task: Task, tmp_path: Path) -> None:
    results = fit(
        trainable(gpu_task), {"lora": LORA, "lr": tune.grid_search([1e-4, 1e-3, 3e-3])}, tmp_path, reuse_actors=True
    )
    assert len({r.metrics["pid"] for r in results}) == 1
    alone = curve(run(gpu_task, {"lora": LORA, "lr": 1e-3}))
    assert results[1].metrics_dataframe["eval_loss"].tolist() == pytest.approx(alone, rel=1e-3)


@on_a_gpu
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=two_gpus)])
@pytest.mark.parametrize(("fsdp", "dtype"), [(False, "float32"), (True, "float32"), (True, "auto")])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_group_is_one_gpu(
    gpu_ray: None, gpu_task: Task, tmp_path: Path, workers: int, fsdp: bool, dtype: Any, lora: dict[str, Any] | None
) -> None:
    # float32: FSDP2 shards float32 weights and computes in bf16, as autocast does. auto: with LoRA it must shard frozen
    # weights in bf16 beside adapters in float32
    task = replace(gpu_task, model=replace(gpu_task.model, dtype=dtype))
    one = curve(run(task, {"lora": lora}))
    if fsdp:
        task = replace(task, trainer_args={"fsdp": True, "fsdp_config": {"version": 2}})
    what = trainable(task, ScalingConfig(num_workers=workers, use_gpu=True), group=True)
    [result] = fit(what, {"lora": lora}, tmp_path)
    frame = result.metrics_dataframe.drop_duplicates("step")  # Tune repeats a function's last report when it ends
    assert frame["eval_loss"].tolist() == pytest.approx(one, rel=5e-3 if dtype == "float32" else 2e-2)
    model, _ = load(result.checkpoint)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@on_a_gpu
def test_half_precision(gpu_task: Task) -> None:
    """float16, for cards without bf16 (V100, T4)."""
    task = replace(gpu_task, model=replace(gpu_task.model, dtype="float16"))
    precise = replace(gpu_task, model=replace(gpu_task.model, dtype="float32"))
    for lora in (None, LORA):
        assert curve(run(task, {"lora": lora}))[-1] == pytest.approx(curve(run(precise, {"lora": lora}))[-1], rel=0.05)


@on_a_gpu
@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_adapters_on_four_bits(gpu_task: Task) -> None:
    from transformers import BitsAndBytesConfig

    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    plain, peaks = gpu_task.model, []
    for model in (plain, replace(plain, kwargs={"quantization_config": four})):
        torch.cuda.reset_peak_memory_stats()
        losses = curve(run(replace(gpu_task, model=model, batch_size=1), {"lora": LORA}))
        assert losses[-1] < losses[0]
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < peaks[0]


@on_a_gpu
@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is None, reason="needs flash_attn")
def test_flash_attention_is_sdpa(gpu_task: Task) -> None:
    """Rows are flattened to the examples packed in them: neither these nor padding are seen by others."""
    rows = [
        {"prompt": f"one plus {w}", "completion": " equals six" * n} for n, w in enumerate(("two", "four", "five"), 1)
    ]
    domain = Domain(rows * 20)
    task = replace(gpu_task, domains={"d": domain}, target={"d": domain}, seq_len=64)
    flash = replace(task, model=replace(task.model, kwargs={"attn_implementation": "flash_attention_2"}))
    assert curve(run(flash, {"lora": LORA})) == pytest.approx(curve(run(task, {"lora": LORA})), rel=0.02)


@on_a_gpu
def test_as_fast_as_a_bare_loop(gpu_task: Task) -> None:
    """Tokens a second, evaluation and start-up not counted, against torch alone in the same numbers."""
    steps, warm = 60, 10
    # wide, so that the GPU is what is waited for: of narrow layers, launching the kernels takes longer than they do
    wide = Model(config={**MODEL, "hidden_size": 2048, "num_hidden_layers": 8}, tokenizer=gpu_task.model.name)
    task = replace(gpu_task, model=wide, seq_len=512, max_steps=steps, eval_every=warm, eval_rows=1, save="last")
    session = Session(task)
    shares = [gpu.ours(session, {}, warm)[0] / gpu.bare(session, {}, warm)[0] for _ in range(3)]
    assert sorted(shares)[1] >= 0.95, shares


def test_the_checks_are_ready(gpu_task: Task) -> None:
    """On a machine without a GPU: what the checks stand on can be built, and two loops train alike."""
    task = replace(gpu_task, max_steps=2, eval_every=1, eval_rows=1, threads=1)
    session = Session(task)
    assert gpu.bare(session, {}, warm=1)[0] > 0.0
    reports = run(task, {"lora": LORA}, session=session)
    assert [r["step"] for r in reports] == [1, 2]
    assert all(r["train_seconds"] > 0.0 for r in reports)
