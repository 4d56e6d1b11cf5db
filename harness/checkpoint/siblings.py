"""Shapes of known models, to recognize a config.json that was copied from a sibling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.checkpoint.llama import Facts


@dataclass(frozen=True)
class Known:
    """A published model; ``kv_heads`` is None where it could not be checked."""

    name: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    kv_heads: int | None
    head_dim: int
    intermediate_size: int
    vocab_size: int


KNOWN = (
    Known("BitCPM4-CANN-1B", 2048, 28, 16, 2, 128, 6144, 73448),
    Known("BitCPM-CANN-3B", 2560, 32, 32, None, 128, 10240, 73448),
    Known("SmolLM2-135M", 576, 30, 9, 3, 64, 1536, 49152),
    Known("SmolLM2-360M", 960, 32, 15, 5, 64, 2560, 49152),
    Known("SmolLM2-1.7B", 2048, 24, 32, 32, 64, 8192, 49152),
)

_COPIED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def of_config(config: Mapping[str, Any]) -> Known | None:
    """The known model whose dimensions a config.json states."""
    return next(
        (k for k in KNOWN if all(config.get(key) == getattr(k, key) for key in _COPIED)), None
    )


def of_weights(facts: Facts) -> Known | None:
    """The known model whose shapes the weights have."""
    for known in KNOWN:
        size = known.head_dim
        kv_rows = facts.key_rows if known.kv_heads is None else known.kv_heads * size
        theirs = (known.hidden_size, known.num_hidden_layers, known.num_attention_heads * size)
        rest = (kv_rows, known.intermediate_size, known.vocab_size)
        mine = (facts.hidden, facts.layers, facts.query_rows)
        if theirs == mine and rest == (facts.key_rows, facts.intermediate, facts.vocabulary):
            return known
    return None
