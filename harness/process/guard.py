"""The parent of a child process that the harness starts: it ends the child when
the harness is gone, however it went.

A program of its own, with the standard library alone. Its standard input is a
pipe from the harness that never carries anything: when it ends, the harness
has closed it, or has died, and the child's whole process group is ended.
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

_PR_SET_PDEATHSIG = 1
#: As shells say it: found, but not started.
_NOT_STARTED = 126


def main(grace_s: float, command: list[str]) -> int:
    """Run ``command`` until it ends or standard input does; its exit status, signals below zero."""
    stopped: list[int] = []
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # for the wake-up alone
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda signum, _: stopped.append(signum))
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            close_fds=False,  # what the harness passed on is for the child
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - there is one thread here
        )
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return _NOT_STARTED
    with child:
        while child.poll() is None and not stopped:
            readable, _, _ = select.select([0, woken], [], [])
            if woken in readable:
                os.read(woken, 4096)
            if 0 in readable and not os.read(0, 4096):
                break
        end_group(child, grace_s)
        return child.wait()


def end_group(leader: subprocess.Popen[bytes], grace_s: float) -> None:
    """End a session's processes: ask, wait ``grace_s``, then kill what is left."""
    deadline = time.monotonic() + grace_s
    _signal_group(leader.pid, signal.SIGTERM)
    while _group_lives(leader) and time.monotonic() < deadline:
        time.sleep(0.02)
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


def _end_as(status: int) -> None:
    """End as the child did, so that whoever waits for the guard sees its status or its signal."""
    if status < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core file of a crash will do
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    _end_as(main(float(sys.argv[1]), sys.argv[2:]))
