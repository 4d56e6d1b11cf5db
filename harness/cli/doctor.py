"""``harness doctor``: the typer face of ``harness.doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.ending import unwritten_by
from harness.doctor.command import ATTACH_RULE, DEEP_HELP, check_limit, error_text, run
from harness.doctor.diagnose import LIMIT_S, deep_refused
from harness.doctor.needs import NEEDS
from harness.errors import UsageError

_Deep = Annotated[bool, typer.Option("--deep", help=f"{DEEP_HELP[0].upper()}{DEEP_HELP[1:]}.")]


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
    deep: _Deep = False,
    bundle: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Also write an archive (zip) to attach to a report of a bug: findings, versions, "
            "variables, the log and what --attach names, without secrets; a new file.",
        ),
    ] = None,
    attach: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="A recording or an alignment for the bundle. Repeatable."
        ),
    ] = None,
) -> None:
    """Say whether this host is ready, what is wrong, and the command that mends it.

    Ends with 1 if a finding is an error. Where nothing is installed:
    python3 -m harness.doctor, from a checkout.

    Example:  harness doctor --device npu --deep

    Example:  harness doctor --log engine.log --bundle report.zip --attach candidate.json
    """
    if attach and bundle is None:
        raise UsageError(ATTACH_RULE)
    if device is not None and device not in NEEDS:
        raise UsageError(f"unknown device {device!r}; this version has {', '.join(NEEDS)}")
    unfit = deep_refused(device) if deep else None
    if unfit is not None:
        raise UsageError(unfit)
    try:
        check_limit(limit_s)
    except ValueError as error:
        raise UsageError(f"--limit-s {error}") from error
    try:
        status = run(
            device, as_json=json, log=log, limit_s=limit_s, deep=deep, bundle=bundle,
            attach=attach or (),
        )  # fmt: skip
    except OSError as error:
        if unwritten_by(error) is not None:
            raise
        raise UsageError(error_text(error)) from error
    raise typer.Exit(status)
