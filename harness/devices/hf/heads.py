"""Heads of attention: the sums over each, and the weights that a change of one scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import Cause

#: The projections' names: out of attention, and into queries and values.
OUT, QUERY, VALUE = "o_proj", "q_proj", "v_proj"


@dataclass(frozen=True)
class Heads:
    """The heads of attention, and their width."""

    queries: int
    values: int
    width: int

    @staticmethod
    def of(config: Any) -> Heads:
        """Those of a text config."""
        queries = int(config.num_attention_heads)
        values = int(getattr(config, "num_key_value_heads", None) or queries)
        width = getattr(config, "head_dim", None) or config.hidden_size // queries
        return Heads(queries, values, int(width))

    def of_projection(
        self, place: str, rows: NDArray[np.float32], columns: NDArray[np.float32]
    ) -> Iterator[tuple[Cause, float]]:
        """The sums over single heads."""
        attention, _, name = place.rpartition(".")
        sums = {OUT: columns, QUERY: rows, VALUE: rows}.get(name)
        kind = {OUT: "head", QUERY: "query_head", VALUE: "value_head"}.get(name)
        heads = self.values if name == VALUE else self.queries
        if sums is None or kind is None or len(sums) != heads * self.width:
            return
        each = sums.astype(np.float64).reshape(heads, self.width).sum(axis=1)
        for index, value in enumerate(each):
            yield Cause(kind, attention, index), float(value)

    def scale_of(self, torch: Any, cause: Cause, place: str, weight: Any, size: float) -> Any:
        """What a projection's weight is multiplied by; None where it is another one."""
        name = {"head": OUT, "query_head": QUERY, "value_head": VALUE}[cause.kind]
        if place != f"{cause.place}.{name}" or weight.dim() != 2:
            return None
        axis = 1 if cause.kind == "head" else 0
        scale = torch.ones(weight.shape[axis])
        scale[cause.index * self.width : (cause.index + 1) * self.width] += size
        return scale[None] if axis else scale[:, None]
