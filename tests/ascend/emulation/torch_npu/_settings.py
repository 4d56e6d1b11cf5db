"""The variables of the emulation, read once when it is imported (README.md has their table)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What a host's variables ask for.

    Attributes:
        devices: how many NPUs this process sees.
        memory: bytes of each.
        poison: whether fresh memory is filled with NaN.
        soc: the kind of card, as CANN numbers them.
        custom_ops: whether vLLM-Ascend's own kernels can be loaded.
        cann: CANN's version.
        build: the folder for the compiled device; None for the usual ones.
    """

    devices: int
    memory: int
    poison: bool
    soc: int
    custom_ops: bool
    cann: str
    build: Path | None

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Settings:
        """Settings from variables; ValueError where one of them is not a whole number."""
        build = variables.get("NPU_EMU_BUILD")
        present = _number(variables, "NPU_EMU_DEVICES", 1)
        return cls(
            devices=visible(variables.get("ASCEND_RT_VISIBLE_DEVICES"), present),
            memory=_number(variables, "NPU_EMU_MEMORY", 4096) << 20,
            poison=variables.get("NPU_EMU_POISON") == "1",
            soc=_number(variables, "NPU_EMU_SOC", 223),
            custom_ops=variables.get("NPU_EMU_CUSTOM_OPS", "1") == "1",
            cann=variables.get("NPU_EMU_CANN", "8.5.1"),
            build=Path(build) if build else None,
        )


def _number(variables: Mapping[str, str], name: str, default: int) -> int:
    given = variables.get(name, str(default))
    if not given.isdecimal():
        raise ValueError(f"{name}={given}: a whole number is wanted, {default} for example")
    return int(given)


def visible(asked: str | None, present: int) -> int:
    """How many of ``present`` devices ``ASCEND_RT_VISIBLE_DEVICES`` leaves.

    As CANN's runtime counts: the list must ascend and begin with a device that is there,
    else none is visible.
    """
    if asked is None:
        return present
    try:
        ids = [int(part) for part in asked.split(",")]
    except ValueError:
        return 0
    if not ids or ids != sorted(set(ids)) or not 0 <= ids[0] < present:
        return 0
    return sum(each < present for each in ids)


SETTINGS = Settings.read(os.environ)
