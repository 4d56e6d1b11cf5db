"""The cores of this host, shared out between the ranks of vLLM's CPU engine.

vLLM itself gives each rank a NUMA node of its own, and refuses where there are fewer
nodes than ranks.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: In the form of vLLM: the cores of each rank, ranks separated by ``|``.
VARIABLE = "VLLM_CPU_OMP_THREADS_BIND"
#: Its value for a system that binds no threads.
_NOT_BOUND = "nobind"
#: Larger numbers than those of any processor are not listed.
_MOST = 1 << 16
_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, order=True)
class Cpu:
    """One logical processor; ``core`` is the smallest number of those that share its core."""

    node: int
    core: int
    number: int


def binding(ranks: int, variables: Mapping[str, str], folder: Path = _CPUS) -> str:
    """The value of VARIABLE for so many ranks on the cores that this process may use.

    Args:
        variables: of the environment; no rank gets more cores than ``OMP_NUM_THREADS`` says, and
            where VARIABLE lists cores of one rank, these are shared out.
        folder: where the system describes its processors.
    """
    if not hasattr(os, "sched_getaffinity"):
        return _NOT_BOUND
    numbers = listed(variables.get(VARIABLE, "")) or allowed()
    asked = variables.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    most = int(asked) if asked.isdecimal() and int(asked) else None
    return shared_out(described(numbers, folder), ranks, most)


def listed(text: str) -> list[int]:
    """The cores that a value of VARIABLE lists for one rank, as ``0-3,8``; none of another form."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            return []
        found += range(int(first), min(int(last or first), _MOST) + 1)
    return found


def says_ranks(text: str) -> bool:
    """Whether a value of VARIABLE is a user's own for several ranks, or none at all."""
    return bool(text) and not listed(text)


def allowed() -> Collection[int]:
    """The numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def shared_out(cpus: Sequence[Cpu], ranks: int, most: int | None = None) -> str:
    """As many cores for each rank, so that none waits for another.

    A rank gets neighbours on one NUMA node where that is possible. Threads that share a core
    are slower than one, so a second thread of a core is used only where there are more ranks
    than cores. With more ranks than processors several ranks share one.

    Args:
        cpus: those that may be used; at least one.
        most: cores of a rank at most; None for as many as there are.
    """
    first = {cpu.core: cpu for cpu in sorted(cpus, reverse=True)}
    chosen = sorted(first.values()) if len(first) >= ranks else sorted(cpus)
    each = max(1, len(chosen) // ranks)
    parts = [
        [chosen[(rank * each + k) % len(chosen)].number for k in range(min(each, most or each))]
        for rank in range(ranks)
    ]
    return "|".join(",".join(map(str, part)) for part in parts)


def described(numbers: Collection[int], folder: Path = _CPUS) -> list[Cpu]:
    """The processors with their cores and NUMA nodes, as far as the system says.

    Args:
        numbers: as in ``os.sched_getaffinity``.
    """
    return [Cpu(_node(folder / f"cpu{n}"), _core(folder / f"cpu{n}", n), n) for n in numbers]


def _core(cpu: Path, number: int) -> int:
    try:
        told = (cpu / "topology" / "thread_siblings_list").read_text("ascii")
        return int(told.replace("-", ",").split(",")[0])
    except (OSError, ValueError):
        return number  # a core of its own


def _node(cpu: Path) -> int:
    nodes = [path.name.removeprefix("node") for path in cpu.glob("node[0-9]*")]
    return min((int(node) for node in nodes if node.isdecimal()), default=0)
