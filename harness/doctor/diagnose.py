"""The examination: every probe in its order."""

from __future__ import annotations

from harness.doctor.examination import Examination
from harness.doctor.finding import Diagnosis
from harness.doctor.host import Host
from harness.doctor.messages import by_severity
from harness.doctor.needs import NEEDS
from harness.doctor.probes import cann, hardware, imports, matching, nodes, packages, variables

#: For one child process. An import of vLLM on a cold disk takes half of it.
LIMIT_S = 60.0


def diagnose(
    device: str | None = None,
    host: Host | None = None,
    *,
    quick: bool = False,
    limit_s: float = LIMIT_S,
) -> Diagnosis:
    """Examine a host.

    Args:
        device: one of ``harness.devices.registry``; None to examine the host alone.
        host: this machine, unless a test says otherwise.
        quick: start no process: facts and variables only.
        limit_s: the most seconds that one child process may take.

    Raises:
        ValueError: for an unknown device.
    """
    if device is not None and device not in NEEDS:
        raise ValueError(f"no device {device!r}; there are {', '.join(NEEDS)}")
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
    return Diagnosis(device, exam.facts, by_severity(exam.findings))
