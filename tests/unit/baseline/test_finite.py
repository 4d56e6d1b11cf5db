"""A reference of NaN is refused, and NaN is the cause that is told."""

from __future__ import annotations

import numpy as np
import pytest
from factories import RNG, Logits, prompt, recording, run

from harness.baseline.finite import check_finite
from harness.errors import BaselineError
from harness.recording.format import Recording

Change = tuple[slice, slice, float]


def arm(*changes: Change, dtype: str = "float16") -> Recording:
    """Two prompts of three rows; the changes are to the second."""
    logits: dict[str, Logits] = {
        name: RNG(i).standard_normal((3, 64)).astype(np.float32) for i, name in enumerate("ab")
    }
    for rows, ids, value in changes:
        logits["b"][rows, ids] = value
    # A row without a number chooses what a device writes there.
    prompts = [prompt(name, run(rows, [0] * 3)) for name, rows in logits.items()]
    return recording(prompts, dtype=dtype)


ALL = slice(None)
WHOLE = (slice(1, 2), ALL, np.nan)
FEW = (slice(2, 3), slice(60, 62), np.inf)
MASK = (ALL, slice(5, 6), -np.inf)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_row_without_a_number_is_refused_at_once(dtype: str) -> None:
    with pytest.raises(BaselineError, match=r"NaN or infinite in 1 of 6 rows.*'b', position 1"):
        check_finite(arm(WHOLE, dtype=dtype))


def test_an_overflow_in_part_of_a_row_is_what_the_oracle_lacks() -> None:
    check_finite(arm(FEW))  # nobody knows yet
    with pytest.raises(BaselineError, match=r"float16 overflows.*bfloat16 or float32"):
        check_finite(arm(FEW), arm(dtype="float32"))


def test_a_mask_of_the_model_is_no_overflow() -> None:
    check_finite(arm(MASK), arm(MASK, dtype="float32"))
    with pytest.raises(BaselineError, match="1 of 6 rows"):
        check_finite(arm(MASK, FEW), arm(MASK, dtype="float32"))


def test_numbers_pass() -> None:
    check_finite(arm(), arm(dtype="float32"))
