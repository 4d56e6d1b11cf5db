"""``harness doctor``: the typer face of ``harness.doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.doctor.command import check_limit, run
from harness.doctor.diagnose import LIMIT_S
from harness.doctor.needs import NEEDS
from harness.errors import UsageError


def doctor(
    device: Annotated[
        str | None,
        typer.Option(
            help="The device that the host should be ready for; by default every device found."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    log: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Explain the messages in a log instead; - for stdin."),
    ] = None,
    limit_s: Annotated[float, typer.Option(help="The most seconds for one import.")] = LIMIT_S,
) -> None:
    """Say whether this host is ready, what is wrong, and the command that mends it.

    Ends with 1 if a finding is an error. Where nothing is installed:
    python3 -m harness.doctor, from a checkout.

    Example:  harness doctor --device npu
    """
    if device is not None and device not in NEEDS:
        raise UsageError(f"unknown device {device!r}; this version has {', '.join(NEEDS)}")
    try:
        check_limit(limit_s)
    except ValueError as error:
        raise UsageError(f"--limit-s {error}") from error
    try:
        status = run(device, as_json=json, log=log, limit_s=limit_s)
    except OSError as error:
        raise UsageError(f"--log {log}: {error.strerror}") from error
    raise typer.Exit(status)
