"""The output head beside ``tie_word_embeddings``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.checkpoint.blocks import same_bytes
from harness.checkpoint.family import Fields, classes_of
from harness.checkpoint.findings import Field
from harness.checkpoint.headers import Stored

#: Classes without a head of words: embeddings, classifiers and rewards.
_HEADLESS = re.compile(r".*(Classification|RewardModel)|(?!.*(Chat|Head|LM|Generation)).*Model")


def tied_field(
    head: str,
    embedding: str,
    fields: Fields,
    tensors: Sequence[Stored],
    defaults: Mapping[str, Any],
) -> Field:
    """Whether the head is there, as ``tie_word_embeddings`` says."""
    name, said = "tie_word_embeddings", fields.tied
    stated = said[-1] if said else None
    tied = any(said) if said else bool(defaults.get(name))
    if head and tied and all(said):
        by_name = {t.name: t for t in tensors}
        first, second = by_name.get(embedding), by_name.get(head)
        if first is not None and second is not None and same_bytes(first, second):
            return Field(name, stated, True, "equal", f"{head} repeats the embeddings")
        note = f"{head} is there and differs: vLLM would skip it without a word"
        return Field(name, stated, False, "wrong", note)
    if head:
        return Field(name, stated, False, "equal", "" if stated is not None else "absent: false")
    if tied:
        return Field(name, stated, True, "equal", "" if stated else "absent, or tied outside")
    if any(_HEADLESS.fullmatch(named) for named in classes_of(fields.values)):
        return Field(name, stated, None, "unknown", "its class has no head of words")
    note = "there is no lm_head.weight: it would be filled with random numbers"
    return Field(name, stated, True, "wrong", note)
