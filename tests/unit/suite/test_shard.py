"""Parts of a suite."""

from __future__ import annotations

import pytest
from factories import fake_suite

from harness.errors import UsageError
from harness.suite.shard import Shard, parse_shard


@pytest.mark.parametrize("of", range(1, 12))
def test_parts_hold_each_prompt_once_and_are_of_like_size(of: int) -> None:
    suite = fake_suite(prompts=11)
    parts = [Shard(number, of).prompts(suite) for number in range(1, of + 1)]
    assert sorted(i for part in parts for i in part) == sorted(p.id for p in suite.prompts)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_more_parts_than_prompts_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--shard 1/3: suite .* has 2 prompts; use at most"):
        Shard(1, 3).prompts(fake_suite(prompts=2))


def test_it_is_written_as_a_fraction() -> None:
    assert parse_shard("3/8") == Shard(3, 8)
    assert str(Shard(3, 8)) == "3/8"


@pytest.mark.parametrize(
    "text",
    ["", "3", "0/8", "9/8", "3/0", "-1/8", "3/8/9", "3 /8", "٣/8", "1e1/20", "3/" + "9" * 99],
)
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write it as 3/8"):
        parse_shard(text)
