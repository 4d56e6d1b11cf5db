"""A server of ours is the one that listens at its port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from harness.devices.server.listener import listens
from harness.devices.server.process import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")


@pytest.fixture
def idle() -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens nowhere."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.communicate(b"\n")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_strangers_port_is_not_a_childs(address: str, idle: subprocess.Popen[bytes]) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert listens(port, os.getpid()) is True
        assert listens(port, os.getppid()) is True  # of a process below it
        assert listens(port, idle.pid) is False


def test_of_a_port_where_nobody_listens_nothing_is_told(idle: subprocess.Popen[bytes]) -> None:
    assert listens(free_port(), idle.pid) is None


def test_a_port_that_two_share_is_not_ones_own(idle: subprocess.Popen[bytes]) -> None:
    code = (
        "import socket, sys\ns = socket.socket()\n"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
        "s.bind(('127.0.0.1', int(sys.argv[1])))\ns.listen()\nprint(flush=True)\ninput()"
    )
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", code, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            assert listens(port, other.pid) is False
            assert listens(port, os.getpid()) is True  # both are below this one
            other.communicate(b"\n")
