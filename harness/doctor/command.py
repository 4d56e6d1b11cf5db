"""The command: shared by ``harness doctor`` and ``python3 -m harness.doctor``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from harness.doctor.diagnose import LIMIT_S, deep_refused, diagnose
from harness.doctor.finding import Diagnosis
from harness.doctor.messages import explain
from harness.doctor.needs import NEEDS
from harness.doctor.text import findings_text, render
from harness.errors import log_json

#: A day; the clock of a wait overflows somewhere above.
MOST_LIMIT_S = 86_400.0
DEEP_HELP = (
    "at last, run a small model on the device whose every bit is known (harness canary): takes "
    "the start of its engine and some seconds"
)
BUNDLE_HELP = (
    "also write an archive (zip) to attach to a report of a bug: findings, versions, variables, "
    "the log, and what --attach names, without secrets; a new file"
)
ATTACH_HELP = "a recording or an alignment for the bundle; repeatable"
ATTACH_RULE = "--attach goes into a bundle: give --bundle too"
BUNDLE_EXAMPLE = "--device npu --log engine.log --bundle report.zip --attach candidate.json"
LIMIT_RULE = f"give seconds from 1 to {MOST_LIMIT_S:.0f}"


def main(arguments: list[str]) -> int:
    """Run with command-line arguments; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m harness.doctor",
        description="Is this host ready for a device? Findings, and the commands that mend them.",
        epilog="Exit status: 0 ready; 1 with an error among the findings; 2 wrong usage. "
        f"Example of a report of a bug: python3 -m harness.doctor {BUNDLE_EXAMPLE}",
    )
    parser.add_argument("--device", choices=sorted(NEEDS), help="what it should be ready for")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--log", metavar="FILE", help="explain the messages in a log instead; - for stdin"
    )
    parser.add_argument(
        "--limit-s", type=_limit, default=LIMIT_S, help="seconds for one import (default: 60)"
    )
    parser.add_argument("--deep", action="store_true", help=DEEP_HELP)
    parser.add_argument("--bundle", metavar="FILE", help=BUNDLE_HELP)
    parser.add_argument("--attach", metavar="PATH", action="append", default=[], help=ATTACH_HELP)
    given = parser.parse_args(arguments)
    if given.attach and not given.bundle:
        parser.error(ATTACH_RULE)
    unfit = deep_refused(given.device) if given.deep else None
    if unfit is not None:
        parser.error(unfit)
    if hasattr(sys.stdout, "reconfigure"):  # a terminal's encoding may lack what is shown
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return run(
            given.device,
            as_json=given.json,
            log=given.log,
            limit_s=given.limit_s,
            deep=given.deep,
            bundle=given.bundle,
            attach=given.attach,
        )
    except OSError as error:
        sys.stderr.write(f"harness: error: {error_text(error)}\n")
        return 2


def _limit(text: str) -> float:
    """``--limit-s``, read as ``check_limit`` says."""
    try:
        return check_limit(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {LIMIT_RULE}") from error


def check_limit(limit_s: float) -> float:
    """The limit, if a process can be waited for so long.

    Raises:
        ValueError: if not.
    """
    if not 1 <= limit_s <= MOST_LIMIT_S:  # nan, too
        raise ValueError(f"{limit_s:g}: {LIMIT_RULE}")
    return limit_s


def run(
    device: str | None,
    *,
    as_json: bool = False,
    log: str | None = None,
    limit_s: float = LIMIT_S,
    deep: bool = False,
    bundle: str | None = None,
    attach: Sequence[str] = (),
    out: TextIO | None = None,
) -> int:
    """Examine this host, or explain a log, and print what was found.

    With ``bundle`` it does both, and writes an archive of that name with
    the files of ``attach``; what it holds is printed after the findings, with ``as_json``
    to stderr.

    Raises:
        OSError: if the log cannot be read, or the archive not written.
    """
    out = out or sys.stdout
    if bundle is not None:
        examined = partial(diagnose, device, limit_s=limit_s, deep=deep)
        return _bundle(Path(bundle), device, examined, log, attach, as_json=as_json, out=out)
    if log is None:
        diagnosis = diagnose(device, limit_s=limit_s, deep=deep)
    else:
        diagnosis = Diagnosis(device, findings=explain(_text(_read(log))))
    _print(out, diagnosis, as_json=as_json, of_log=log is not None)
    return diagnosis.status


def _bundle(
    path: Path,
    device: str | None,
    examined: Callable[[], Diagnosis],
    log: str | None,
    attach: Sequence[str],
    *,
    as_json: bool,
    out: TextIO,
) -> int:
    """Examine the host, explain the log, and write both with what is attached."""
    from harness.doctor.archive import check_free
    from harness.doctor.bundle import Wanted, write_bundle

    check_free(path)  # the examination takes a minute
    data, problem, told = None, "", None
    if log is not None:
        try:
            data = _read(log)
            told = Diagnosis(device, findings=explain(_text(data)))
        except OSError as error:
            problem = error.strerror or str(error)
    diagnosis = examined()
    _print(out, diagnosis, as_json=as_json)
    if told is not None and not as_json:
        out.write("the log:\n")
        _print(out, told, of_log=True)
    said = write_bundle(path, Wanted(diagnosis, log, data, problem, told, attach))
    (sys.stderr if as_json else out).write(f"{said}\n")
    return max(diagnosis.status, 0 if told is None else told.status)


def _print(
    out: TextIO, diagnosis: Diagnosis, *, as_json: bool = False, of_log: bool = False
) -> None:
    colour = _colour(out)
    if as_json:
        text = log_json(json.dumps(diagnosis.as_json(), indent=2, ensure_ascii=False))
    elif of_log:
        text = "\n".join(findings_text(diagnosis.findings, colour=colour))
        text = text or "the doctor recognises no message here"
    else:
        text = render(diagnosis, colour=colour)
    out.write(f"{text}\n")


def error_text(error: OSError) -> str:
    """What could not be done with which file, in one line."""
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or error}"


def _read(log: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if log == "-" else Path(log).read_bytes()
    except OSError as error:
        if error.filename is None:  # as of a reading, which is not a fault of the output
            error.filename = "standard input" if log == "-" else log
        raise


def _text(log: bytes) -> str:
    return log.decode("utf-8", "replace")


def _colour(out: TextIO) -> bool:
    return out.isatty() and "NO_COLOR" not in os.environ
