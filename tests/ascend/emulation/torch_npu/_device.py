"""Builds and loads ``csrc/device.cpp``: once for each torch, Python and source."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import torch

from torch_npu._settings import SETTINGS

_SOURCE = Path(__file__).parent / "csrc" / "device.cpp"
_NAME = "torch_npu_device"


def _load() -> ModuleType:
    text = _SOURCE.read_bytes() + torch.__version__.encode() + sys.version.encode()
    key = hashlib.sha256(text).hexdigest()[:16]
    name = Path(key) / f"{_NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"
    places = _places()
    built = next((place / name for place in places if (place / name).exists()), None)
    spec = importlib.util.spec_from_file_location(_NAME, built or _make(places, name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _places() -> list[Path]:
    """Where a built library may lie: the given folder only, or the environment's own, then
    the user's cache."""
    if SETTINGS.build:
        return [SETTINGS.build]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(sys.prefix) / "share" / "torch_npu_emu", cache / "torch_npu_emu"]


def _make(places: list[Path], name: Path) -> Path:
    """Build into the first place that can be written to."""
    for place in places:
        library = place / name
        try:
            library.parent.mkdir(parents=True, exist_ok=True)
            lock = library.with_name("lock").open("w")
        except OSError:
            continue
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not library.exists():
                _build(library)
        return library
    tried = " or ".join(map(str, places))
    raise OSError(f"cannot write the compiled device to {tried}: set NPU_EMU_BUILD to a folder")


def _build(library: Path) -> None:
    root = Path(torch.__file__).parent
    includes = [root / "include", root / "include/torch/csrc/api/include"]
    includes.append(Path(sysconfig.get_paths()["include"]))
    part = library.with_suffix(".part")
    command = [
        os.environ.get("CXX", "c++"), "-shared", "-fPIC", "-std=c++17", "-O1", "-w",
        f"-DTORCH_EXTENSION_NAME={_NAME}", "-DTORCH_API_INCLUDE_EXTENSION_H",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
        *(f"-isystem{folder}" for folder in includes),
        str(_SOURCE), "-o", str(part),
        f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    part.rename(library)


lib = _load()
lib.configure(SETTINGS.devices, SETTINGS.memory, SETTINGS.poison)
