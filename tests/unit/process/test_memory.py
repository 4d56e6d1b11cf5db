"""Large blocks go back to the system when they are freed."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from harness.process import memory
from harness.process.memory import available_bytes

CODE = """
import sys
from harness.process.memory import keep_large_blocks_apart
assert keep_large_blocks_apart()
import numpy as np
np.ones(40 << 20, np.uint8)  # freed at once: glibc would keep what is smaller from now on
blocks = [np.ones(8 << 20, np.uint8) for _ in range(20)]
pins = [np.ones(1 << 10, np.uint8) for _ in range(20)]
def held():
    line = next(x for x in open("/proc/self/status") if x.startswith("VmRSS"))
    return int(line.split()[1]) // 1024
before = held()
del blocks
print(before - held())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_freed_blocks_are_given_back() -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("not glibc")
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 150  # of 160 MiB


def test_where_there_is_no_such_option_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert memory.keep_large_blocks_apart() is False


MEMINFO = "MemTotal: 24000 kB\nMemFree: 100 kB\nMemAvailable: 8000 kB\n"


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 8_192_000),
        ({"proc/meminfo": "nonsense\n"}, None),
        (
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory.max": "5000000\n",
                "sys/fs/cgroup/memory.current": "4000000\n",
                "sys/fs/cgroup/memory.stat": "anon 3000000\ninactive_file 500000\n",
            },
            1_500_000,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "4000000\n",
            },
            8_192_000,
        ),
    ],
)
def test_what_host_and_container_leave_is_available(
    tmp_path: Path, files: dict[str, str], available: int | None
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_bytes(tmp_path) == available
