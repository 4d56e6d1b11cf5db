"""Fields that scale numbers, under a class that ignores them: another model in silence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.checkpoint.family import Family
from harness.checkpoint.findings import CheckpointIssue

_LARGE = 1e15  # beyond any factor; larger integers do not fit a float

#: How a checkpoint of MiniCPM's own becomes a Llama.
_FOLDING = (
    "fold them: embed_tokens × scale_emb, lm_head ÷ (hidden_size / dim_model_base), "
    "o_proj and down_proj × scale_depth / √num_hidden_layers"
)
#: The factors of muP, and the prefix of what a message calls each family's.
_MUP = ("scale_emb", "dim_model_base", "scale_depth")


def active_multipliers(
    config: Mapping[str, Any], hidden: int, layers: int, head_dim: int | None = None
) -> dict[str, float]:
    """The multipliers of a config.json that change a number.

    Args:
        head_dim: of an attention head; what depends on it is left out where it is None.
    """
    neutral: dict[str, float] = {
        "scale_emb": 1.0,
        "dim_model_base": hidden,
        "scale_depth": math.sqrt(layers),
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "logits_scaling": 1.0,
        "logit_scale": 1.0,
        "attn_logit_softcapping": math.inf,
        "final_logit_softcapping": math.inf,
    }
    if head_dim:
        neutral |= {"attention_multiplier": head_dim**-0.5, "query_pre_attn_scalar": head_dim}
    stated = {key: config.get(key) for key in neutral}
    return {
        key: value
        for key, value in stated.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and value != neutral[key]
        and not (abs(value) < _LARGE and math.isclose(value, neutral[key] or 0, rel_tol=1e-6))
    }


def ignored_multipliers(
    family: Family, config: Mapping[str, Any], hidden: int, layers: int, head_dim: int | None
) -> Iterator[CheckpointIssue]:
    """Active multipliers that the classes of a family do not know."""
    active = active_multipliers(config, hidden, layers, head_dim)
    ignored = {key: value for key, value in active.items() if key not in family.multipliers}
    if not ignored:
        return
    stated = ", ".join(f"{key} {value}" for key, value in ignored.items())
    mup = set(ignored) <= set(_MUP)
    yield CheckpointIssue(
        "error",
        f"{'muP factors' if mup else 'multipliers'} under a {family.name} architecture, "
        f"which ignores them: {stated}",
        _FOLDING if mup else "take architectures and model_type from the model's own release",
    )
