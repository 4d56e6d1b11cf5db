"""The scope of a judgement: what a candidate was asked, and so what could have been seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.alignment.prompts import followed
from harness.alignment.scope_facts import Scope
from harness.baseline.baseline import Baseline
from harness.messages.message import Message, message
from harness.recording.format import PromptRecord, Recording
from harness.statistics.alike import alike_groups, words_of

__all__ = ["Scope", "alike_warning", "prompt_groups", "scope_of", "scope_rows"]

#: Fewer groups than this share of the prompts are fewer by a lot: at three quarters an
#: interval that takes prompts for independent covers 91 % instead of 95 %.
FEW_GROUPS = 0.75
#: Prompts of a group that a warning names.
_NAMED = 3


def scope_of(candidate: Recording | None, baseline: Baseline | Recording) -> Scope:
    """The scope of a candidate held against a baseline, or against a recording.

    Args:
        candidate: comparable with the baseline; None before it has run: then
            the scope is that of a device that decodes step by step through the
            whole baseline, and what only a device knows is None.
    """
    reference = baseline.reference if isinstance(baseline, Baseline) else baseline
    ran = reference if candidate is None else candidate
    contexts: list[PromptRecord] = []
    lengths: list[int] = []
    ids: set[int] = set()
    first = 0
    for prompt in ran.prompts:
        theirs = reference.prompt(prompt.id)
        if theirs is None:
            continue  # of another suite: not comparable, so nothing of it is judged
        prefill = _prefill(None if candidate is None else prompt, theirs)
        n, start = len(prefill), len(prompt.prompt_token_ids)
        lengths += list(range(start, start + n))
        first += int(prefill.sum())
        ids.update(prompt.prompt_token_ids if n else ())
        ids.update(theirs.run.token_ids[: max(n - 1, 0)])
        contexts.append(theirs)
    engine = None if candidate is None else candidate.engine
    block = None if engine is None else engine.block_size
    groups = prompt_groups(contexts)
    return Scope(
        judged=candidate is not None,
        longest_context=max(lengths, default=0),
        prompts=len(contexts),
        distinct_prompts=len(groups),
        alike=tuple(tuple(contexts[n].id for n in group) for group in groups if len(group) > 1),
        positions=len(lengths),
        prefill_rows=first,
        decode_rows=len(lengths) - first,
        block_size=block,
        rows_beyond_block=None if block is None else sum(n > block for n in lengths),
        ids_fed=len(ids),
        vocabulary=reference.model.vocab_size,
        batch_size=None if engine is None else engine.batch_size,
        chose=None if candidate is None else sum(p.free is not None for p in candidate.prompts),
    )


def prompt_groups(prompts: Sequence[PromptRecord]) -> tuple[tuple[int, ...], ...]:
    """Indices of prompts that are much alike, by their words, or by their token ids
    where there is no text."""
    return alike_groups([words_of(p.text) or p.prompt_token_ids for p in prompts])


def alike_warning(scope: Scope) -> Message | None:
    """What to say where the prompts are far fewer than they seem."""
    if scope.distinct_prompts >= FEW_GROUPS * scope.prompts or not scope.alike:
        return None
    largest = max(scope.alike, key=len)
    names = (*largest[:_NAMED], "...") if len(largest) > _NAMED else largest
    return message(
        "warning.alike",
        prompts=scope.prompts,
        groups=scope.distinct_prompts,
        names=names,
    )


def scope_rows(scope: Scope) -> tuple[tuple[str, Message], ...]:
    """The scope as a table: for each row the key of its name, and what stands there."""
    prompts = {"prompts": scope.prompts}
    alike = scope.distinct_prompts < scope.prompts
    unknown = message("scope.is.unknown" if scope.judged else "scope.is.later")
    block, batch = scope.block_size, scope.batch_size
    share = 100.0 * scope.ids_fed / max(scope.vocabulary, 1)
    return (
        ("scope.context", message("scope.is.context", tokens=scope.longest_context)),
        (
            "scope.prompts",
            message("scope.is.prompts.alike", **prompts, groups=scope.distinct_prompts)
            if alike
            else message("scope.is.prompts", **prompts),
        ),
        (
            "scope.positions",
            message(
                "scope.is.positions",
                positions=scope.positions,
                prefill=scope.prefill_rows,
                decode=scope.decode_rows,
            ),
        ),
        (
            "scope.block",
            unknown
            if block is None
            else message(
                "scope.is.block",
                rows=scope.rows_beyond_block,
                positions=scope.positions,
                block=block,
            ),
        ),
        (
            "scope.ids",
            message("scope.is.ids", ids=scope.ids_fed, vocabulary=scope.vocabulary, percent=share),
        ),
        ("scope.batch", unknown if batch is None else message("scope.is.batch", batch=batch)),
        ("scope.choice", _choice(scope, unknown)),
        ("scope.looks", message("scope.is.looks")),
    )


def _choice(scope: Scope, unknown: Message) -> Message:
    if scope.chose is None:
        return unknown
    if scope.chose == scope.prompts:
        return message("scope.is.choice.all")
    if scope.chose == 0:
        return message("scope.is.choice.none")
    return message("scope.is.choice", free=scope.chose, prompts=scope.prompts)


def _prefill(mine: PromptRecord | None, theirs: PromptRecord) -> NDArray[np.bool_]:
    """bool (n,), the judged positions: whether each came by prefill."""
    if mine is None:
        return np.asarray(np.arange(len(theirs.run.token_ids)) == 0)
    return followed(mine, theirs.run.token_ids)[2]
