"""Accuracy on questions: by likelihood among options, or by greedy generation and exact match.

Questions are asked as the domain's rows are trained on: through the tokenizer's chat template where the domain is a
chat (or says `chat=True`), else as plain text. Every rank asks its share, in the same number of passes as the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch

from jobs_ray.lm import evaluation
from jobs_ray.lm.questions import Question
from jobs_ray.lm.session import Session
from jobs_ray.lm.tokens import around, numbered

_MOST_NEW_TOKENS = 512


def count_right(model: Any, session: Session, rank: int = 0, ranks: int = 1) -> torch.Tensor:
    """(right, asked) as a float64 pair, over this rank's share of the questions."""
    spec = session.task.accuracy
    assert spec is not None
    assert session.questions is not None
    closed = [q for q in session.questions if q.options]
    opened = [q for q in session.questions if not q.options]
    size = evaluation.pass_size(model, spec.batch_size, session.task.seq_len)
    right = 0
    if closed:
        right += _right_by_likelihood(model, session, closed, size, rank, ranks)
    if opened:
        right += _right_by_generation(model, session, opened, spec.batch_size, rank, ranks)
    return torch.tensor([right, len(closed[rank::ranks]) + len(opened[rank::ranks])], dtype=torch.float64)


def _right_by_likelihood(model: Any, session: Session, asked: list[Question], size: int, rank: int, ranks: int) -> int:
    pairs = [(question, option) for question in asked[rank::ranks] for option in question.options]
    # ranks have different numbers of options, and a sharded model's forward pass needs every rank
    most = max(sum(len(question.options) for question in asked[r::ranks]) for r in range(ranks))
    pairs += [(asked[0], asked[0].options[0])] * (most - len(pairs))
    scores: list[float] = []
    for start in range(0, most, size):
        scores += _scores(model, session, pairs[start : start + size])
    right = at = 0
    for question in asked[rank::ranks]:
        mine = scores[at : at + len(question.options)]
        at += len(question.options)
        right += question.options[mine.index(max(mine))] == question.answer
    return right


def _scores(model: Any, session: Session, pairs: Sequence[tuple[Question, str]]) -> list[float]:
    """Log-likelihoods of the options after their prompts, a character (length-normalised). An option without a token
    of its own has none: -inf, below those that were asked."""
    rows, tails = [], []
    segments = [[(question.prompt, False), (option, True)] for question, option in pairs]
    for (question, _), (found, learned) in zip(pairs, numbered(segments, session.tokenizer), strict=True):
        ids = (_begin(session.tokenizer, question) + found)[-session.task.seq_len :]
        rows.append(ids)
        tails.append(min(sum(learned), len(ids) - 1))
    longest = max(len(ids) for ids in rows)
    pad = session.tokenizer.pad_token_id or 0
    tokens = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in rows], device=model.device)
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in rows], device=model.device)
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    scores = []
    for at, (ids, tail_length, (_, option)) in enumerate(zip(rows, tails, pairs, strict=True)):
        if not tail_length:
            scores.append(-math.inf)
            continue
        said = torch.log_softmax(logits[at, len(ids) - tail_length - 1 : len(ids) - 1].float(), -1)
        picked = said.gather(1, tokens[at, len(ids) - tail_length : len(ids), None])
        scores.append(float(picked.sum()) / max(len(option), 1))
    return scores


def _right_by_generation(model: Any, session: Session, asked: list[Question], size: int, rank: int, ranks: int) -> int:
    new_tokens = _new_tokens(session, asked)
    mine = asked[rank::ranks]
    most = len(asked[0::ranks])
    padded = mine + [asked[0]] * (most - len(mine))
    said: list[str] = []
    for start in range(0, most, size):
        said += _generate(model, session, padded[start : start + size], new_tokens, together=ranks > 1)
    return sum(_matches(text, question) for text, question in zip(said, mine, strict=False))


def _new_tokens(session: Session, asked: list[Question]) -> int:
    """`Accuracy.max_new_tokens`; by default room for the longest right answer and a quarter more."""
    spec = session.task.accuracy
    assert spec is not None
    if spec.max_new_tokens is not None:
        return spec.max_new_tokens
    longest = max(len(session.tokenizer(q.answer, add_special_tokens=False)["input_ids"]) for q in asked)
    return min(_MOST_NEW_TOKENS, longest + longest // 4 + 8)


def _generate(
    model: Any, session: Session, asked: Sequence[Question], max_new_tokens: int, *, together: bool
) -> list[str]:
    """Greedy answers. together: go on until the last rank has finished (sharded models would hang)."""
    tokenizer = session.tokenizer
    prompts = [tokenizer(question.prompt, add_special_tokens=False)["input_ids"] for question in asked]
    rows = [
        [*_begin(tokenizer, question), *ids][-session.task.seq_len :]
        for question, ids in zip(asked, prompts, strict=True)
    ]
    longest = max(len(ids) for ids in rows)
    pad = tokenizer.pad_token_id or 0
    tokens = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in rows], device=model.device)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in rows], device=model.device)
    made = model.generate(
        input_ids=tokens,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=tokenizer.pad_token_id,
        synced_gpus=together,
    )
    return [str(text) for text in tokenizer.batch_decode(made[:, longest:], skip_special_tokens=True)]


def _begin(tokenizer: Any, question: Question) -> list[int]:
    """What the tokenizer writes before a text, unless a template has written it."""
    return [] if question.templated else around(tokenizer)[0]


def _matches(text: str, question: Question) -> bool:
    """Exact match after normalising; worked solutions count by what follows their '####'. Where the right answer is
    one line the model may go on after it, to another question too: only its first line counts, and of its '####' the
    one that ends its own solution."""
    parts = text.split("####")
    said = parts[min(max(1, question.answer.count("####")), len(parts) - 1)].strip()
    for accepted in question.accepted or (question.answer,):
        right = accepted.split("####")[-1].strip()
        if right and _plain(right) == _plain(said if "\n" in right else said.split("\n")[0]):
            return True
    return False


def _plain(text: str) -> str:
    """In small letters, without articles, punctuation and the commas of thousands; with the articles where nothing else
    is there (the option "A"), as it is where nothing at all is left ("+"): it would be equal to saying nothing."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.lower())
    words = _bare(re.sub(r"[^\w\s.-]", " ", text))
    return _bare(re.sub(r"\b(a|an|the)\b", " ", words)) or words or text.strip()


def _bare(text: str) -> str:
    """One space between words, no full stops around them; .5 is not 5 (but ...5 is)."""
    return re.sub(r"^[ .]*?(?:(?<!\.)(?=\.\d)|(?![ .]))", "", " ".join(text.split()), count=1).rstrip(" .")
