"""The examination: every probe in its order."""

from __future__ import annotations

from harness.doctor.examination import Examination
from harness.doctor.finding import Diagnosis
from harness.doctor.host import Host
from harness.doctor.messages import by_severity
from harness.doctor.needs import NEEDS
from harness.doctor.probes import (
    canary,
    cann,
    hardware,
    imports,
    matching,
    nodes,
    packages,
    variables,
)

#: For one child process. An import of vLLM on a cold disk takes half of it.
LIMIT_S = 60.0


def diagnose(
    device: str | None = None,
    host: Host | None = None,
    *,
    quick: bool = False,
    deep: bool = False,
    limit_s: float = LIMIT_S,
) -> Diagnosis:
    """Examine a host.

    Args:
        device: one of ``harness.devices.registry``; None to examine the host alone.
        host: this machine, unless a test says otherwise.
        quick: start no process: facts and variables only.
        deep: run a model whose every bit is known on the device, last.
        limit_s: the most seconds that one child process may take.

    Raises:
        ValueError: for an unknown device, or one that runs no model to look deep into.
    """
    if device is not None and device not in NEEDS:
        raise ValueError(f"no device {device!r}; there are {', '.join(NEEDS)}")
    unfit = deep_refused(device) if deep else None
    if unfit is not None:
        raise ValueError(unfit)
    exam = Examination(host or Host(), device, limit_s)
    if not quick:
        packages.take_stock(exam)
    hardware.examine(exam)
    nodes.examine(exam)
    variables.examine(exam)
    if not quick:
        cann.examine(exam)
        packages.examine(exam)
        matching.examine(exam)
        imports.examine(exam)
    if deep:
        canary.examine(exam)
    return Diagnosis(device, exam.facts, by_severity(exam.findings))


def deep_refused(device: str | None) -> str | None:
    """Why a device cannot be looked deep into; None if it can."""
    able = [name for name, needs in NEEDS.items() if needs.packages]
    if device in able:
        return None
    return f"--deep runs a model on a device; give --device, one of {', '.join(able)}"
