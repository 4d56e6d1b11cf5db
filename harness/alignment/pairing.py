"""Which output of one file belongs to which of another, where files are not recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.recording.plain import PlainEntry

MatchedBy = Literal["id", "prompt_token_ids", "text", "order"]

_KEYS: tuple[tuple[MatchedBy, Callable[[PlainEntry], Hashable | None]], ...] = (
    ("id", lambda e: e.id),
    ("prompt_token_ids", lambda e: e.prompt_token_ids),
    ("text", lambda e: e.text),
)


@dataclass(frozen=True)
class Pairing:
    """The prompts that two files share, in the baseline's order.

    Attributes:
        pairs: (candidate's entry, baseline's entry).
        missing: of the baseline, without an entry of the candidate.
        surplus: of the candidate, without one of the baseline.
        twice: entries of either side that stand behind one of the same
            prompt and were left out, as (candidate's, baseline's).
    """

    by: MatchedBy
    pairs: tuple[tuple[PlainEntry, PlainEntry], ...]
    missing: tuple[PlainEntry, ...]
    surplus: tuple[PlainEntry, ...]
    twice: tuple[tuple[PlainEntry, ...], tuple[PlainEntry, ...]] = ((), ())


def pair(mine: Sequence[PlainEntry], theirs: Sequence[PlainEntry]) -> Pairing:
    """Match by ids, else by the prompts' token ids, else by their texts, else by order.

    A later key is taken before an earlier one only where it finds more pairs whose
    prompts agree: ids that merely count the requests name other prompts elsewhere.
    """
    found = [_by(name, key, mine, theirs) for name, key in _KEYS]
    best = max(found, key=lambda p: (sum(agree(a, b) for a, b in p.pairs), len(p.pairs)))
    return best if best.pairs else _by_order(mine, theirs)


def agree(mine: PlainEntry, theirs: PlainEntry) -> bool:
    """Whether two entries are of one prompt, as far as both say."""
    if mine.prompt_token_ids is not None and theirs.prompt_token_ids is not None:
        return mine.prompt_token_ids == theirs.prompt_token_ids
    return mine.text is None or theirs.text is None or mine.text == theirs.text


def name_of(entry: PlainEntry, other: PlainEntry, index: int) -> str:
    """What a reader calls a pair: the id of the first that has one, else its place from 1."""
    return entry.id or other.id or f"prompt-{index + 1}"


def _by(
    name: MatchedBy,
    key: Callable[[PlainEntry], Hashable | None],
    mine: Sequence[PlainEntry],
    theirs: Sequence[PlainEntry],
) -> Pairing:
    left, again = _first(key, mine)
    right, repeated = _first(key, theirs)
    return Pairing(
        name,
        tuple((left[k], entry) for k, entry in right.items() if k in left),
        tuple(entry for k, entry in right.items() if k not in left) + _without(key, theirs),
        tuple(entry for k, entry in left.items() if k not in right) + _without(key, mine),
        (again, repeated),
    )


def _first(
    key: Callable[[PlainEntry], Hashable | None], entries: Sequence[PlainEntry]
) -> tuple[dict[Hashable, PlainEntry], tuple[PlainEntry, ...]]:
    """The first entry of each key, and those that come again."""
    seen: Counter[Hashable] = Counter()
    first: dict[Hashable, PlainEntry] = {}
    again = []
    for entry in entries:
        value = key(entry)
        if value is None:
            continue
        seen[value] += 1
        if seen[value] > 1:
            again.append(entry)
        else:
            first[value] = entry
    return first, tuple(again)


def _without(
    key: Callable[[PlainEntry], Hashable | None], entries: Sequence[PlainEntry]
) -> tuple[PlainEntry, ...]:
    return tuple(entry for entry in entries if key(entry) is None)


def _by_order(mine: Sequence[PlainEntry], theirs: Sequence[PlainEntry]) -> Pairing:
    n = min(len(mine), len(theirs))
    pairs = tuple(zip(mine[:n], theirs[:n], strict=True))
    return Pairing("order", pairs, tuple(theirs[n:]), tuple(mine[n:]))
