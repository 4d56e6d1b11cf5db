"""Reading ``npu-smi info``, whose columns differ in width between drivers.

Two rows a chip: NPU, name, health, power, temperature; then chip, bus id,
AICore, memory, HBM. An A3 has two chips under one NPU.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.doctor.numbers import whole

_BUS = re.compile(r"^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]$")
_USAGE = re.compile(r"(\d+)\s*/\s*(\d+)")  # `3419 / 65536`, and `27547/ 65536`
_VERSION = re.compile(r"npu-smi\s+\S+\s+Version:\s*(\S+)")
_A3 = re.compile(r"93(?:91|92|81|82|72|62)")
#: Names of chips, in the order in which they are looked for.
_KINDS = (
    ("A3", _A3),
    ("A2", re.compile(r"910B\d")),
    ("310P", re.compile(r"310P")),
    ("A5", re.compile(r"(?<!\d)950")),
)
#: The kinds of card, each with a wheel of its own.
KINDS = frozenset(kind for kind, _ in _KINDS)


@dataclass(frozen=True)
class Chip:
    """One chip, as npu-smi shows it; None where it shows none.

    ``aicore`` is a percentage, memory is in MB.
    """

    npu: int
    chip: int
    name: str
    health: str
    temperature: int | None
    aicore: int | None
    used_mb: int | None
    total_mb: int | None

    @property
    def free_share(self) -> float | None:
        """The free part of its memory, 0 to 1."""
        if self.used_mb is None or not self.total_mb:
            return None
        return 1.0 - self.used_mb / self.total_mb


def parse(text: str) -> tuple[str | None, tuple[Chip, ...]]:
    """The driver's version and the chips of ``npu-smi info``."""
    version = _VERSION.search(text)
    chips: list[Chip] = []
    head: list[list[str]] | None = None
    for line in text.splitlines():
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 3 or not all(cells) or whole(cells[0][0]) is None:
            continue
        if _BUS.match(cells[1][0]):
            if head is not None:
                chips.append(_chip(head, cells))
            head = None
        elif len(cells[0]) > 1:
            head = cells
    return (version.group(1) if version else None), tuple(chips)


def _chip(head: Sequence[Sequence[str]], row: Sequence[Sequence[str]]) -> Chip:
    usages = [(whole(a), whole(b)) for a, b in _USAGE.findall(" ".join(row[2]))]
    used, total = next(((a, b) for a, b in reversed(usages) if b), (None, None))
    return Chip(
        npu=whole(head[0][0]) or 0,
        chip=whole(row[0][0]) or 0,
        name=" ".join(head[0][1:]),
        health=" ".join(head[1]),
        temperature=_number(head[2], 1),
        aicore=_number(row[2], 0),
        used_mb=used,
        total_mb=total,
    )


def _number(tokens: Sequence[str], index: int) -> int | None:
    return whole(tokens[index]) if index < len(tokens) else None


def kind_of(chips: Sequence[Chip]) -> str | None:
    """``A2``, ``A3``, ``310P`` or ``A5`` (950), as vLLM-Ascend divides them; None where the
    names do not tell.

    npu-smi calls the chips of an A3 ``Ascend910``, two to an NPU; the runtime
    names them 910_93xx, also inside of ``910B (A2 9362)``.
    """
    for chip in chips:
        for kind, name in _KINDS:
            if name.search(chip.name):
                return kind
    per_npu = Counter(chip.npu for chip in chips)
    return "A3" if per_npu and max(per_npu.values()) > 1 else None
