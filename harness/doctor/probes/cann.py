"""CANN and NNAL: installed, of which version, and in the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.doctor.examination import Examination
from harness.doctor.host import read_text

_PLACES = ("ascend-toolkit", "cann", "cann-*", "ascend-toolkit/latest")
_VERSION = re.compile(r"^(?:version|Version)\s*[=:]\s*\[?([0-9][^\s\]:]*)", re.MULTILINE)


def examine(exam: Examination) -> None:
    """For devices of an Ascend card, where there is one or packages for one."""
    if not exam.for_npu:
        return
    home = exam.host.variable("ASCEND_HOME_PATH") or exam.host.variable("ASCEND_TOOLKIT_HOME")
    exam.cann = _toolkit_version(exam.host.path(home)) if home else None
    exam.fact("software", "CANN", exam.cann)
    exam.fact("software", "NNAL", _nnal_version(exam))
    if exam.has_card or "torch_npu" in exam.versions:
        _toolkit(exam, home)
        if "vllm_ascend" in exam.versions and not exam.has("cann-environment"):
            _nnal(exam)


def installed_cann() -> str | None:
    """The version of this host's CANN, as the variables name it; None where they do not."""
    home = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME")
    return _toolkit_version(Path(home)) if home else None


def set_env(exam: Examination) -> str | None:
    """Where CANN's own script is, as the host names it."""
    return _script(exam, *(f"{place}/set_env.sh" for place in _PLACES))


def nnal_env(exam: Examination) -> str | None:
    """Where NNAL's own script is."""
    return _script(exam, "nnal/atb/set_env.sh")


def values(exam: Examination) -> dict[str, str]:
    """What the remedies name, where the host has it."""
    found = {"set_env": set_env(exam), "nnal_env": nnal_env(exam)}
    return {name: value for name, value in found.items() if value is not None}


def _toolkit(exam: Examination, home: str | None) -> None:
    script = set_env(exam)
    if home is None:
        where = f"{script} is there" if script else "CANN is not in /usr/local/Ascend either"
        exam.find(
            "cann-environment", f"ASCEND_HOME_PATH is not set; {where}", **_toolkit_values(script)
        )
    elif not exam.host.path(home).is_dir():
        exam.find(
            "cann-environment", f"ASCEND_HOME_PATH={home} does not exist", **_toolkit_values(script)
        )
    elif not _on_library_path(exam, home):
        exam.find(
            "cann-environment",
            f"LD_LIBRARY_PATH has no folder of {home}",
            **_toolkit_values(script),
        )


def _toolkit_values(script: str | None) -> dict[str, str]:
    install = (
        "/usr/local/Ascend/ascend-toolkit/set_env.sh # after installing CANN: "
        "./Ascend-cann-toolkit_*.run --install, and the ops package of the card"
    )
    return {"set_env": script or install}


def _on_library_path(exam: Examination, home: str) -> bool:
    """By the folder's name, and by where it leads: ``latest`` is a link."""
    real = _real(exam.host.path(home))
    entries = (_real(exam.host.path(entry)) for entry in _library_path(exam))
    return any(entry.is_relative_to(real) for entry in entries)


def _library_path(exam: Examination) -> list[str]:
    return [e for e in (exam.host.variable("LD_LIBRARY_PATH") or "").split(os.pathsep) if e]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _nnal(exam: Examination) -> None:
    home = exam.host.variable("ATB_HOME_PATH")
    if any((exam.host.path(entry) / "libatb.so").exists() for entry in _library_path(exam)):
        return
    if home is None:
        exam.find("nnal", "ATB_HOME_PATH is not set", **values(exam))
    elif not exam.host.path(home).is_dir():
        exam.find("nnal", f"ATB_HOME_PATH={home} does not exist", **values(exam))
    else:
        exam.find("nnal", "no folder of LD_LIBRARY_PATH has libatb.so", **values(exam))


def _toolkit_version(home: Path) -> str | None:
    return _version(home, "ascend_*_install.info")


def _nnal_version(exam: Examination) -> str | None:
    home = exam.host.variable("ATB_HOME_PATH")
    if not home:
        return None
    folder = exam.host.path(home)
    for place in (folder, *list(folder.parents)[:2]):
        for pattern in ("ascend_nnal_install.info", "version.info"):
            found = _version(place, pattern)
            if found is not None:
                return found
    return None


def _script(exam: Examination, *patterns: str) -> str | None:
    home = exam.host.variable("HOME")
    for folder in ("/usr/local/Ascend", *([f"{home}/Ascend"] if home else [])):
        for pattern in patterns:
            for path in sorted(exam.host.path(folder).glob(pattern), reverse=True):
                return f"{folder}/{path.relative_to(exam.host.path(folder)).as_posix()}"
    return None


def _version(folder: Path, pattern: str) -> str | None:
    """The version in the first such file, in the folder or one below (by architecture)."""
    for path in (*sorted(folder.glob(pattern)), *sorted(folder.glob(f"*/{pattern}"))):
        found = _VERSION.search(read_text(path))
        if found is not None:
            return found.group(1)
    return None
