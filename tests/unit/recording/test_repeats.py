"""What a repeated run says of a device that gives NaN or other masks, or stops early."""

from __future__ import annotations

import numpy as np
import pytest
from factories import RNG, VOCABULARY, Logits, bfloat16, run, told_run

from harness.recording.format import Run
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
        assert {d.cause for d in found.differences} == {"ended"}


def test_after_another_token_nothing_is_compared() -> None:
    other = ROWS.copy()
    other[2, (TOKENS[2] + 1) % VOCABULARY] = ROWS[2].max() + 1
    found = repeat_of("p", run(ROWS), run(other[:4]))
    assert (found.rows_compared, found.rows_equal) == (3, 2)
    assert [d.position for d in found.differences] == [2]
    assert found.differences[0].shift is not None


def chosen(tokens: list[int], rows: Logits = ROWS) -> Run:
    return run(rows, tokens)


def test_other_tokens_from_equal_rows_are_not_the_same() -> None:
    """As a sampler chooses, or an arg-max that does not repeat."""
    other = (TOKENS[2] + 1) % VOCABULARY
    found = repeat_of("p", run(ROWS), chosen([*TOKENS[:2], other, 1, 2, 3]))
    assert (found.rows_compared, found.rows_equal) == (3, 2)
    assert [(d.position, d.shift, d.cause) for d in found.differences] == [(2, None, "token")]


def test_the_first_and_the_last_token_count_too() -> None:
    for at in (0, 5):
        tokens = [*TOKENS]
        tokens[at] = (tokens[at] + 1) % VOCABULARY
        found = repeat_of("p", run(ROWS), chosen(tokens))
        assert [(d.position, d.cause) for d in found.differences] == [(at, "token")]


def test_a_row_that_noise_moved_does_not_explain_a_token_that_it_does_not_prefer() -> None:
    other = ROWS.copy()
    other[2, 7] += 0.01
    tokens = [*TOKENS[:2], int(np.argsort(ROWS[2])[-2]), *TOKENS[3:]]
    found = repeat_of("p", run(ROWS), chosen(tokens, other))
    assert [(d.position, d.shift, d.cause) for d in found.differences] == [(2, None, "token")]


def test_a_row_that_noise_moved_explains_the_token_that_it_prefers() -> None:
    other = ROWS.copy()
    second = int(np.argsort(ROWS[2])[-2])
    other[2, second] = ROWS[2].max() + 0.01
    found = repeat_of("p", run(ROWS), run(other))
    assert [(d.position, d.cause) for d in found.differences] == [(2, None)]
    assert found.differences[0].shift is not None


def test_a_tie_that_falls_otherwise_does_not_repeat_either() -> None:
    tied = ROWS.copy()
    second = int(np.argsort(ROWS[2])[-2])
    tied[2, second] = ROWS[2].max()
    tokens = [int(t) for t in run(tied).token_ids]
    tokens[2] = second if tokens[2] != second else int(ROWS[2].argmax())
    found = repeat_of("p", run(tied), chosen(tokens, tied))
    assert [(d.position, d.cause) for d in found.differences] == [(2, "token")]


def test_a_server_that_rounds_may_show_a_tie_where_there_is_none() -> None:
    rounded = ROWS.copy()
    second = int(np.argsort(ROWS[2])[-2])
    rounded[2, second] = ROWS[2].max()
    tokens = [int(t) for t in told_run(rounded).token_ids]
    tokens[2] = second if tokens[2] != second else int(ROWS[2].argmax())
    found = repeat_of("p", told_run(rounded), told_run(rounded, tokens))
    assert [(d.position, d.shift, d.cause) for d in found.differences] == [(2, 0.0, None)]
    tokens[2] = int(np.argsort(ROWS[2])[-9])
    found = repeat_of("p", told_run(rounded), told_run(rounded, tokens))
    assert [(d.position, d.cause) for d in found.differences] == [(2, "token")]


def test_forced_runs_choose_nothing_so_their_tokens_say_nothing() -> None:
    found = repeat_of("p", run(ROWS, TOKENS, "forced-decode"), run(ROWS, None, "free"))
    assert found.rows_equal == found.rows_compared == 6


def test_another_reason_to_end_is_an_end_elsewhere() -> None:
    for stop in ("eos", "abort", "none"):
        ended = run(ROWS).model_copy(update={"stop": stop})
        found = repeat_of("p", run(ROWS), ended)
        assert [(d.position, d.cause) for d in found.differences] == [(5, "ended")]
        assert repeat_of("p", ended, ended).rows_equal == 6
