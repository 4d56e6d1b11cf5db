"""Running ``child.py`` and reading its report."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.doctor import child
from harness.doctor.host import Host

#: Nothing is looked up anywhere, and only what matters is printed.
_EXTRA = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Step:
    """One step of a child.

    ``state`` is ``done``, ``failed``, or ``begun`` for the step in which it
    died or hung; ``error`` is its last line, ``trace`` all of it.
    """

    name: str
    state: str
    error: str = ""
    trace: str = ""
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """What a child reported. ``end`` says how it died, if it did."""

    steps: tuple[Step, ...]
    noise: str = ""
    end: str | None = None
    timed_out: bool = False

    def done(self, name: str) -> dict[str, Any] | None:
        """What a step found, if it was done."""
        return next((s.found for s in self.steps if s.name == name and s.state == "done"), None)


def run_child(
    host: Host, arguments: Sequence[str], limit_s: float, extra: dict[str, str] | None = None
) -> Told:
    """Run ``child.py`` with ``arguments`` and read its steps, as far as it came."""
    source = Path(child.__file__).read_text("utf-8")
    ran = host.run_python(source, arguments, limit_s, {**_EXTRA, **(extra or {})})
    steps: dict[str, Step] = {}
    noise = [ran.err]
    for line in ran.out.splitlines():
        if not line.startswith(child.MARK):
            noise.append(line)
            continue
        try:
            told = json.loads(line[len(child.MARK) :])
        except ValueError:  # it was killed in the middle of a line
            continue
        name, state = told.pop("step"), told.pop("state")
        error, trace = told.pop("error", ""), told.pop("trace", "")
        steps[name] = Step(name, state, error, trace, told)
    end = None if ran.timed_out or ran.status == 0 else _end(ran.status, ran.err)
    return Told(tuple(steps.values()), "\n".join(noise), end, ran.timed_out)


def _end(status: int | None, err: str) -> str:
    if status is None:
        return err.strip() or "the interpreter did not start"
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"
