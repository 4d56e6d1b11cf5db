"""The sizes of attention that a checkpoint's tensors tell, and what a head may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.checkpoint.layout import Layout


@dataclass(frozen=True)
class Facts:
    """What shapes say of a decoder whose attention has queries and keys. Sizes count numbers.

    Attributes:
        query_rows: attention heads × head_dim.
        key_rows: KV heads × head_dim.
        head_dim: where a tensor tells it; plain Llama weights do not.
        teller: the tensor that does.
    """

    hidden: int
    layers: int
    query_rows: int
    key_rows: int
    intermediate: int
    vocabulary: int
    head_dim: int | None
    teller: str = ""


def facts_of(layout: Layout) -> Facts | None:
    """The facts of a layout; None where it has no queries and keys of its own."""
    sizes = layout.sizes
    if not {"hidden", "q", "k", "vocab"} <= sizes.keys():
        return None
    head, teller = None, ""
    if "half" in sizes:
        head, teller = 2 * sizes["half"], "rotary_emb.inv_freq"
    elif "head" in sizes:
        head, teller = sizes["head"], "the norms of queries and keys"
    elif "heads" in sizes and sizes["q"] % sizes["heads"] == 0:
        head, teller = sizes["q"] // sizes["heads"], "the tensors of one number a head"
    return Facts(
        hidden=sizes["hidden"],
        layers=layout.count,
        query_rows=sizes["q"],
        key_rows=sizes["k"],
        intermediate=sizes.get("inner", 0),
        vocabulary=sizes["vocab"],
        head_dim=head,
        teller=teller,
    )


def head_choices(facts: Facts) -> list[tuple[int, int, int]]:
    """What head_dim may be, as (head_dim, heads, KV heads), largest first.

    The weights of a plain Llama hold only the products. What a tensor tells is
    always a choice.
    """
    common = math.gcd(facts.query_rows, facts.key_rows)
    usual = list(range(min(common, 512) // 2 * 2, 15, -2))
    told = [facts.head_dim] if facts.head_dim else []
    return [
        (size, facts.query_rows // size, facts.key_rows // size)
        for size in dict.fromkeys([*told, *usual])
        if common % size == 0 and (facts.query_rows // size) % (facts.key_rows // size) == 0
    ]
