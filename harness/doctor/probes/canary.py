"""The last probe: a small model whose every bit is known, run on the device by ``harness canary``.

The command runs as another process, because the doctor itself needs nothing installed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from harness.doctor.examination import Examination
from harness.doctor.host import Ran
from harness.doctor.messages import explain, shortened
from harness.process.python import program_command, safe_environment, with_this_harness

#: An engine may compile before it answers: the limit is so many times that of an import.
_LONGER = 10
_SIZES = ("--context", "512", "--layers", "2")
_RUN = """\
import sys
from runpy import run_module
run_module("harness", run_name="__main__", alter_sys=True)
"""
_QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


def examine(exam: Examination) -> None:
    """Run it, unless an earlier probe has found what keeps the device from running."""
    if any(found.severity == "error" for found in exam.findings):
        exam.fact("computation", "canary", "not run: an error was found before")
        return
    with tempfile.TemporaryDirectory(prefix="harness-doctor-") as folder:
        report = Path(folder) / "canary.json"
        ran = _run(exam, report)
        made = _read(report)
    if made is None:
        _not_run(exam, ran)
        return
    rows, right = (sum(s[key] for s in made["stages"]) for key in ("rows", "exact"))
    exam.fact("computation", "canary", f"{right} of {rows} rows right, {made['seconds']:.0f} s")
    if made["outcome"] != "EXACT":
        causes = [f["sentence"] for f in made["findings"]] or [made["sentence"]]
        exam.find("canary-wrong", shortened(" ".join(causes)), device=str(exam.device))


def _run(exam: Examination, report: Path) -> Ran:
    host = exam.host
    arguments = ("canary", "--device", str(exam.device), *_SIZES, "--report", str(report))
    command = program_command(host.python, _RUN, *arguments)
    own = with_this_harness(dict(host.environment))
    extra = {**safe_environment({}), **_QUIET, "PYTHONPATH": own.get("PYTHONPATH", "")}
    return host.run(command, _LONGER * exam.limit_s, extra)


def _read(report: Path) -> dict[str, Any] | None:
    try:
        made: dict[str, Any] = json.loads(report.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return made


def _not_run(exam: Examination, ran: Ran) -> None:
    """The known cause that its messages show, or how it ended."""
    exam.fact("computation", "canary", "not run")
    known = [found for found in explain(ran.out + ran.err) if found.severity != "harmless"]
    for found in known:
        exam.add(found)
    if known:
        return
    if ran.timed_out:
        exam.find("canary-not-run", f"it did not end within {_LONGER * exam.limit_s:g} s",
                  device=str(exam.device))  # fmt: skip
        return
    lines = [line for line in ran.err.splitlines() if line.strip()]
    why = next((line for line in reversed(lines) if "error" in line.lower()), "".join(lines[-1:]))
    seen = shortened(why) if why else f"status {ran.status}"
    exam.find("canary-not-run", seen, device=str(exam.device))
