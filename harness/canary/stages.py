"""The requests that a canary is run with, in stages that add one thing at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from harness.canary.expected import prompt
from harness.canary.sizes import Sizes
from harness.devices.base import Keep, Replay, Request

StageName = Literal["prefill", "decode", "batch", "chunked", "prefix", "long"]
#: Tokens that each request generates: enough rows to tell every distance from every other.
NEW_TOKENS = 32
#: Rows of a pass over given tokens.
_PREFILL_ROWS = 256


@dataclass(frozen=True)
class Stage:
    """Requests that are handed over together.

    Attributes:
        name: ``prefill``: all rows of one pass; ``decode``: one request alone;
            ``batch``: several; ``chunked``: prompts longer than one step takes;
            ``prefix``: prompts that begin like earlier ones; ``long``: to the end of
            the context.
    """

    name: StageName
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Abilities:
    """What a device can be asked for.

    Attributes:
        one_pass: whether it gives the rows of many given tokens in one pass.
        batch: how many requests it runs at a time.
        budget: tokens that it takes in one step; 0 if a prompt is never cut.
        rows: whether it gives whole rows.
    """

    one_pass: bool
    batch: int
    budget: int
    rows: bool = True


def stages(sizes: Sizes, able: Abilities) -> Iterator[Stage]:
    """The stages for a device, simple ones first."""
    least = sizes.history + 1
    keep: Keep = "full" if able.rows else "statistics"
    if able.one_pass:
        yield Stage("prefill", (_forced(sizes, least, keep),))
    short = min(least + 1, sizes.context - NEW_TOKENS)
    yield Stage("decode", (_free(sizes, "alone", short, 2, keep),))
    if able.batch > 1:
        yield Stage("batch", tuple(_batch(sizes, able, least, keep)))
    if able.budget:
        cut = tuple(_cut(sizes, able, least, keep))
        yield Stage("chunked", cut)
        yield Stage("prefix", tuple(_again(sizes, cut, keep)))
    longest = sizes.context - NEW_TOKENS
    if longest > short + sizes.page_size:
        yield Stage("long", (_free(sizes, "long", longest, 3, keep),))


def _free(sizes: Sizes, name: str, length: int, seed: int, keep: Keep) -> Request:
    ids = prompt(sizes, min(length, sizes.context - NEW_TOKENS), seed)
    return Request(name, ids, "free", NEW_TOKENS, keep=keep)


def _forced(sizes: Sizes, least: int, keep: Keep) -> Request:
    rows = min(_PREFILL_ROWS, sizes.context - least)
    ids = prompt(sizes, least + rows, 1)
    replay: Replay = "forced-prefill"
    return Request("one pass", ids[:least], replay, rows, forced_token_ids=ids[least:], keep=keep)


def _batch(sizes: Sizes, able: Abilities, least: int, keep: Keep) -> Iterator[Request]:
    """Prompts of different lengths, so that their positions differ in one step."""
    for number in range(able.batch):
        yield _free(sizes, f"batch {number}", least + 5 * number, 100 + number, keep)


def _cut(sizes: Sizes, able: Abilities, least: int, keep: Keep) -> Iterator[Request]:
    """A border of chunks that even the first layer looks across, and one further away."""
    near = max(least, able.budget + max(sizes.reads[0]) // 2)
    yield _free(sizes, "chunked 0", near, 200, keep)
    yield _free(sizes, "chunked 1", max(least, near + sizes.page_size + 3), 201, keep)


def _again(sizes: Sizes, before: tuple[Request, ...], keep: Keep) -> Iterator[Request]:
    """The same prompt once more, and prompts that leave it near its end."""
    first = before[0].prompt_token_ids
    yield Request("prefix 0", first, "free", NEW_TOKENS, keep=keep)
    for number, back in enumerate((1, sizes.page_size + 1, max(sizes.reads[0]) // 2), 1):
        end = prompt(sizes, back, 300 + number)
        ids = (*first[: len(first) - back], *end)
        yield Request(f"prefix {number}", ids, "free", NEW_TOKENS, keep=keep)
