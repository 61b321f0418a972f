"""What a user may have meant otherwise is refused, and what nobody can be asked is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune import Checkpoint

from jobs_ray.lm import (
    Accuracy,
    DataError,
    Domain,
    Model,
    Session,
    Task,
    TaskError,
    evaluation,
    param_space,
    run,
    trainable,
)
from jobs_ray.lm.checkpoints import PruneCheckpoints
from jobs_ray.lm.estimate import memory_per_gpu
from jobs_ray.lm.formatting import asked_of, segments_of
from jobs_ray.lm.model import load_tokenizer
from jobs_ray.lm.resume import RUN_FILE

TOOLS = (
    "{% if tools %}<s>tools {{ tools[0]['name'] }}</s>{% endif %}"
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)


@pytest.fixture
def tokenizer(tokenizer_dir: Path) -> Any:
    return load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"r": 2, "alhpa": 64}, r"\['alhpa'\] are neither settings"),
        (
            {"r": 2, "q_proj": True, "v_porj": True, "c_attn": False},
            r"\['v_porj'\] are neither settings .* nor modules of Llama",
        ),
        ({"q_proj": True}, "needs the rank 'r'"),
    ],
)
def test_misspelt_lora(make_task: Callable[..., Task], base_dir: Path, lora: dict[str, Any], said: str) -> None:
    """Trials that are all the same would be searched over."""
    with pytest.raises(TaskError, match=said):
        run(make_task(model=Model(name=str(base_dir))), {"lora": lora})


def test_flags_may_name_modules_by_their_paths(make_task: Callable[..., Task], base_dir: Path) -> None:
    task = make_task(model=Model(name=str(base_dir)))
    model = Session(task).models.build({"lora": {"r": 2, "self_attn.q_proj": True}}, 0)
    adapted = {name.split(".lora_")[0].split(".")[-1] for name, _ in model.named_parameters() if "lora_" in name}
    assert adapted == {"q_proj"}


def test_a_list_of_modules_leaves_no_flags_in_the_space(make_task: Callable[..., Task], base_dir: Path) -> None:
    task = make_task(model=Model(name=str(base_dir)))
    assert param_space(task, {"lora": {"modules": ["q_proj"]}})["lora"].keys() == {
        "r", "alpha", "dropout", "num_layers", "end", "modules",
    }  # fmt: skip
    assert "q_proj" in param_space(task, {"lora": {"r": 4}})["lora"]
    choice = tune.choice([{"r": 2}, {"r": 4}])
    assert param_space(task, {"lora": choice})["lora"] is choice


def test_a_chat_is_asked_with_its_tools(tokenizer: Any) -> None:
    tokenizer.chat_template = TOOLS
    turns = [{"role": "user", "content": "cat?"}, {"role": "assistant", "content": "dog"}]
    how: dict[str, Any] = {"prompt": "prompt", "completion": "completion", "tokenizer": tokenizer}
    for kind, row in (
        ("chat", {"messages": turns, "tools": [{"name": "weather"}]}),
        ("conversational", {"prompt": turns[:1], "completion": turns[1:], "tools": [{"name": "weather"}]}),
    ):
        trained = "".join(text for text, _ in segments_of(row, kind, column="text", **how))
        assert trained.startswith(asked_of(row, kind, **how).prompt)
        assert trained.startswith("<s>tools weather</s>")


def test_a_row_without_an_answer_is_not_asked(make_task: Callable[..., Task], tokenizer: Any) -> None:
    rows = [{"prompt": f"who sees {i}?", "completion": " the cat" if i % 2 else ""} for i in range(20)]
    task = make_task(accuracy=Accuracy(Domain(rows)))
    assert [q.prompt for q in evaluation.questions(task, tokenizer)] == [row["prompt"] for row in rows[1::2]]
    some = evaluation.questions(replace(task, accuracy=Accuracy(Domain(rows), questions=7)), tokenizer)
    assert len({q.prompt for q in some}) == 7
    assert all(q.answer.strip() for q in some)
    with pytest.raises(DataError, match=r"none of the 10 questions of .* has an answer"):
        evaluation.questions(replace(task, accuracy=Accuracy(Domain(rows[::2]))), tokenizer)


def test_rows_that_are_no_questions_are_refused_before_any_model_is_loaded(make_task: Callable[..., Task]) -> None:
    """Of a large model that would be after the weights, on every GPU. There is none here: it would be said, too."""
    task = make_task()
    task = replace(
        task,
        accuracy=Accuracy(task.targets()["animals"].domain),
        model=replace(task.model, config=None, name="/no/model"),
    )
    with pytest.raises(DataError, match=r"accuracy needs questions; 'text' rows have none"):
        trainable(task)
    with pytest.raises(DataError, match=r"accuracy needs questions; 'text' rows have none"):
        Session(trainable(task, prepare=False).task)


def test_alpaca_without_an_instruction() -> None:
    row = {"instruction": None, "input": "a cat", "output": "a dog"}
    segments = segments_of(row, "alpaca", column="text", prompt="prompt", completion="completion")
    assert "None" not in segments[0][0]


def test_a_checkpoint_in_use_is_known_by_its_address_too(tmp_path: Path) -> None:
    """Deleted, it would be gone while a promoted run reads it."""

    class Trial:
        def __init__(self, name: str, loss: float, config: dict[str, Any], done: bool = True) -> None:
            (tmp_path / name).mkdir()
            (tmp_path / name / RUN_FILE).write_text("{}")
            self.trial_id, self.config, self.done = name, config, done
            self.last_result = {"eval_loss": loss}
            self.checkpoint = Checkpoint.from_directory(str(tmp_path / name))

        def is_finished(self) -> bool:
            return self.done

    worse, better = Trial("s0", 2.0, {"max_steps": 3}), Trial("s1", 1.0, {"max_steps": 3})
    promoted = Trial("p", 2.0, {"max_steps": 9, "resume_from": f"file://{tmp_path / 's0'}"}, done=False)
    prune = PruneCheckpoints(9, keep=1)
    prune.on_trial_complete(0, [worse, better, promoted], better)
    assert (tmp_path / "s0").exists()
    promoted.config["resume_from"] = "nowhere://s0"  # no address of anything: nothing to spare, and no error
    prune.on_trial_complete(0, [worse, better, promoted], better)
    assert not (tmp_path / "s0").exists()
    assert (tmp_path / "s1").exists()


def test_memory_follows_the_type_of_the_weights(make_task: Callable[..., Task], base_dir: Path) -> None:
    task = make_task(model=Model(name=str(base_dir)))
    model = Session(task).models.build({}, 0)
    size = sum(p.numel() for p in model.parameters())
    lora = {"r": 2, "q_proj": True}
    for dtype, whole, trained, frozen in (("auto", 6, 12, 2), ("float32", 6, 12, 6), ("bfloat16", 2, 6, 2)):
        of = replace(task, model=Model(name=str(base_dir), dtype=dtype))  # type: ignore[arg-type]
        found = memory_per_gpu(of, model)
        assert (found.weights, found.training) == (whole * size, trained * size)
        assert memory_per_gpu(of, model, lora=lora).weights == frozen * size
