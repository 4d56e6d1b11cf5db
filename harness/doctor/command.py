"""The command: shared by ``harness doctor`` and ``python3 -m harness.doctor``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TextIO

from harness.doctor.diagnose import LIMIT_S, diagnose
from harness.doctor.finding import Diagnosis
from harness.doctor.messages import explain
from harness.doctor.needs import NEEDS
from harness.doctor.text import findings_text, render

#: A day; the clock of a wait overflows somewhere above.
MOST_LIMIT_S = 86_400.0
LIMIT_RULE = f"give seconds from 1 to {MOST_LIMIT_S:.0f}"


def main(arguments: list[str]) -> int:
    """Run with command-line arguments; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m harness.doctor",
        description="Is this host ready for a device? Findings, and the commands that mend them.",
        epilog="Exit status: 0 ready; 1 with an error among the findings; 2 wrong usage.",
    )
    parser.add_argument("--device", choices=sorted(NEEDS), help="what it should be ready for")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--log", metavar="FILE", help="explain the messages in a log instead; - for stdin"
    )
    parser.add_argument(
        "--limit-s", type=_limit, default=LIMIT_S, help="seconds for one import (default: 60)"
    )
    given = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):  # a terminal's encoding may lack what is shown
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return run(given.device, as_json=given.json, log=given.log, limit_s=given.limit_s)
    except OSError as error:
        sys.stderr.write(f"harness: error: {error.filename}: {error.strerror}\n")
        return 2
    except KeyboardInterrupt:
        return 130


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
    out: TextIO | None = None,
) -> int:
    """Examine this host, or explain a log, and print what was found.

    Raises:
        OSError: if the log cannot be read.
    """
    out = out or sys.stdout
    if log is None:
        diagnosis = diagnose(device, limit_s=limit_s)
        text = render(diagnosis, colour=_colour(out))
    else:
        diagnosis = Diagnosis(device, findings=explain(_read(log)))
        text = "\n".join(findings_text(diagnosis.findings, colour=_colour(out)))
        text = text or "the doctor recognises no message here"
    if as_json:
        text = json.dumps(diagnosis.as_json(), indent=2, ensure_ascii=False)
    out.write(f"{text}\n")
    return diagnosis.status


def _read(log: str) -> str:
    if log == "-":
        return sys.stdin.buffer.read().decode("utf-8", "replace")
    return Path(log).read_bytes().decode("utf-8", "replace")


def _colour(out: TextIO) -> bool:
    return out.isatty() and "NO_COLOR" not in os.environ
