"""A device's completions as what was seen, and their tokens beside the right ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.canary.caps import BFLOAT16, capped
from harness.canary.checkpoint import character
from harness.canary.expected import continuation, next_token, states
from harness.canary.layout import READOUT
from harness.canary.observe import Seen, seen
from harness.canary.sizes import Sizes
from harness.canary.stages import Stage
from harness.canary.words import Named, named
from harness.devices.base import Completion, Request

#: Log-probabilities that a server rounds.
_WITHIN = 0.01
_EXACT_STEP = 16.0


@dataclass(frozen=True, eq=False)
class Answer:
    """One request with its completion.

    Attributes:
        rows: None where the device gives no whole rows.
        tokens: those that came.
        right: whether each is what follows the tokens before it.
    """

    request: Request
    completion: Completion
    rows: Seen | None
    tokens: tuple[int, ...]
    right: tuple[bool, ...]


def answer(sizes: Sizes, request: Request, completion: Completion) -> Answer:
    """Judge the tokens of a completion, each after those that really came before it."""
    tokens = completion.token_ids
    if not tokens and completion.text is not None:
        known = {character(i): i for i in range(sizes.vocab_size)}
        tokens = tuple(known.get(c, -1) for c in completion.text)
    given = request.forced_token_ids
    rows = None
    if completion.logits is not None:
        ids = (*request.prompt_token_ids, *tokens[:-1])
        rows = seen(
            sizes,
            request.prompt_id,
            ids,
            completion.logits,
            prompt_tokens=len(request.prompt_token_ids),
            chosen=() if given else tokens,
        )
    right = () if given else _right(sizes, request, tokens)
    return Answer(request, completion, rows, tokens, right)


def _right(sizes: Sizes, request: Request, tokens: tuple[int, ...]) -> tuple[bool, ...]:
    ids = (*request.prompt_token_ids, *tokens[:-1])
    reach = sizes.history + len(tokens) + 1
    tail = [max(0, i) for i in ids[-reach:]]
    found = states(sizes, tail)
    first = len(tail) - len(tokens)
    return tuple(next_token(sizes, found, first + t) == token for t, token in enumerate(tokens))


def from_tokens(sizes: Sizes, stage: Stage, answers: list[Answer]) -> Named | None:
    """What tokens and a server's log-probabilities show; a server gives no rows."""
    count = sum(len(a.tokens) for a in answers)
    wrong = [a for a in answers if not all(a.right)]
    if wrong:
        wrong_count = sum(a.right.count(False) for a in answers)
        others = {a.request.prompt_id: a.tokens for a in answers}
        first = wrong[0]
        true = continuation(sizes, first.request.prompt_token_ids, len(first.tokens))
        for name, tokens in others.items():
            if (
                name != first.request.prompt_id
                and tokens != true
                and _of(sizes, stage, first, name)
            ):
                return named(
                    "batch_rows", prompt=first.request.prompt_id, other=name, rows=wrong_count
                )
        return named("tokens", wrong=wrong_count, count=count, prompt=first.request.prompt_id,
                     row=first.right.index(False))  # fmt: skip
    short = [a for a in answers if len(a.tokens) != a.request.max_new_tokens]
    if short:
        return named("short", prompt=short[0].request.prompt_id, count=len(short[0].tokens),
                     wanted=short[0].request.max_new_tokens)  # fmt: skip
    return _gaps(sizes, answers)


def _of(sizes: Sizes, stage: Stage, first: Answer, name: str) -> bool:
    """Whether the tokens of one request are those of another."""
    other = next(r for r in stage.requests if r.prompt_id == name)
    return first.tokens == continuation(sizes, other.prompt_token_ids, len(first.tokens))


def _gaps(sizes: Sizes, answers: list[Answer]) -> Named | None:
    """Log-probabilities of neighbours in rank are equal, or a step of 16 apart."""
    step, within = _EXACT_STEP, _WITHIN
    if sizes.soft_cap is not None:
        best = np.asarray([READOUT * sizes.bits, READOUT * sizes.bits - _EXACT_STEP])
        first, second = capped(best, sizes.soft_cap, 0.0)
        # A server does not tell the dtype of its logits.
        step, within = float(first - second), 2 * BFLOAT16 * sizes.soft_cap
    for a in answers:
        rows = a.completion.rows
        if rows is None:
            continue
        told = rows.top_logits[:, :9].astype(np.float64)
        gaps = np.abs(told[:, 0] - told[:, 1] - step)
        if rows.top_logits.shape[1] > 1 and (rows.top_ids[:, 1] >= 0).all() and gaps.max() > within:
            return named("gaps", prompt=a.request.prompt_id, error=float(gaps.max()))
    return None
