"""The requests that a canary is run with, in stages that add one thing at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from harness.canary.expected import prompt
from harness.canary.sizes import Sizes
from harness.devices.base import Keep, Replay, Request

StageName = Literal[
    "prefill", "decode", "batch", "chunked", "prefix", "long", "aborted", "preempted", "after",
    "long_table",
]  # fmt: skip
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
            request of ``decode`` again, after all that; ``long_table``: requests beyond the
            original context of LongRoPE, on a device that chooses the table by position.
        sizes: of the canary, with the table of LongRoPE that its requests need.
        dropped: requests that are begun before, and dropped when the first of them has ended.
    """

    name: StageName
    sizes: Sizes
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
        most_tokens: the longest request that it takes; 0 if that is not known.
        by_position: whether it chooses a table of LongRoPE by the length of each request;
            else by ``most_tokens``, for all.
    """

    one_pass: bool
    batch: int
    budget: int
    rows: bool = True
    cache_tokens: int = 0
    block: int = 0
    most_tokens: int = 0
    by_position: bool = False


def stages(sizes: Sizes, able: Abilities, turn: int = 0) -> Iterator[Stage]:
    """The stages for a device, simple ones first.

    Args:
        turn: of a soak; each has prompts of its own.
    """
    longest = min(sizes.context, able.most_tokens or sizes.context)
    seed, original = turn * _SEEDS, sizes.original_context
    if original is None or longest <= original:
        yield from _Maker(sizes, able, seed, longest - NEW_TOKENS).stages()
        return
    of_long = replace(sizes, table="long")
    if not able.by_position:
        yield from _Maker(of_long, able, seed, longest - NEW_TOKENS).stages()
        return
    yield from _Maker(sizes, able, seed, original - NEW_TOKENS).stages()
    yield _Maker(of_long, able, seed, longest - NEW_TOKENS).beyond(original)


@dataclass(frozen=True)
class _Maker:
    """The requests of one turn."""

    sizes: Sizes
    able: Abilities
    seed: int
    longest: int

    @property
    def least(self) -> int:
        """Tokens of the shortest prompt whose next row depends on nothing before it."""
        return self.sizes.history + 1

    @property
    def keep(self) -> Keep:
        """Whole rows where the device gives them."""
        return "full" if self.able.rows else "statistics"

    def stages(self) -> Iterator[Stage]:
        able, short = self.able, min(self.least + 1, self.longest)
        if able.one_pass:
            yield self.stage("prefill", self.forced(self.least))
        yield self.stage("decode", self.free("alone", short, 2))
        if able.batch > 1:
            yield self.stage("batch", *self.batch())
        if able.budget:
            cut = tuple(self.cut())
            yield self.stage("chunked", *cut)
            yield self.stage("prefix", *self.again(cut))
        if self.longest > short + self.sizes.page_size:
            yield self.stage("long", self.free("long", self.longest, 3))
        if able.batch > 1:
            mixed = self.stage("aborted", *self.mixed("mixed", 400))
            yield replace(mixed, dropped=tuple(self.dropped()))
            full = tuple(self.filling())
            if full:
                yield self.stage("preempted", *full)
            yield self.stage("after", self.free("alone again", short, 2))

    def beyond(self, original: int) -> Stage:
        """Requests that are longer than the original context from their first row on."""
        first = max(self.least, original + 1)
        found = [self.free("beyond", first, 4), self.free("far beyond", self.longest, 5)]
        passes = [self.forced(first)] if self.able.one_pass else []
        return self.stage("long_table", *passes, *found)

    def stage(self, name: StageName, *requests: Request) -> Stage:
        return Stage(name, self.sizes, requests)

    def free(self, name: str, length: int, seed: int, count: int = NEW_TOKENS) -> Request:
        ids = prompt(self.sizes, min(length, self.longest), self.seed + seed)
        return Request(name, ids, "free", count, keep=self.keep)

    def forced(self, least: int) -> Request:
        rows = min(_PREFILL_ROWS, self.longest + NEW_TOKENS - least)
        ids = prompt(self.sizes, least + rows, self.seed + 1)
        first, given = ids[:least], ids[least:]
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
