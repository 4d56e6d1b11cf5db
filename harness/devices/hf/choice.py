"""Which token follows a row of logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.base import Sampling

Choose = Callable[[NDArray[np.float32]], "int | None"]


def chooser(torch: Any, sampling: Sampling | None) -> Choose:
    """What picks a token from a row; None where the row has no finite logit.

    Sampling is Transformers' own, drawn on the host with a generator of its own,
    so that it repeats independently of the device's other work.
    """
    if sampling is None:
        return arg_max
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    warp = LogitsProcessorList(
        [TemperatureLogitsWarper(sampling.temperature), TopPLogitsWarper(sampling.top_p)]
    )
    generator = torch.Generator().manual_seed(sampling.seed)

    def draw(row: NDArray[np.float32]) -> int | None:
        if not np.isfinite(row).any():
            return None
        finite = np.nan_to_num(row, nan=-np.inf, posinf=np.finfo(np.float32).max, neginf=-np.inf)
        likely = warp(None, torch.from_numpy(finite)[None]).softmax(dim=-1)
        return int(torch.multinomial(likely, 1, generator=generator))

    return draw


def arg_max(row: NDArray[np.float32]) -> int | None:
    """The largest finite logit's id, ties to the lower id; None if none is finite."""
    best = int(np.argmax(row))  # the first of equals; a NaN counts as the largest
    if np.isfinite(row[best]):
        return best
    finite = np.isfinite(row)
    return int(np.argmax(np.where(finite, row, -np.inf))) if finite.any() else None
