"""What a repeated run says of a device that gives NaN or other masks, or stops early."""

from __future__ import annotations

import numpy as np
import pytest
from factories import RNG, VOCABULARY, Logits, bfloat16, run

from harness.recording.repeats import repeat_of

ROWS: Logits = bfloat16(3 * RNG(5).standard_normal((6, VOCABULARY)))
TOKENS = [int(t) for t in ROWS.argmax(axis=1)]


def test_nan_beside_the_largest_logits_is_a_difference_that_no_noise_explains() -> None:
    other = ROWS.copy()
    other[3, ROWS[3] < np.sort(ROWS[3])[-30]] = np.nan
    found = repeat_of("p", run(ROWS), run(other, TOKENS))
    assert (found.rows_compared, found.rows_equal) == (6, 5)
    assert [(d.position, d.shift) for d in found.differences] == [(3, None)]


def test_the_same_nan_twice_repeats() -> None:
    other = ROWS.copy()
    other[3, 5] = np.nan
    found = repeat_of("p", run(other, TOKENS), run(other, TOKENS))
    assert found.rows_equal == found.rows_compared == 6


@pytest.mark.parametrize("fill", [-100.0, -1e4, -np.inf])
def test_a_mask_of_one_run_alone_is_a_difference_that_no_noise_explains(fill: float) -> None:
    other = ROWS.copy()
    other[3, int(ROWS[3].argmin())] = fill  # beside the largest logits
    for first, again in ((ROWS, other), (other, ROWS)):
        found = repeat_of("p", run(first), run(again))
        assert [(d.position, d.shift) for d in found.differences] == [(3, None)]
    assert repeat_of("p", run(other), run(other)).rows_equal == 6


def test_a_run_that_ends_before_the_other_with_the_same_tokens_differs_from_there() -> None:
    for first, again in ((ROWS, ROWS[:4]), (ROWS[:4], ROWS)):
        found = repeat_of("p", run(first), run(again))
        assert (found.rows_compared, found.rows_equal) == (6, 4)
        assert [(d.position, d.shift) for d in found.differences] == [(4, None), (5, None)]


def test_after_another_token_nothing_is_compared() -> None:
    other = ROWS.copy()
    other[2, (TOKENS[2] + 1) % VOCABULARY] = ROWS[2].max() + 1
    found = repeat_of("p", run(ROWS), run(other[:4]))
    assert (found.rows_compared, found.rows_equal) == (3, 2)
    assert [d.position for d in found.differences] == [2]
    assert found.differences[0].shift is not None
