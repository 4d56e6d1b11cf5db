"""The requests that a canary is run with, in stages that add one thing at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from harness.canary.expected import prompt
from harness.canary.sizes import Sizes
from harness.devices.base import Keep, Replay, Request

StageName = Literal[
    "prefill", "decode", "batch", "chunked", "prefix", "long", "aborted", "preempted", "after"
]
#: Tokens that each request generates: enough rows to tell every distance from every other.
NEW_TOKENS = 32
#: Rows of a pass over given tokens.
_PREFILL_ROWS = 256
#: Requests of every round of a soak have tokens of their own.
_SEEDS = 1000
#: A request on a full cache asks for its next block after so many tokens: later than the last
#: of them was let in.
_BEFORE_THE_END = 24


@dataclass(frozen=True)
class Stage:
    """Requests that are handed over together.

    Attributes:
        name: ``prefill``: all rows of one pass; ``decode``: one request alone;
            ``batch``: several; ``chunked``: prompts longer than one step takes;
            ``prefix``: prompts that begin like earlier ones; ``long``: to the end of
            the context; ``aborted``: prompts of mixed lengths after some that were dropped
            halfway; ``preempted``: more tokens than the cache has blocks for; ``after``: the
            request of ``decode`` again, after all that.
        dropped: requests that are begun before, and dropped when the first of them has ended.
    """

    name: StageName
    requests: tuple[Request, ...]
    dropped: tuple[Request, ...] = ()


@dataclass(frozen=True)
class Abilities:
    """What a device can be asked for.

    Attributes:
        one_pass: whether it gives the rows of many given tokens in one pass.
        batch: how many requests it runs at a time.
        budget: tokens that it takes in one step; 0 if a prompt is never cut.
        rows: whether it gives whole rows.
        cache_tokens: what its cache holds; 0 if it cannot be filled, or that is not known.
        block: tokens in a block of its cache.
    """

    one_pass: bool
    batch: int
    budget: int
    rows: bool = True
    cache_tokens: int = 0
    block: int = 0


def stages(sizes: Sizes, able: Abilities, turn: int = 0) -> Iterator[Stage]:
    """The stages for a device, simple ones first.

    Args:
        turn: of a soak; each has prompts of its own.
    """
    return _Maker(sizes, able, turn * _SEEDS).stages()


@dataclass(frozen=True)
class _Maker:
    """The requests of one turn."""

    sizes: Sizes
    able: Abilities
    seed: int

    @property
    def least(self) -> int:
        """Tokens of the shortest prompt whose next row depends on nothing before it."""
        return self.sizes.history + 1

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return self.sizes.context - NEW_TOKENS

    @property
    def keep(self) -> Keep:
        """Whole rows where the device gives them."""
        return "full" if self.able.rows else "statistics"

    def stages(self) -> Iterator[Stage]:
        able, short = self.able, min(self.least + 1, self.longest)
        if able.one_pass:
            yield Stage("prefill", (self.forced(),))
        yield Stage("decode", (self.free("alone", short, 2),))
        if able.batch > 1:
            yield Stage("batch", tuple(self.batch()))
        if able.budget:
            cut = tuple(self.cut())
            yield Stage("chunked", cut)
            yield Stage("prefix", tuple(self.again(cut)))
        if self.longest > short + self.sizes.page_size:
            yield Stage("long", (self.free("long", self.longest, 3),))
        if able.batch > 1:
            yield Stage("aborted", tuple(self.mixed("mixed", 400)), tuple(self.dropped()))
            full = tuple(self.filling())
            if full:
                yield Stage("preempted", full)
            yield Stage("after", (self.free("alone again", short, 2),))

    def free(self, name: str, length: int, seed: int, count: int = NEW_TOKENS) -> Request:
        ids = prompt(self.sizes, min(length, self.longest), self.seed + seed)
        return Request(name, ids, "free", count, keep=self.keep)

    def forced(self) -> Request:
        rows = min(_PREFILL_ROWS, self.sizes.context - self.least)
        ids = prompt(self.sizes, self.least + rows, self.seed + 1)
        first, given = ids[: self.least], ids[self.least :]
        replay: Replay = "forced-prefill"
        return Request("one pass", first, replay, rows, forced_token_ids=given, keep=self.keep)

    def batch(self) -> Iterator[Request]:
        """Prompts of different lengths, so that their positions differ in one step."""
        for number in range(self.able.batch):
            yield self.free(f"batch {number}", self.least + 5 * number, 100 + number)

    def cut(self) -> Iterator[Request]:
        """A border of chunks that even the first layer looks across, and one further away."""
        sizes, least = self.sizes, self.least
        near = max(least, self.able.budget + max(sizes.reads[0]) // 2)
        yield self.free("chunked 0", near, 200)
        yield self.free("chunked 1", max(least, near + sizes.page_size + 3), 201)

    def again(self, before: tuple[Request, ...]) -> Iterator[Request]:
        """The same prompt once more, and prompts that leave it near its end."""
        first, sizes = before[0].prompt_token_ids, self.sizes
        yield Request("prefix 0", first, "free", NEW_TOKENS, keep=self.keep)
        for number, back in enumerate((1, sizes.page_size + 1, max(sizes.reads[0]) // 2), 1):
            end = prompt(sizes, back, self.seed + 300 + number)
            ids = (*first[: len(first) - back], *end)
            yield Request(f"prefix {number}", ids, "free", NEW_TOKENS, keep=self.keep)

    def mixed(self, name: str, seed: int) -> Iterator[Request]:
        """Short and long prompts in turns: some end and others come while more are running."""
        count = self.able.batch + self.able.batch // 2
        for number in range(count):
            share = (number * 3 % count) / count
            length = round(self.least + share * (self.longest - self.least))
            tokens = NEW_TOKENS if number % 2 else NEW_TOKENS // 2
            yield self.free(f"{name} {number}", length, seed + number, tokens)

    def dropped(self) -> Iterator[Request]:
        """One ends after a few tokens; the others are then in their middle, or in their prompt."""
        for number, request in enumerate(self.mixed("dropped", 500)):
            few = NEW_TOKENS if number else 4
            yield replace(request, max_new_tokens=few, keep="statistics")

    def filling(self) -> Iterator[Request]:
        """Prompts that leave fewer blocks of the cache than there are of them, and whose answers
        need one more each. None where the cache holds all that the device runs at a time."""
        block = self.able.block
        if not block or not self.able.cache_tokens:
            return
        blocks = self.able.cache_tokens // block - 1  # engines keep one for themselves
        short = min(_BEFORE_THE_END, block - 1)
        fewest, most = -(-(self.least + short) // block), (self.longest + short) // block
        count = min(self.able.batch, blocks // max(1, fewest))
        taken = [min(most, blocks // max(1, count) + (n < blocks % count)) for n in range(count)]
        if count < 2 or most < fewest or blocks - sum(taken) >= count:
            return
        for number, each in enumerate(taken):
            yield self.free(f"full {number}", each * block - short, 600 + number)
