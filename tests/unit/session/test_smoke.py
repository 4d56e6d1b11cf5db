from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.devices.base import Completion, Request, Sampling, Stop, Timings
from harness.devices.fake import FakeDevice
from harness.session.smoke import STUCK, Sampled, longest_run, problem_of


def sampled(
    tokens: tuple[int, ...], again: tuple[int, ...] | None = None, stop: Stop = "length"
) -> Sampled:
    first = Completion("p", tokens, stop, None, Timings(1.0, (), 1.0))
    second = replace(first, token_ids=tokens if again is None else again)
    return Sampled("p", first, second, limit=100, text="text")


@pytest.mark.parametrize(
    "good",
    [
        sampled((1, 2, 3)),
        sampled((7,), stop="eos"),
        sampled((1, 2) * 50),
        sampled((1, *(5,) * (STUCK - 1), 2)),
    ],
)
def test_sense_passes(good: Sampled) -> None:
    assert problem_of(good) is None


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (sampled((1, 2, 0), stop="nonfinite"), "not finite within 3 tokens"),
        (sampled(()), "did not end as asked: 0 tokens"),
        (sampled(tuple(range(101))), "101 tokens of at most 100"),
        (sampled((5, 5, 5)), "one token 3 times in a row: 'text'"),
        (sampled((1, 2, *(5,) * STUCK, 3)), f"one token {STUCK} times"),
        (sampled((1, 2, 3), (1, 2, 4)), "other tokens from position 2 on"),
        (sampled((1, 2, 3), (1, 2)), "other tokens from position 2 on"),
    ],
)
def test_nonsense_is_named(bad: Sampled, told: str) -> None:
    assert told in (problem_of(bad) or "")


def test_the_longest_run_counts_neighbours_only() -> None:
    assert longest_run(()) == 0
    assert longest_run((1, 1, 2, 1, 1, 1)) == 3


def test_a_fake_draws_by_its_seed() -> None:
    device = FakeDevice()
    device.open()

    def drawn(seed: int) -> Completion:
        request = Request("p", (1, 2), "free", 6, sampling=Sampling(0.7, 0.9, seed))
        [completion] = device.generate([request])
        return completion

    assert drawn(0).token_ids == drawn(0).token_ids != drawn(1).token_ids
    greedy = next(iter(device.generate([Request("p", (1, 2), "free", 6)])))
    assert drawn(0).token_ids != greedy.token_ids
    assert drawn(0).rows is not None
    assert greedy.rows is not None
    assert np.array_equal(drawn(0).rows.digest[0], greedy.rows.digest[0])  # type: ignore[union-attr]
