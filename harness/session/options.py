"""The options of one run of `pytest --device`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """The plugin's options; see ``pytest --help``."""

    device: str
    model: str = "smollm2"
    suite: str = "mixed"
    dtype: str | None = None
    max_new_tokens: int | None = None
    batch_size: int = 1
    engine_args: tuple[str, ...] = ()
    baseline_dir: Path = Path("baselines")
    context: Path | None = None
    allow_weights: bool = False
    allow_dtype: bool = False
    reports: tuple[Path, ...] = ()
    lang: str | None = None
    update_baselines: bool = False
    trust_remote_code: bool = False
    matrix: bool = False
    magnify: bool = False
    no_doctor: bool = False
    server_url: str | None = None
