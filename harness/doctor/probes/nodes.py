"""May this user reach the card: device files, driver libraries, permissions."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from harness.doctor.examination import Examination

_MANAGERS = ("davinci_manager", "devmm_svm", "hisi_hdc")
_INSTALLED = re.compile(r"^Driver_Install_Path_Param=(\S+)", re.MULTILINE)


def examine(exam: Examination) -> None:
    """For devices of an Ascend card only."""
    if not exam.for_npu:
        return
    exam.fact("user", "groups", _groups())
    version = (
        exam.host.read(f"{_driver_folder(exam)}/version.info").partition("Version=")[2].split()
    )
    if version and exam.driver is None:
        exam.driver = version[0]
        exam.fact("card", "driver", exam.driver)
    if not exam.has_card:
        if not exam.has("device-permission"):
            exam.find("npu-missing", "no npu-smi, no /dev/davinci*, no Ascend device on PCI")
        return
    _driver(exam)
    _permissions(exam)


def _driver(exam: Examination) -> None:
    devices = exam.host.path("/dev")
    missing = [f"/dev/{name}" for name in _MANAGERS if not (devices / name).exists()]
    if not exam.nodes:
        missing.insert(0, "/dev/davinci0")
    folder = _driver_folder(exam)
    if not any(exam.host.path(folder).glob("lib64/**/libascend_hal.so*")):
        missing.append(f"{folder}/lib64/**/libascend_hal.so")
    if missing:
        exam.find("driver-libraries", f"missing: {', '.join(missing)}")


def _driver_folder(exam: Examination) -> str:
    """Where the driver's installer says that it put it."""
    said = _INSTALLED.search(exam.host.read("/etc/ascend_install.info"))
    return f"{said.group(1) if said else '/usr/local/Ascend'}/driver"


def _permissions(exam: Examination) -> None:
    devices = exam.host.path("/dev")
    names = [*exam.nodes, *(n for n in _MANAGERS if (devices / n).exists())]
    closed = [name for name in names if not exam.host.may_use(devices / name)]
    if closed:
        shown = ", ".join(f"/dev/{name}" for name in closed)
        exam.find(
            "device-permission",
            f"this user may not open {shown} ({_mode(devices / closed[0])})",
        )


def _mode(path: Path) -> str:
    """Mode, owner and group of a file, as ``crw-rw---- HwHiAiUser HwHiAiUser``."""
    try:
        found = path.stat()
    except OSError as error:
        return error.strerror or "not readable"
    return f"{stat.filemode(found.st_mode)} {_user(found.st_uid)} {_group(found.st_gid)}"


def _groups() -> str | None:
    try:
        return " ".join(sorted({_group(g) for g in {*os.getgroups(), os.getegid()}}))
    except (OSError, AttributeError):  # no POSIX
        return None


def _user(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


def _group(gid: int) -> str:
    try:
        import grp

        return grp.getgrgid(gid).gr_name
    except (ImportError, KeyError):
        return str(gid)
