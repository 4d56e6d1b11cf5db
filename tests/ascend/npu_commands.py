"""Commands of the emulated host, as a user types them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

Run = subprocess.CompletedProcess[str]


def run(*command: object, **variables: str) -> Run:
    """A command of this environment in the project's folder, with other variables."""
    return subprocess.run(
        [*map(str, command)],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def well(done: Run) -> Run:
    """A run that must have ended well; what it said is the test's error."""
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done
