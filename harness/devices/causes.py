"""What may be wrong with a model's computation, each as a change with a size.

A size of 0 is the model as it is. Of a scale or an epsilon, 0.02 is two per cent too large; of a
base it is the logarithm of how many times too large; of a rounding or an exchange, 1 is all of
it; of a single weight it is what is added. A soft-cap c bends by
1/c², so its size is how many times too large that is, less one: -1 is no cap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

#: Weights rounded to a narrow format: with a scale for each output row, for each tensor, or
#: for each group of 32 inputs.
Rounding = Literal["int8", "int8_tensor", "fp8", "fp8_tensor", "int4_group"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)

#: Changes of settings, which a pass with the change measures. A window's index is its length.
Setting = Literal[
    "rope_base", "rope_scale", "norm_epsilon", "kv_int8", "kv_fp8", "attention_cap",
    "attention_cap_missing", "attention_cap_added", "final_cap", "final_cap_missing",
    "final_cap_added", "window", "window_missing", "head_tied", "head_untied",
]  # fmt: skip
SETTINGS: tuple[Setting, ...] = get_args(Setting)

#: What a cap that should not be there is measured by: those of Gemma 2.
USUAL_CAPS = {"attention_cap_added": 50.0, "final_cap_added": 30.0}

#: Mistakes of porting that change everything, which are looked at where the error is gross.
Exchange = Literal[
    "bos_added", "bos_missing", "gate_up_exchanged", "norms_exchanged", "rope_interleaved",
    "kv_heads_reversed", "heads_tiled", "bias_missing", "layers_before", "layers_after",
    "layers_turned_before", "layers_turned_after", "decode_behind", "decode_ahead",
    "decode_from_zero", "queries_behind", "queries_ahead",
]  # fmt: skip
EXCHANGES: tuple[Exchange, ...] = get_args(Exchange)

#: Layers run otherwise than once and in their order; of an exchange the index is the other one.
#: They too are looked at where the error is gross.
LayerChange = Literal["layer_skipped", "layer_doubled", "layers_exchanged"]
LAYER_CHANGES: tuple[LayerChange, ...] = get_args(LayerChange)

#: Norms with the weights of the same norm in the next layer, or in the one before. That is never
#: small, so its score names an error which other causes tell, and tells none by itself: along so
#: large a change a correct device's own rounding may be far from the arms'.
Neighbour = Literal["norm_next", "norm_before"]
NEIGHBOURS: tuple[Neighbour, ...] = get_args(Neighbour)

#: Scales of a module or a part of it, whose effect one backward pass measures.
Scale = Literal[
    "softmax_scale", "attention", "mlp", "layer", "norm", "linear", "head", "value_head",
    "query_head", "logit_scale", "embedding_scale", "distance",
]  # fmt: skip
SCALES: tuple[Scale, ...] = get_args(Scale)

#: Where each bucket of distances between two tokens begins; the last has no end.
DISTANCES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)

#: Single rows, columns, channels and vectors.
Part = Literal["row", "column", "channel", "embedding_row", "head_row", "weight"]
PARTS: tuple[Part, ...] = get_args(Part)

#: Changes that are done or not, and with roundings those whose natural size is 1.
DONE = (
    *EXCHANGES, *LAYER_CHANGES, *NEIGHBOURS, "attention_cap_missing", "final_cap_missing",
    "window", "window_missing", "head_tied", "head_untied",
)  # fmt: skip
WHOLE = (*ROUNDINGS, "kv_int8", "kv_fp8", *DONE)


@dataclass(frozen=True, order=True)
class Cause:
    """One change of the computation.

    Attributes:
        kind: what is changed: a Rounding, Setting, Exchange, LayerChange, Neighbour, Scale or
            Part.
        place: the module's name as in Transformers; empty for all layers or the model. Of
            windows and distances a kind of layer, where a model has more than one.
        index: which head, row, column, channel, token id or bucket of ``DISTANCES``; -1 for
            the whole; ``column`` of a single weight beside its row.
    """

    kind: str
    place: str = ""
    index: int = -1
    column: int = -1

    def __str__(self) -> str:
        where = "".join(f".{i}" for i in (self.index, self.column) if i >= 0)
        place = f" {self.place}" if self.place else ""
        return f"{self.kind}{place}{where and '[' + where[1:] + ']'}"
