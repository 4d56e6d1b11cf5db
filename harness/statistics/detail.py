"""How much of a row a recording keeps, and how rows of two details are made alike.

A narrow sketch is folded from a wide one: the bucket of an id is its hash modulo the number
of buckets, and its sign does not depend on that number (``rows.hashes``). So recordings of
different detail are compared by what both hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.statistics.lazy_rows import LazyRows
from harness.statistics.rows import NORMAL, Detail, RowStatistics

#: By the names that ``--detail`` takes.
DETAILS = {"small": Detail(10, 16), "normal": NORMAL, "large": Detail(20, 1024)}
#: What a row may hold. A margin needs two logits, and a report shows five.
FEWEST_LISTED, MOST_LISTED = 5, 256
FEWEST_BUCKETS, MOST_BUCKETS = 8, 1024

_LISTS = ("top_ids", "top_logits")
_NAMES = tuple(field.name for field in fields(RowStatistics))


def name_of(detail: Detail) -> str:
    """Its name, or what it keeps."""
    named = {known: name for name, known in DETAILS.items()}
    return named.get(detail, f"{detail.buckets} buckets and {detail.listed} logits")


def check_detail(detail: Detail) -> None:
    """Check that it can be folded and judged.

    Raises:
        ValueError: if a row of it holds too few or too many logits or buckets, or if the number
            of buckets is not a power of two.
    """
    listed, buckets = detail.listed, detail.buckets
    if not FEWEST_LISTED <= listed <= MOST_LISTED:
        raise ValueError(f"listed must be {FEWEST_LISTED} to {MOST_LISTED}, not {listed}")
    if not FEWEST_BUCKETS <= buckets <= MOST_BUCKETS or buckets & (buckets - 1):
        raise ValueError(
            f"buckets must be a power of two from {FEWEST_BUCKETS} to {MOST_BUCKETS}, not {buckets}"
        )


def detail_of(rows: RowStatistics) -> Detail | None:
    """The detail of whole rows; None of a server's."""
    if not rows.whole:
        return None
    if isinstance(rows, LazyRows):
        return rows.detail
    assert rows.sketch is not None  # whole
    return Detail(rows.top_ids.shape[1], rows.sketch.shape[1])


def shared(details: Iterable[Detail]) -> Detail | None:
    """What all of these hold; None without any."""
    found = list(details)
    if not found:
        return None
    return Detail(min(d.listed for d in found), min(d.buckets for d in found))


def folded(sketch: NDArray[np.float32], buckets: int) -> NDArray[np.float32]:
    """A sketch (n, w) as one of fewer buckets, float32 (n, buckets): the sketch that the same
    rows have there, but for the rounding of float32.

    Raises:
        ValueError: if ``w`` is not a multiple of it.
    """
    rows, width = sketch.shape
    if width == buckets:
        return sketch
    if width % buckets:
        raise ValueError(f"a sketch of {width} buckets cannot be folded into {buckets}")
    parts = sketch.astype(np.float64).reshape(rows, width // buckets, buckets)
    largest = float(np.finfo(np.float32).max)
    summed = np.clip(parts.sum(axis=1), -largest, largest)
    return np.asarray(summed, np.float32)


def reduced(rows: RowStatistics, detail: Detail) -> RowStatistics:
    """Whole rows with no more than this detail keeps; the same rows where they hold no more,
    and a server's. What stands on the disk is fetched when it is asked for."""
    mine = detail_of(rows)
    if mine is None:
        return rows
    wanted = Detail(min(mine.listed, detail.listed), min(mine.buckets, detail.buckets))
    if wanted == mine:
        return rows

    def column(name: str) -> NDArray[Any]:
        found: NDArray[Any] = getattr(rows, name)
        if name == "sketch":
            return folded(found, wanted.buckets)
        return found[:, : wanted.listed] if name in _LISTS else found

    if isinstance(rows, LazyRows):
        return LazyRows(len(rows), rows.whole, column, wanted)
    return RowStatistics(**{name: column(name) for name in _NAMES})
