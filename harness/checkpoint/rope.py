"""LongRoPE fields of a config.json: where Transformers and vLLM would differ in silence.

Transformers scales cos and sin by ``attention_factor``, else by
sqrt(1 + ln(factor) / ln(original)); vLLM by the same of max / original,
whatever ``factor`` says. Transformers 4.57 takes ``factor`` as it is and
raises a TypeError without one; 5 takes max / original then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.checkpoint.findings import CheckpointIssue

_LARGE = 1e15  # beyond any length or factor, within what floats count exactly


def rope_parameters(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """``rope_scaling`` of Transformers 4, or ``rope_parameters`` of 5; empty without."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return given if isinstance(given, Mapping) else {}


def check_rope(config: Mapping[str, Any], head_dim: int | None) -> Iterator[CheckpointIssue]:
    """Findings about the position encoding; none unless it is LongRoPE."""
    rope = rope_parameters(config)
    if (rope.get("rope_type") or rope.get("type")) not in ("longrope", "su"):
        return
    yield from _check_lengths(config, rope, head_dim)
    longest = _whole(config.get("max_position_embeddings"))
    outside = config.get("original_max_position_embeddings")
    original = _whole(outside or rope.get("original_max_position_embeddings"))
    if original < 2 or not longest:
        yield CheckpointIssue(
            "error",
            "LongRoPE without original_max_position_embeddings and max_position_embeddings: "
            "engines guess where the long factors begin",
            "take both from the model's own release",
        )
        return
    if original > longest:
        yield CheckpointIssue(
            "error",
            f"LongRoPE's original_max_position_embeddings {original} is above "
            f"max_position_embeddings {longest}",
            "take both from the model's own release",
        )
        return
    yield from _check_scale(rope, longest, original, has_outside=outside is not None)
    if rope.get("long_factor") != rope.get("short_factor") and longest > original:
        yield CheckpointIssue(
            "warning",
            f"long_factor and short_factor differ: vLLM takes the long ones for every position "
            f"once max_model_len is above {original}, Transformers by position",
            f"compare with max_model_len at most {original}, and again above it",
        )


def _check_lengths(
    config: Mapping[str, Any], rope: Mapping[str, Any], head_dim: int | None
) -> Iterator[CheckpointIssue]:
    stated = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor")
    share = float(stated or 1) if _positive(stated) else 1.0
    for name in ("long_factor", "short_factor"):
        factors = rope.get(name)
        if not isinstance(factors, list) or not all(_positive(f) for f in factors):
            yield CheckpointIssue("error", f"LongRoPE's {name} is not a list of positive numbers")
        elif head_dim is not None and len(factors) != int(head_dim * share) // 2:
            yield CheckpointIssue(
                "error",
                f"LongRoPE's {name} has {len(factors)} entries, head_dim {head_dim} asks for "
                f"{int(head_dim * share) // 2}",
                "take the list from the model's own release",
            )


def _check_scale(
    rope: Mapping[str, Any], longest: int, original: int, *, has_outside: bool
) -> Iterator[CheckpointIssue]:
    ratio = longest / original
    factor, attention = rope.get("factor"), rope.get("attention_factor")
    if factor is None and attention is None and not has_outside:
        yield CheckpointIssue(
            "error",
            "LongRoPE without factor: Transformers 4.57 ends with a TypeError",
            f'add "factor": {ratio} to the rope_scaling of config.json',
        )
    if factor is not None and not _positive(factor):
        yield CheckpointIssue("error", f"LongRoPE's factor is {factor!r}, not a positive number")
        return
    theirs = attention_scale(ratio, original)
    ours = attention_scale(factor or ratio, original)
    if _positive(attention):
        ours = float(attention or 0)
    for key in ("short_mscale", "long_mscale"):  # vLLM's own fields win there
        theirs = float(rope[key]) if _positive(rope.get(key)) else theirs
    if not math.isclose(ours, theirs, rel_tol=1e-6):
        stated = f"factor {factor}" if attention is None else f"attention_factor {attention}"
        yield CheckpointIssue(
            "error",
            f"LongRoPE's {stated}: Transformers scales cos and sin by {ours:.4f}, vLLM by "
            f"{theirs:.4f} (from {longest} / {original}): a silent difference",
            f'set "factor": {ratio} unless the model was trained otherwise',
        )


def attention_scale(factor: float, original: int) -> float:
    """What cos and sin are multiplied by, as both engines compute it from a factor."""
    return 1.0 if factor <= 1.0 else math.sqrt(1 + math.log(factor) / math.log(original))


def _whole(value: Any) -> int:
    """A positive whole number; 0 for anything else."""
    return value if type(value) is int and 0 < value < _LARGE else 0


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LARGE
