"""What may be wrong with a model's computation, each as a change with a size.

A size of 0 is the model as it is. Of a scale or an epsilon, 0.02 is two per cent too large; of a
base it is the logarithm of how many times too large; of a rounding or an exchange, 1 is all of
it; of a single weight it is what is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

#: Weights rounded to a narrow format: with a scale for each output row, for each tensor, or
#: for each group of 32 inputs.
Rounding = Literal["int8", "int8_tensor", "fp8", "fp8_tensor", "int4_group"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)

#: Changes of settings, which a pass with the change measures.
Setting = Literal["rope_base", "rope_scale", "norm_epsilon", "kv_int8", "kv_fp8"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)

#: Mistakes of porting that change everything, which are looked at where the error is gross.
Exchange = Literal[
    "bos_added", "bos_missing", "gate_up_exchanged", "norms_exchanged", "rope_interleaved",
    "kv_heads_reversed", "heads_tiled", "bias_missing",
]  # fmt: skip
EXCHANGES: tuple[Exchange, ...] = get_args(Exchange)

#: Scales of a module or a part of it, whose effect one backward pass measures.
Scale = Literal[
    "softmax_scale", "attention", "mlp", "layer", "norm", "linear", "head", "value_head",
    "query_head", "logit_scale", "embedding_scale",
]  # fmt: skip
SCALES: tuple[Scale, ...] = get_args(Scale)

#: Single rows, columns, channels and vectors.
Part = Literal["row", "column", "channel", "embedding_row", "head_row", "weight"]
PARTS: tuple[Part, ...] = get_args(Part)

#: Changes whose natural size is 1: done or not.
WHOLE = (*ROUNDINGS, "kv_int8", "kv_fp8", *EXCHANGES)


@dataclass(frozen=True, order=True)
class Cause:
    """One change of the computation.

    Attributes:
        kind: what is changed: a Rounding, Setting, Exchange, Scale or Part.
        place: the module's name as in Transformers; empty for all layers or the model.
        index: which head, row, column, channel or token id; -1 for the whole; ``column`` of
            a single weight beside its row.
    """

    kind: str
    place: str = ""
    index: int = -1
    column: int = -1

    def __str__(self) -> str:
        where = "".join(f".{i}" for i in (self.index, self.column) if i >= 0)
        place = f" {self.place}" if self.place else ""
        return f"{self.kind}{place}{where and '[' + where[1:] + ']'}"
