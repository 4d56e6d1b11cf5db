"""Which process listens at a port: a stranger's answers are not those of a server of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_LISTEN = "0A"
#: Addresses that a connection to 127.0.0.1 reaches, as the kernel writes them.
_LOOPBACK = ("0100007F", "00000000")
_LOOPBACK_6 = ("0" * 32, "0000000000000000FFFF00000100007F")


def listens(port: int, pid: int) -> bool | None:
    """Whether a process or one below it has every socket that listens at a port of 127.0.0.1.

    Returns:
        None where the system does not tell: outside of Linux, or without /proc.
    """
    sockets = set(_listening(port))
    if not sockets:
        return None
    own = _sockets_of({pid, *_below(pid)})
    return None if own is None else sockets <= own


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen there."""
    for table, addresses in (("tcp", _LOOPBACK), ("tcp6", _LOOPBACK_6)):
        try:
            lines = (_PROC / "net" / table).read_text("ascii", "replace").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) < 10 or fields[3] != _LISTEN:
                continue
            address, _, hexadecimal = fields[1].partition(":")
            if address in addresses and int(hexadecimal, 16) == port:
                yield fields[9]


def _below(pid: int) -> set[int]:
    """All processes that a process has started, and those they have."""
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text("utf-8", "replace")
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue  # it has ended
    found: set[int] = set()
    todo = [pid]
    while todo:
        parent = todo.pop()
        children = {p for p, of in parents.items() if of == parent} - found
        found |= children
        todo += children
    return found


def _sockets_of(pids: set[int]) -> set[str] | None:
    """Inodes of the sockets that they have open; None if no process may be looked at."""
    found: set[str] | None = None
    for pid in pids:
        try:
            handles = os.listdir(_PROC / str(pid) / "fd")
        except OSError:
            continue
        found = set() if found is None else found
        for handle in handles:
            try:
                target = os.readlink(_PROC / str(pid) / "fd" / handle)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    return found
