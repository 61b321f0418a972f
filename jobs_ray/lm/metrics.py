"""Accuracy on questions: by likelihood among options, or by greedy generation and exact match."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from jobs_ray.lm import domains, formatting
from jobs_ray.lm.errors import DataError
from jobs_ray.lm.formatting import Question
from jobs_ray.lm.session import Session
from jobs_ray.lm.task import Task


def questions(task: Task, tokenizer: Any) -> list[Question]:
    """The first `Accuracy.questions` questions of its domain. Raises DataError when its rows are not questions."""
    spec = task.accuracy
    if spec is None:
        raise DataError("the task has no accuracy metric")
    domain = spec.domain
    rows = domains.load(domain, Path(task.cache_dir))
    kind = domain.format
    if kind == "auto":
        kind = formatting.detect(rows[0], column=domain.column, prompt=domain.prompt, completion=domain.completion)
    rows = rows.select(range(min(spec.questions, len(rows))))
    if kind in formatting.QUESTIONS:
        return [formatting.QUESTIONS[kind](row) for row in rows]
    if kind == "prompt_completion":
        return [Question(r[domain.prompt], r[domain.completion], (), (r[domain.completion].strip(),)) for r in rows]
    raise DataError(f"accuracy needs questions; {kind!r} rows have none (formats: {list(formatting.QUESTIONS)})")


def count_right(model: Any, session: Session, rank: int = 0, ranks: int = 1) -> torch.Tensor:
    """(right, asked) as a float64 pair, over this rank's share of the questions."""
    spec = session.task.accuracy
    assert spec is not None
    assert session.questions is not None
    mine = session.questions[rank::ranks]
    right = 0
    for question in mine:
        if question.options:
            scores = [_score(model, session.tokenizer, question.prompt, o, session) for o in question.options]
            right += question.options[scores.index(max(scores))] == question.answer
        else:
            right += _matches(_generate(model, session, question.prompt, spec.max_new_tokens), question)
    return torch.tensor([right, len(mine)], dtype=torch.float64)


def _score(model: Any, tokenizer: Any, prompt: str, option: str, session: Session) -> float:
    """Log-likelihood of the option after the prompt, a character (length-normalised)."""
    head = _prompt_ids(tokenizer, prompt)
    tail = tokenizer(option, add_special_tokens=False)["input_ids"]
    ids = (head + tail)[-session.task.seq_len :]
    kept = min(len(tail), len(ids) - 1)
    tokens = torch.tensor([ids], device=model.device)
    logits = model(input_ids=tokens, use_cache=False).logits[0, -kept - 1 : -1].float()
    picked = torch.log_softmax(logits, -1).gather(1, tokens[0, -kept:, None])
    return float(picked.sum()) / max(len(option), 1)


def _generate(model: Any, session: Session, prompt: str, max_new_tokens: int) -> str:
    tokenizer = session.tokenizer
    ids = _prompt_ids(tokenizer, prompt)[-session.task.seq_len :]
    tokens = torch.tensor([ids], device=model.device)
    made = model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    return str(tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True))


def _prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    first = tokenizer("")["input_ids"][:1]
    return [t for t in first if t == tokenizer.bos_token_id] + list(ids)


def _matches(text: str, question: Question) -> bool:
    """Exact match after normalising; worked solutions count by what follows their last '####'."""
    said = _plain(text.split("####")[-1] if "####" in text else text.strip().split("\n")[0])
    return said in {_plain(a) for a in (question.accepted or (question.answer,))}


def _plain(text: str) -> str:
    text = re.sub(r"\b(a|an|the)\b", " ", text.lower())
    return " ".join(re.sub(r"[^\w\s.-]", " ", text).split()).strip(" .")
