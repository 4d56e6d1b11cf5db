"""The positions of a large alignment: on the disk, and read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from harness.alignment.outcomes import PointClass
from harness.alignment.prompt_result import Positions, PromptAlignment, TopTokens
from harness.files.store import Fetch, Store
from harness.recording.format import SHOWN_TOP

#: So many positions of an alignment stay in memory.
IN_MEMORY = 10_000

_CLASSES: tuple[PointClass | None, ...] = (None, *get_args(PointClass))
_TOKENS = ("reference_token", "candidate_token")
_FIGURES = ("margin", "shift", "tolerance", "error", "reference_error")
_TOPS = ("reference_top", "candidate_top")


class KeptPositions(Positions):
    """``Positions``, to whoever reads them; each reading of a list makes it again."""

    _fetch: Fetch = PrivateAttr()

    @classmethod
    def of(cls, positions: Positions, store: Store) -> Positions:
        """The same positions; as they are where a table cannot hold them.

        Raises:
            HarnessError: if the disk does not take them.
        """
        tops = (entry for name in _TOPS for entry in getattr(positions, name))
        if not positions.class_ or any(len(entry) > SHOWN_TOP for entry in tops):
            return positions
        nothing: dict[str, Any] = {}
        kept = cls.model_construct(**nothing)
        kept._fetch = store.keep(_table(positions))
        return kept

    def __getattr__(self, name: str) -> Any:
        if name not in Positions.model_fields:
            return super().__getattr__(name)  # type: ignore[misc]
        return _list_of(self._fetch, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Positions) and self.whole() == other.whole()

    def __hash__(self) -> int:
        return id(self)

    def whole(self) -> Positions:
        names = Positions.model_fields
        return Positions.model_construct(**{name: getattr(self, name) for name in names})


def kept_prompts(prompts: Iterable[PromptAlignment]) -> tuple[PromptAlignment, ...]:
    """The same prompts; the positions beyond the first ``IN_MEMORY`` stand on the disk."""
    return tuple(map(keeper(), prompts))


def keeper() -> Callable[[PromptAlignment], PromptAlignment]:
    """What does so with one prompt after the other."""
    store, seen = Store(), 0

    def keep(prompt: PromptAlignment) -> PromptAlignment:
        nonlocal seen
        seen += len(prompt.positions.class_)
        if seen <= IN_MEMORY:
            return prompt
        return prompt.model_copy(update={"positions": KeptPositions.of(prompt.positions, store)})

    return keep


def _table(positions: Positions) -> dict[str, NDArray[Any]]:
    table: dict[str, NDArray[Any]] = {
        "class_": np.array([_CLASSES.index(c) for c in positions.class_], np.uint8),
        "bit_equal": np.array([-1 if e is None else e for e in positions.bit_equal], np.int8),
    }
    for name in _TOKENS:
        table[name] = np.array(getattr(positions, name), np.int32)
    for name in _FIGURES:  # None is NaN, which no figure is
        table[name] = np.array(getattr(positions, name), np.float64)
    for name in _TOPS:
        rows = getattr(positions, name)
        ids, logits = np.zeros((len(rows), SHOWN_TOP), np.int32), np.zeros((len(rows), SHOWN_TOP))
        for n, row in enumerate(rows):
            ids[n, : len(row)] = [i for i, _ in row]
            logits[n, : len(row)] = [z for _, z in row]
        table |= {f"{name}.count": np.array(list(map(len, rows)), np.uint8)}
        table |= {f"{name}.ids": ids, f"{name}.logits": logits}
    return table


def _list_of(fetch: Fetch, name: str) -> list[Any]:
    if name in _TOPS:
        return _tops(fetch, name)
    found = fetch(name).tolist()
    if name == "class_":
        return [_CLASSES[code] for code in found]
    if name == "bit_equal":
        return [None if code < 0 else bool(code) for code in found]
    return [None if math.isnan(value) else value for value in found]


def _tops(fetch: Fetch, name: str) -> list[TopTokens]:
    columns = (fetch(f"{name}.{part}").tolist() for part in ("count", "ids", "logits"))
    return [
        list(zip(ids[:count], logits[:count], strict=True))
        for count, ids, logits in zip(*columns, strict=True)
    ]
