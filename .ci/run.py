"""Everything that a machine without an accelerator can check, from a clean checkout.

Lint first; then the README's two commands, in its order, since the first must do without
what the second installs, the first of them beside what needs none of its environment; then
the other sessions of noxfile.py, two at a time. Needs python3, and makes its environments
here: .venv-lint, .venv (by the README) and .nox/.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = "README: run"
#: Beside the README's first command, in environments of their own.
BESIDE_RUN = ("ascend_like",)
#: The longest first, so that both lanes end at about the same time.
BESIDE = (
    "ascend",
    "vllm",
    "vllm_serves",
    "engines",
    "pages",
    "slow",
    "process",
    "browser",
    "wheel",
)
#: Sessions whose environments are made while the README's commands run.
MADE_BEFORE = ("vllm", "ascend")
_SUMMARY = re.compile(r"^=*\s*\d+ (?:passed|failed|skipped|deselected|error)\b.* in [\d.]+s")

#: What is told at the end: seconds of each part, and pytest's last lines.
parts: list[tuple[str, float, bool]] = []
summaries: list[str] = []


def say(text: str) -> None:
    """A line of this program itself."""
    print(f"\n== {text}", flush=True)


def shell(command: str, cores: frozenset[int] | None = None) -> tuple[bool, str]:
    """Run in bash; whether it ended well, and all that it said.

    What it says is shown as it comes, unless it is one of two that run side by side.
    """
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}
    bind: Callable[[], None] | None = None
    if cores is not None:
        environment["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, sorted(cores)))
        if hasattr(os, "sched_setaffinity"):
            bind = lambda: os.sched_setaffinity(0, cores)  # noqa: E731
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=bind,  # noqa: PLW1509 - it only binds the child to cores
    ) as running:
        assert running.stdout is not None
        said = []
        for line in running.stdout:
            said.append(line)
            if cores is None:
                sys.stdout.write(line)
                sys.stdout.flush()
    return running.returncode == 0, "".join(said)


def part(name: str, command: str, cores: frozenset[int] | None = None) -> bool:
    """Run one part, keep its time and pytest's summary lines."""
    started = time.monotonic()
    if cores is None:
        say(f"{name}\n{command}")
    well, said = shell(command, cores)
    seconds = time.monotonic() - started
    if cores is not None:
        # Whole, when it has ended, so that two do not mix.
        say(f"{name}\n{command}\n{said}")
    parts.append((name, seconds, well))
    summaries.extend(f"{name}: {x}" for x in said.splitlines() if _SUMMARY.match(x))
    print(f"-- {name}: {seconds:.0f} s{'' if well else ', FAILED'}", flush=True)
    return well


def readme(name: str) -> str:
    """One of the README's commands, as a reader would run it."""
    lister = [sys.executable, ".ci/readme_command.py", name]
    return subprocess.run(lister, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def install_chromium() -> None:
    """For the browser tests, which skip, and say why, where it cannot be installed."""
    if shutil.which("chromium") or not shutil.which("apt-get") or os.geteuid() != 0:
        return
    well, _ = shell(
        "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "
        "--no-install-recommends chromium fonts-dejavu-core",
        frozenset(_cores()),
    )
    if not well:
        say("Chromium cannot be installed: the browser tests will skip")


def install_engines() -> None:
    """vLLM's environment, which two sessions share, and vLLM-Ascend's, while the README's
    commands run."""
    for name in MADE_BEFORE:
        well, said = shell(f".venv-lint/bin/nox -s {name} --install-only", frozenset(_cores()))
        if not well:
            # Its sessions fail, and say why.
            say(f"the environment of {name} cannot be made\n{said}")


def _cores() -> list[int]:
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:
        return list(range(os.cpu_count() or 1))


def lanes(*works: Callable[[frozenset[int]], object]) -> None:
    """Each work beside the others, on its half of the cores: threads of two engines on the
    same cores wait for one another."""
    cores = _cores()
    half = max(1, len(cores) // 2)
    threads = [
        threading.Thread(target=work, args=(frozenset(own),))
        for work, own in zip(works, (cores[:half], cores[half:] or cores), strict=True)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def side_by_side() -> None:
    """The sessions of ``BESIDE``, two at a time."""
    waiting = deque(BESIDE)

    def lane(mine: frozenset[int]) -> None:
        while waiting:
            session(".venv", waiting.popleft(), mine)

    lanes(lane, lane)


def session(environment: str, name: str, cores: frozenset[int]) -> None:
    """One session of noxfile.py; most run in the environment that nox is in."""
    made = " --no-install" if name in MADE_BEFORE else ""
    part(name, f"{environment}/bin/nox -s {name}{made}", cores)


def run() -> None:
    """All parts; the README's commands only where what they follow went well."""
    install = (
        "python3 -m venv .venv-lint\n"
        ".venv-lint/bin/pip install -q -c constraints.txt -e '.[lint]'\n"
        ".venv-lint/bin/nox -s lint"
    )
    chromium = threading.Thread(target=install_chromium)
    chromium.start()
    if not part("lint", install):
        return
    engines = threading.Thread(target=install_engines)
    engines.start()
    lanes(
        lambda mine: part(RUN, readme("run"), mine),
        lambda mine: [session(".venv-lint", name, mine) for name in BESIDE_RUN],
    )
    engines.join()
    chromium.join()
    ran = next(well for name, _, well in parts if name == RUN)
    if ran and part("README: tests", readme("tests")):
        side_by_side()


def main() -> None:
    """Run all, then tell each part's time, and pytest's summaries as the last lines."""
    started = time.monotonic()
    run()
    say("times")
    for name, seconds, well in parts:
        print(f"{seconds:6.0f} s  {name}{'' if well else ': FAILED'}")
    print(f"{time.monotonic() - started:6.0f} s  in all")
    failed = [name for name, _, well in parts if not well]
    say(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    print("\n".join(summaries))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
