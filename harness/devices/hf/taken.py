"""What one pass backwards told, while it is under way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import NEIGHBOURS, ROUNDINGS, Cause
from harness.devices.hf.heads import VALUE
from harness.devices.hf.weight_causes import sums_with
from harness.devices.oracle import Answer

#: A scale of these is that of another one too: of the query, the output or ``down_proj``.
_SAME = ("k_proj", "k_norm", VALUE, "up_proj")


@dataclass(eq=False)
class Taken:
    """How one product moves with each cause that was met so far.

    Attributes:
        whole: by cause.
        parts: by kind and place, float32 (rows), of single rows, columns, channels and ids.
    """

    whole: dict[Cause, float] = field(default_factory=dict)
    parts: dict[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)

    def add(self, cause: Cause, value: float) -> None:
        self.whole[cause] = self.whole.get(cause, 0.0) + value

    def add_all(self, found: Iterable[tuple[Cause, float]]) -> None:
        for cause, value in found:
            self.add(cause, value)

    def of_embedding(self, ids: Sequence[int], vectors: Any, gradient: Any, width: int) -> None:
        """By what comes out of it, float32 (tokens, hidden): its weight may be the head's too.

        Args:
            width: how many ids there are.
        """
        each = (vectors * gradient).sum(-1)
        rows = np.zeros(width, np.float32)
        np.add.at(rows, np.asarray(ids), each.numpy())
        self.parts["embedding_row", ""] = rows
        self.add(Cause("embedding_scale"), float(each.double().sum()))

    def of_head(self, logits: Any, gradient: Any, width: int) -> None:
        """By the logits and their gradient, float32 (rows, ids)."""
        head = (logits * gradient).sum(0)[:width]
        self.parts["head_row", ""] = head.numpy().copy()
        self.add(Cause("logit_scale"), float(head.double().sum()))


def finished(taken: Taken) -> Answer:
    """With what sums of others are: layers, and all layers together."""
    whole = dict(taken.whole)
    for cause, value in taken.whole.items():
        for each in sums_with(cause):
            whole[each] = whole.get(each, 0.0) + value
    own = (*ROUNDINGS, *NEIGHBOURS)
    known = {c: v for c, v in whole.items() if not c.place.endswith(_SAME) or c.kind in own}
    return Answer(known, taken.parts)
