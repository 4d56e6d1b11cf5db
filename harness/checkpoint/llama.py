"""The Llama family's tensors: their names, and what their shapes say."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.checkpoint.headers import Stored

EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_REQUIRED = (
    *(f"self_attn.{x}_proj.weight" for x in "qkvo"),
    *(f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")),
    *("input_layernorm.weight", "post_attention_layernorm.weight"),
)
_OPTIONAL = (
    *(f"self_attn.{x}_proj.bias" for x in "qkvo"),
    *(f"mlp.{x}_proj.bias" for x in ("gate", "up", "down")),
    "self_attn.rotary_emb.inv_freq",
)


@dataclass(frozen=True)
class Facts:
    """What names and shapes say of a Llama checkpoint. Sizes count numbers.

    Attributes:
        query_rows: attention heads × head_dim.
        key_rows: KV heads × head_dim.
        head_dim: where a tensor tells it; plain Llama weights do not.
        has_head: whether ``lm_head.weight`` is there.
        attention_bias, mlp_bias: whether these linears have biases.
        problems: shapes that contradict each other, tensors that are missing.
    """

    hidden: int
    layers: int
    query_rows: int
    key_rows: int
    intermediate: int
    vocabulary: int
    head_dim: int | None
    has_head: bool
    attention_bias: bool
    mlp_bias: bool
    problems: tuple[str, ...]


def foreign_names(tensors: Sequence[Stored]) -> list[str]:
    """Names that the Llama family does not have; empty for its members."""
    return [t.name for t in tensors if not _is_known(t.name)]


def _is_known(name: str) -> bool:
    match = _LAYER.fullmatch(name)
    if match is None:
        return name in (EMBEDDING, NORM, HEAD)
    return match[2] in _REQUIRED or match[2] in _OPTIONAL


def derive(tensors: Sequence[Stored]) -> Facts | None:
    """The facts of a Llama checkpoint; None where too little of one is there."""
    shapes = {t.name: t.shape for t in tensors}
    layers: dict[int, set[str]] = {}
    for name in shapes:
        if match := _LAYER.fullmatch(name):
            layers.setdefault(int(match[1]), set()).add(match[2])
    first = f"model.layers.{min(layers, default=0)}."
    needed = [first + x for x in _REQUIRED[:3]] + [first + "mlp.gate_proj.weight", EMBEDDING]
    if any(len(shapes.get(name, ())) != 2 for name in needed):
        return None
    if any(0 in shapes[name] for name in needed):
        return None
    (vocabulary, hidden), (query_rows, _) = shapes[EMBEDDING], shapes[needed[0]]
    frequencies = shapes.get(first + "self_attn.rotary_emb.inv_freq")
    facts = Facts(
        hidden=hidden,
        layers=max(layers) + 1,
        query_rows=query_rows,
        key_rows=shapes[needed[1]][0],
        intermediate=shapes[needed[3]][0],
        vocabulary=vocabulary,
        head_dim=2 * math.prod(frequencies) if frequencies else None,
        has_head=HEAD in shapes,
        attention_bias=first + "self_attn.q_proj.bias" in shapes,
        mlp_bias=first + "mlp.gate_proj.bias" in shapes,
        problems=(),
    )
    problems = (*_missing(facts, layers, shapes), *_misfits(facts, shapes))
    return Facts(**{**facts.__dict__, "problems": problems})


def _missing(
    facts: Facts, layers: dict[int, set[str]], shapes: dict[str, tuple[int, ...]]
) -> list[str]:
    absent = [f"{NORM} is missing"] if NORM not in shapes else []
    for layer in range(facts.layers):
        here = layers.get(layer)
        if here is None:
            absent.append(f"layer {layer} is missing, layer {facts.layers - 1} is there")
            continue
        absent += [f"model.layers.{layer}.{x} is missing" for x in _REQUIRED if x not in here]
    return absent


def expected_shapes(facts: Facts) -> dict[str, tuple[int, ...]]:
    """The shape of each kind of matrix, by the end of its name."""
    hidden, query, key, inner = facts.hidden, facts.query_rows, facts.key_rows, facts.intermediate
    return {
        "self_attn.q_proj.weight": (query, hidden),
        "self_attn.k_proj.weight": (key, hidden),
        "self_attn.v_proj.weight": (key, hidden),
        "self_attn.o_proj.weight": (hidden, query),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }


def _misfits(facts: Facts, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Tensors whose shape contradicts what the first layer and the embedding say."""
    inside = expected_shapes(facts)
    outside = {NORM: (facts.hidden,), HEAD: (facts.vocabulary, facts.hidden)}
    found = []
    for name, shape in shapes.items():
        match = _LAYER.fullmatch(name)
        expected = inside.get(match[2]) if match else outside.get(name)
        if expected is not None and shape != expected:
            found.append(f"{name} is {list(shape)}, the other tensors ask for {list(expected)}")
    return found


def head_choices(facts: Facts) -> list[tuple[int, int, int]]:
    """What head_dim may be, as (head_dim, heads, KV heads), largest first.

    The weights of a plain Llama hold only the products.
    """
    common = math.gcd(facts.query_rows, facts.key_rows)
    return [
        (size, facts.query_rows // size, facts.key_rows // size)
        for size in range(min(common, 512) // 2 * 2, 15, -2)
        if common % size == 0 and (facts.query_rows // size) % (facts.key_rows // size) == 0
    ]
