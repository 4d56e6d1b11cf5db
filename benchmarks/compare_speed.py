"""How long does a reviewer wait, and how much memory does it take?

Makes two recordings of 4,096 positions with the device that has no model,
then times ``harness compare`` and ``harness --help`` in cold processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.recording.recorder import record
from harness.suite.suite import Generation, Prompt, Suite

PROMPTS, TOKENS = 32, 128


def make(seed: int, out: Path) -> None:
    """A recording of PROMPTS x TOKENS positions."""
    prompts = tuple(Prompt(id=f"p{i}", line=0, text=f"prompt {i}") for i in range(PROMPTS))
    suite = Suite("speed", Path("speed"), prompts, Generation(TOKENS, ignore_eos=True), "0" * 64)
    target = open_target(DeviceSpec("fake", engine_args={"seed": str(seed)}))
    made = record(target.device, target.subject, suite, out=out)
    size = out.stat().st_size / made.positions
    print(f"{out.name}: {made.positions} positions, {size:.0f} bytes each")


def cold(*arguments: str) -> tuple[float, float]:
    """Seconds and peak MB of one process."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        a, b = Path(folder, "a.json"), Path(folder, "b.json")
        make(0, a)
        make(0, b)
        for name, command, promise in (
            ("compare", ["compare", str(a), str(b)], "2 s, 400 MB"),
            ("--help", ["--help"], "0.5 s"),
        ):
            runs = [cold(*command) for _ in range(options.repeats + 1)][1:]
            print(
                f"harness {name}: median {median(s for s, _ in runs):.2f} s, "
                f"peak {max(m for _, m in runs):.0f} MB, {len(runs)} runs (promise: {promise})"
            )


if __name__ == "__main__":
    main()
