"""The parent of a server that the harness started: it stops the server when
the harness is gone, however it went.

A program of its own, with the standard library alone. Its standard input is a
pipe from the harness that never carries anything: when it ends, the harness
has closed it, or has died, and the server's whole process group is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

GRACE_S = 10.0
_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """Run ``command`` until it ends or standard input does; its exit status."""
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda signum, _: stopped.append(signum))
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - there is one thread here
    ) as child:
        while child.poll() is None and not stopped:
            readable, _, _ = select.select([0], [], [], 0.2)
            if readable and not os.read(0, 4096):
                break
        end_group(child)
        return child.wait()


def end_group(leader: subprocess.Popen[bytes]) -> None:
    """End a session's processes: ask, wait GRACE_S, then kill what is left."""
    deadline = time.monotonic() + GRACE_S
    _signal_group(leader.pid, signal.SIGTERM)
    while time.monotonic() < deadline and _group_lives(leader):
        time.sleep(0.05)
    _signal_group(leader.pid, signal.SIGKILL)


def _group_lives(leader: subprocess.Popen[bytes]) -> bool:
    leader.poll()  # else a dead leader keeps its group
    try:
        os.killpg(leader.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _end_with_parent() -> None:
    """Linux: SIGTERM where the guard itself is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
