"""Whether a reference's logits are numbers. NaN compares false with everything."""

from __future__ import annotations

import numpy as np

from harness.errors import BaselineError
from harness.recording.format import Recording
from harness.statistics.rows import NO_TOKEN


def check_finite(reference: Recording, oracle: Recording | None = None) -> None:
    """Refuse a reference that overflowed.

    A row without a finite logit is refused at once. One with some is refused where the
    oracle, which computes in float32, has fewer of them: a model may write −inf where a
    token must never come, but then it does so in every dtype.

    Raises:
        BaselineError: naming the first prompt and position, and how many rows.
    """
    bad, rows, first = 0, 0, ""
    for prompt in reference.prompts:
        mine = prompt.run.rows
        wrong = (mine.nonfinite > 0) & (mine.top_ids[:, 0] == NO_TOKEN)
        beside = None if oracle is None else oracle.prompt(prompt.id)
        if beside is not None:
            truth = beside.on(prompt.run.token_ids).rows
            wrong |= mine.nonfinite > truth.nonfinite
        bad, rows = bad + int(wrong.sum()), rows + len(mine)
        if wrong.any() and not first:
            first = f"prompt {prompt.id!r}, position {int(np.argmax(wrong))}"
    if not bad:
        return
    wider = "bfloat16 or float32" if reference.dtype == "float16" else "float32"
    mend = (
        "look for NaN and infinities in the weights"
        if reference.dtype == "float32"
        else f"{reference.dtype} overflows on this model, or its weights hold them; "
        f"give --dtype {wider}"
    )
    raise BaselineError(
        f"the reference's logits are NaN or infinite in {bad} of {rows} rows, first in {first}, "
        f"so nothing can be compared with it: {mend}"
    )
