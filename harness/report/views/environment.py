"""What was compared: the arms' facts, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.alignment.result import Alignment, Arm
from harness.files.jsonfile import readable
from harness.report.text import NONE, shortened

#: Facts that open the comparison, as (message, section and field of an arm).
_LEADING = ("device", "dtype", "model", "suite", "replay", "made")


@dataclass(frozen=True)
class EnvironmentRow:
    """A field over the arms: candidate first, then the baseline's.

    ``one_sided`` is a setting that only some engines have, and on which those
    that have it agree: no difference, and nothing that could be compared.
    """

    name: str
    values: tuple[str, ...]
    differs: bool
    one_sided: bool = False


def compared_rows(alignment: Alignment) -> tuple[EnvironmentRow, ...]:
    """The facts that a reader asks for first, of candidate and reference;
    names are keys of messages."""
    arms = [alignment.candidate, *([alignment.reference] if alignment.reference else [])]
    columns = [_leading(arm) for arm in arms]
    return tuple(
        EnvironmentRow(name, values, len(set(values)) > 1)
        for name, values in zip(_LEADING, zip(*columns, strict=True), strict=True)
    )


def _leading(arm: Arm) -> tuple[str, ...]:
    device = arm.device
    processor = arm.environment.get("accelerator") or arm.environment.get("processor")
    if isinstance(processor, str) and processor:
        device += f" ({shortened(processor, 60)})"
    return (device, arm.dtype, arm.model.name, arm.suite.name, arm.replay, moment(arm.created))


def moment(stamp: str) -> str:
    """An ISO 8601 time as a reader likes it; any other text as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d)?(?:\.\d+)?(?:Z|\+00:00)", stamp)
    return f"{found[1]} {found[2]} UTC" if found else stamp


def environment_rows(arms: Sequence[Arm]) -> list[EnvironmentRow]:
    """Every field of every arm; fields come in the order of the first arm that has them."""
    columns = [dict(fields(arm)) for arm in arms]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = []
    for name in names:
        whole = [column.get(name, NONE) for column in columns]
        # Load times are measurements, which always differ.
        unequal = len(set(whole)) > 1 and not name.startswith("load.")
        # A variable that is not set is a setting, too; an engine's own field is not.
        told = {column[name] for column in columns if name in column}
        one_sided = unequal and len(told) == 1 and name.startswith("engine.")
        values = tuple(shortened(v, 300) for v in whole)
        rows.append(EnvironmentRow(name, values, unequal and not one_sided, one_sided))
    return rows


def fields(arm: Arm) -> Iterator[tuple[str, str]]:
    """Every fact of an arm, as a dotted name and a text."""
    document = arm.model_dump(mode="python")
    for name in ("model", "suite", "settings", "overridden", "engine", "environment", "load"):
        yield from _flat(name, document[name])


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, _value(value)


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return readable(value)
