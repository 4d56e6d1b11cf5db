"""The options of one run of `pytest --device`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.devices.spec import DeviceSpec


@dataclass(frozen=True)
class RunOptions:
    """The plugin's options; see ``pytest --help``."""

    spec: DeviceSpec
    suite: str = "mixed"
    max_new_tokens: int | None = None
    baseline_dir: Path = Path("baselines")
    context: Path | None = None
    allow_weights: bool = False
    allow_dtype: bool = False
    reports: tuple[Path, ...] = ()
    lang: str | None = None
    update_baselines: bool = False
    matrix: bool = False
    magnify: bool = False
    no_doctor: bool = False
