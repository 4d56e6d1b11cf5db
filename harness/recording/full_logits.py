"""``--logits full``: every row, in a safetensors file beside the recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import FormatError, HarnessError, MissingDependency
from harness.files.atomic import replacing

_INSTALL = "pip install safetensors"


def logits_path(recording: Path) -> Path:
    """``a.json`` has its rows in ``a.logits.safetensors``."""
    return recording.with_name(recording.stem + ".logits.safetensors")


def save_logits(logits: dict[str, NDArray[np.float32]], recording: Path) -> None:
    """Write float32 rows (positions, vocabulary), named ``<prompt id>/<free or
    forced>``. Whole or not at all."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    except ImportError as error:
        raise MissingDependency("safetensors", "--logits full", _INSTALL) from error
    path = logits_path(recording)
    try:
        with replacing(path) as temporary:
            save_file(logits, str(temporary))
    except SafetensorError as error:
        raise HarnessError(f"{path}: cannot be written ({error})") from error


def load_logits(recording: Path) -> dict[str, NDArray[np.float32]]:
    """What :func:`save_logits` wrote."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise MissingDependency("safetensors", "reading full logits", _INSTALL) from error
    path = logits_path(recording)
    try:
        logits: dict[str, NDArray[np.float32]] = load_file(str(path))
    except (OSError, ValueError, SafetensorError) as error:
        raise FormatError(str(path), None, f"cannot be read ({error})") from error
    return logits
