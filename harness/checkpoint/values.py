"""What the numbers of the weights say: those that are not finite, and tensors of zeros."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from harness.checkpoint.blocks import counted
from harness.checkpoint.findings import CheckpointIssue
from harness.checkpoint.headers import Stored

_READ = frozenset({"BF16", "F16", "F32"})
#: What may be all zeros: offsets, scales and biases of quantizers, biases of linears.
_MAY_BE_ZERO = re.compile(r".*(bias|offset|zero_?points?|zeros|scales?|_inv|min|shape|A_log|beta)")


def check_values(
    stored: Sequence[Stored],
    progress: Callable[[str], None] | None,
    *,
    norm_is_one_plus: bool = False,
) -> Iterator[CheckpointIssue]:
    """Read every weight, and tell what is not finite or holds nothing but zeros.

    Args:
        progress: is given the name of each tensor that is read.
        norm_is_one_plus: whether a norm of zeros multiplies by one, as Gemma's does.
    """
    for tensor in stored:
        if tensor.dtype not in _READ:
            continue
        if progress is not None:
            progress(tensor.name)
        broken, dead = _look(tensor)
        if broken:
            yield CheckpointIssue(
                "error",
                f"{tensor.name}: {broken} of {tensor.elements} weights are infinite or no number",
                "download the checkpoint again, or look at the training",
            )
        one_plus = norm_is_one_plus and len(tensor.shape) < 2
        if (
            dead
            and tensor.elements > 1
            and not one_plus
            and not _MAY_BE_ZERO.fullmatch(tensor.name)
        ):
            yield CheckpointIssue(
                "warning",
                f"{tensor.name}: all {tensor.elements} weights are zero, so it computes nothing",
                "download the checkpoint again, unless it was trained so",
            )


def _look(tensor: Stored) -> tuple[int, bool]:
    """How many numbers are infinite or NaN, and whether all are zero."""
    broken = alive = 0
    for bad, nonzero in counted(tensor):
        broken += bad
        alive += nonzero
    return broken, alive == 0
