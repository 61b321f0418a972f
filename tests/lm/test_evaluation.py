"""Evaluation: a sample of all rows, in batches that fit, the same on one rank and on sharded ones."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs_ray.lm import Accuracy, DataError, Domain, Model, Session, Task, TrainingError, evaluation, load, metrics, run
from jobs_ray.lm.evaluation import loss_sums, sample
from jobs_ray.lm.model import load_tokenizer
from jobs_ray.lm.packing import pack
from jobs_ray.lm.tokens import IGNORE
from jobs_ray.lm.trainer import MixtureTrainer

QUESTION = metrics.Question("?", "x")


@pytest.mark.parametrize(
    ("said", "right", "counts"),
    [
        ("Paris.\nQuestion: and then", "Paris", True),  # it may go on after a one-line answer
        ("Paris, and then", "Paris", False),
        ("2 + 2 = 4\n#### 4", "4", True),
        ("2 + 2 = 4\n#### 4", "so\n#### 4", True),
        ("#### 5", "so\n#### 4", False),
        ("def f():\n    return 1", "def f():\n    return 1", True),
        ("def f():\n    return 2", "def f():\n    return 1", False),
        ("def f():", "def f():\n    return 1", False),
        ("2 + 2 = 4\n#### 4\nQuestion: and then", "4", True),  # nor does a worked one end all
        ("2 + 2 = 4\n#### 4\nQuestion: 1 + 1?\nAnswer: 1 + 1 = 2\n#### 2", "so\n#### 4", True),
        ("2 + 2 = 4\n#### 4\nQuestion: 1 + 1?\nAnswer: 1 + 1 = 2\n#### 2", "so\n#### 2", False),
        ("#### 1200", "#### 1,200", True),
        ("1,200,000 birds", "1200000 birds", True),
        ("1,2", "12", False),
        ("", "The", False),  # all of it is an article
        ("the", "The", True),
        ("A", "a", True),
        ("A.", "A", True),
        ("(A)", "A", True),
        ("+", "-", False),
        ("", "", False),
        ("5", ".5", False),
        (" .5.", ".5", True),
        ("$.75", "75", False),
        ("...5", "5", True),
        ("...five.", "five", True),
        (". 5", "5", True),
        ("**18**", "18", True),
        ("* Paris", "Paris", True),
        ("= 5", "5", True),
        ("yes/no", "yes no", True),
    ],
)
def test_an_answer_is_right_as_its_row_has_it(said: str, right: str, counts: bool) -> None:
    assert metrics._matches(said, replace(QUESTION, accepted=(right,))) is counts


WORDS = ["cat", "dog", "bird", "fox", "wolf", "mouse"]
SUBJECTS = [
    {"question": f"Who {verb} {i}?", "choices": WORDS[: 2 + i % 3], "answer": i % 2, "subject": verb}
    for verb in ("sees", "hears")
    for i in range(40)
]
OPEN = [{"question": f"What is {i}?", "answer": " ".join(WORDS[: 1 + i % 4])} for i in range(7)]
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)


def asking(make_task: Callable[..., Task], rows: list[dict[str, Any]], kind: str, **accuracy: Any) -> Task:
    domain = Domain(rows, format=kind)
    return make_task(seq_len=64, accuracy=Accuracy(domain, **accuracy))


def test_a_sample_is_of_all_rows_and_the_same_for_all_trials(make_task: Callable[..., Task]) -> None:
    assert sample(10, None, 0) == sample(10, 99, 1) == list(range(10))
    chosen = sample(1000, 100, 0)
    assert chosen == sorted(set(chosen)) == sample(1000, 100, 0) != sample(1000, 100, 1)
    assert len(chosen) == 100
    assert 25 < sum(i >= 500 for i in chosen) < 75
    task = asking(make_task, SUBJECTS, "mmlu", questions=20)
    asked = evaluation.questions(task, load_tokenizer(task.model))
    assert asked == evaluation.questions(task, load_tokenizer(task.model))
    assert {"sees" in q.prompt for q in asked} == {True, False}


def test_the_target_is_sampled_not_cut(make_task: Callable[..., Task]) -> None:
    """Rows sorted by subject: what the first rows are must not be all that is evaluated."""
    rows = [{"text": "cat " * 40}] * 30 + [{"text": "dog " * 40}] * 30
    task = make_task(target={"t": Domain(rows)}, eval_rows=10)
    session = Session(task)
    seen: list[Any] = []
    real = session.target["t"]

    class Spy:
        info = real.info

        def __len__(self) -> int:
            return len(real)

        def __getitem__(self, row: int) -> Any:
            seen.append(row)
            return real[row]

    session.target["t"] = Spy()  # type: ignore[assignment]
    run(task, {"max_steps": 3}, session=session)
    assert seen == sample(len(real), 10, 0)
    assert max(seen) > len(real) // 2


@pytest.mark.parametrize("kind", ["mmlu", "gsm8k"])
def test_questions_are_asked_in_batches(make_task: Callable[..., Task], kind: str) -> None:
    rows = SUBJECTS[:9] if kind == "mmlu" else OPEN
    answers, passes = [], []
    for batch_size in (1, 4):
        task = asking(make_task, rows, kind, batch_size=batch_size, max_new_tokens=6)
        session = Session(task)
        model = session.models.build({}, 0).eval()
        with torch.no_grad():
            count = [0]
            model.register_forward_pre_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
            if kind == "mmlu":
                assert session.questions
                pairs = [(q, o) for q in session.questions for o in q.options]
                answers.append([
                    score for at in range(0, len(pairs), batch_size)
                    for score in metrics._scores(model, session, pairs[at : at + batch_size])
                ])  # fmt: skip
                assert count[0] == -(-len(pairs) // batch_size)
                count[0] = 0
                metrics.count_right(model, session)
                assert count[0] == -(-len(pairs) // batch_size)
            else:
                asked = session.questions
                answers.append([
                    text for at in range(0, len(asked), batch_size)
                    for text in metrics._generate(model, session, asked[at : at + batch_size], 6, together=False)
                ])  # fmt: skip
            passes.append(count[0])
    assert answers[0] == (pytest.approx(answers[1], abs=1e-5) if kind == "mmlu" else answers[1])
    assert passes[1] < passes[0] / 2


def test_a_worked_solution_has_room(make_task: Callable[..., Task]) -> None:
    worked = "one plus two is three and three plus four is nine " * 4 + "\n#### 9"
    task = asking(make_task, [{"question": "How many?", "answer": worked}], "gsm8k")
    session = Session(task)
    asked = evaluation.questions(task, session.tokenizer)
    tokens = len(session.tokenizer(worked)["input_ids"])
    assert tokens < metrics._new_tokens(session, asked) < 2 * tokens + 16


def test_chat_models_are_asked_as_they_are_trained(tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))
    row = SUBJECTS[0]
    domain = Domain([row], format="mmlu", chat=True)
    task = Task(
        {"d": domain}, {"d": domain}, Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)), 1, 1,
        cache_dir=str(tmp_path), accuracy=Accuracy(domain),
    )  # fmt: skip
    with pytest.raises(DataError, match="needs a tokenizer with a chat template"):
        evaluation.questions(task, tokenizer)
    tokenizer.chat_template = TEMPLATE
    [question] = evaluation.questions(task, tokenizer)
    packed = pack(domain, tokenizer, 128, tmp_path)
    used = int(packed.lengths[0])
    trained = tokenizer.decode(packed[0]["input_ids"][:used])
    assert question.prompt.startswith("<s>user Question: Who sees 0?")
    assert trained == question.prompt + "cat</s>"
    learned = packed[0]["labels"]
    assert tokenizer.decode(learned[learned != IGNORE]) == "cat</s>"
    spoken = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "fox"}]
    [question] = evaluation.questions(replace(task, accuracy=Accuracy(Domain([{"messages": spoken}]))), tokenizer)
    assert (question.prompt, question.answer) == ("<s>user Who?</s><s>assistant ", "fox")


def test_logits_stay_within_their_bytes(make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluation.rows_a_pass(16, 256, 128_256) == 2  # 2 x 256 x 128,256 x (2 + 4) bytes are 395 MB of 537
    assert evaluation.rows_a_pass(16, 8192, 128_256) == 1
    task = make_task(eval_batch_size=16)
    session = Session(task)
    model = session.models.build({}, 0).eval()
    shapes: list[Any] = []
    model.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.logits.shape)))
    vocabulary = model.config.vocab_size
    rows, chosen = session.target["animals"], sample(len(session.target["animals"]), 16, 0)
    found = []
    for most, passes in ((1 << 29, 1), (3 * 32 * vocabulary * 6, 4)):
        shapes.clear()
        monkeypatch.setattr(evaluation, "LOGITS_BYTES", most)
        with torch.no_grad():
            size = evaluation.pass_size(model, task.eval_batch_size, task.seq_len)
            found.append(loss_sums(model, rows, chosen[:12], size))
        assert len(shapes) == passes
        assert max(b * s * v * 6 for b, s, v in shapes) <= most
    monkeypatch.setattr(evaluation, "LOSS_TOKENS", 5)
    with torch.no_grad():
        found.append(loss_sums(model, rows, chosen[:12], 2))
    assert found[1].tolist() == pytest.approx(found[0].tolist())
    assert found[2].tolist() == pytest.approx(found[0].tolist())


def test_out_of_memory_in_evaluation_names_its_own_remedy(make_task: Callable[..., Task]) -> None:
    session = Session(make_task())
    build = session.models.build

    def hungry(config: Any, seed: int) -> Any:
        model = build(config, seed)
        # a real failed allocation, only where no gradients are kept
        model.register_forward_pre_hook(
            lambda *_: None if torch.is_grad_enabled() else torch.empty(10**15, dtype=torch.uint8) and None
        )
        return model

    session.models.build = hungry  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"in the evaluation at step 3; lower Task.eval_batch_size \(now 16\)"):
        run(session.task, {}, session=session)


def sharded(rank: int, port: int, tasks: list[Task], answers: Any) -> None:
    """One of two ranks that hold half of each layer: a forward pass that one of them leaves out never ends."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    mesh, told = init_device_mesh("cpu", (2,)), []
    for task in tasks:
        session = Session(task)
        model = session.models.build({}, 0).eval()
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        with torch.no_grad():
            right = metrics.count_right(model, session, rank, 2)
            rows = session.target["animals"]
            loss = loss_sums(model, rows, sample(len(rows), 5, 0), 2, rank=rank, ranks=2)
        both = torch.stack([right, loss])
        dist.all_reduce(both)
        told.append(both.tolist())
    answers.put((rank, told))
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_of_a_sharded_model_make_the_same_passes(make_task: Callable[..., Task]) -> None:
    # three questions with 2, 3 and 4 options, and three open ones, over two ranks
    import socket

    rows = [{"question": q["question"], "choices": q["choices"], "answer": q["answer"]} for q in SUBJECTS[:3]]
    task = asking(make_task, rows, "mmlu", batch_size=2)
    opened = asking(make_task, OPEN[:3], "gsm8k", batch_size=1, max_new_tokens=5)
    expected = []
    for one in (task, opened):
        session = Session(one)
        model = session.models.build({}, 0).eval()
        target = session.target["animals"]
        with torch.no_grad():
            right = metrics.count_right(model, session).tolist()
            expected.append((right, loss_sums(model, target, sample(len(target), 5, 0), 2).tolist()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    ranks = [context.Process(target=sharded, args=(r, port, [task, opened], answers), daemon=True) for r in (0, 1)]
    for process in ranks:
        process.start()
    try:
        got = dict(answers.get(timeout=120) for _ in ranks)
    finally:
        for process in ranks:
            process.join(10)
            process.kill()
    assert got[0] == got[1]
    for found, (right, loss) in zip(got[0], expected, strict=True):
        assert found[0] == right
        assert found[1] == pytest.approx(loss, rel=1e-5)


def test_a_schedule_free_optimiser_is_evaluated_and_saved_in_its_own_mode(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What such an optimiser has found is an average of the weights, in their place only after its `eval`."""

    class Averaging(torch.optim.SGD):
        """Weights that are off by one while it trains: no evaluation can miss it."""

        training = False

        def _add(self, what: float) -> None:
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.data.add_(what)

        def train(self) -> None:
            if not self.training:
                self._add(1.0)
            self.training = True

        def eval(self) -> None:
            if self.training:
                self._add(-1.0)
            self.training = False

    def create(trainer: Any, *_: Any, **__: Any) -> Any:
        trainer.optimizer = Averaging(trainer.model.parameters(), lr=1e-12)
        return trainer.optimizer

    task = make_task(max_steps=4, eval_every=2, save="last")
    session = Session(task)
    start = session.models.build({}, 0)
    rows = session.target["animals"]
    with torch.no_grad():
        total, count = loss_sums(start.eval(), rows, sample(len(rows), task.eval_rows, task.seed), 4)
    untrained = float(total / count)
    monkeypatch.setattr(MixtureTrainer, "create_optimizer", create)
    reports = run(task, {}, session=session, keep=tmp_path / "kept")
    assert [r["eval_loss"] for r in reports] == pytest.approx([untrained] * 2, abs=1e-4)
    assert reports[0]["train_loss"] > 0
    weights, _ = load(tmp_path / "kept")
    for was, kept in zip(start.parameters(), weights.parameters(), strict=True):
        torch.testing.assert_close(was, kept, atol=1e-5, rtol=0.0)
