"""Use the installed wheel as a stranger would, from a folder without the checkout.

wheel.py    runs in the environment and in the folder that are to be tried
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import harness

INSIDE = (
    "plugin.py",
    "py.typed",
    "checks/test_parity.py",
    "checks/test_gates.py",
    "prompts/mixed.yaml",
    "prompts/port.yaml",
    "report/templates",
)
CHECKS = ("-m", "pytest", "-p", "harness.plugin", "--suite=port")


def run(*arguments: str, status: int = 0) -> str:
    """What a Python command said; it must end with that status."""
    print("$ python", *arguments, flush=True)
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, flush=True)
    if done.returncode != status:
        sys.exit(f"ended with status {done.returncode}, not {status}")
    return done.stdout


def main() -> None:
    """Files inside, checks collected from there, two devices and two recordings."""
    package = Path(harness.__file__).parent
    if "site-packages" not in package.parts:
        sys.exit(f"harness comes from {package}, not from the wheel")
    missing = [name for name in INSIDE if not (package / name).exists()]
    if missing or not any((package / "report" / "templates").iterdir()):
        sys.exit(f"not in the wheel: {missing or 'templates'}")
    collected = run(*CHECKS, "--device=fake", "--collect-only")
    if not re.search(r"<Dir site-packages>\s+<Package harness>\s+<Package checks>", collected):
        sys.exit("the checks are not collected from site-packages")
    # Asked for: where CI is set, a missing baseline is an error and not made.
    run(*CHECKS, "--device=fake-reference", "--update-baselines", "-q")
    told = run(*CHECKS, "--device=fake", "-q")
    if "BIT_EXACT: " not in told:
        sys.exit("the fake device is not BIT_EXACT with the baseline of the fake reference")
    for name in ("a", "b"):
        record = ("-m", "harness", "record", "--device", "fake", "--suite", "port")
        run(*record, "--out", f"{name}.json")
    if not run("-m", "harness", "compare", "a.json", "b.json").startswith("BIT_EXACT"):
        sys.exit("two recordings of one device are not BIT_EXACT")


if __name__ == "__main__":
    main()
