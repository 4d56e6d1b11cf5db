from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.devices.cores import Cpu, binding, described, shared_out


def flat(count: int, *, node_of: int | None = None) -> list[Cpu]:
    """So many cores of one thread each; ``node_of`` is the number of them on a node."""
    return [Cpu(n // node_of if node_of else 0, n, n) for n in range(count)]


def threads(cores: int) -> list[Cpu]:
    """Two threads for each core, numbered as Linux does: n and n + cores."""
    return [Cpu(0, n % cores, n) for n in range(2 * cores)]


@pytest.mark.parametrize(
    ("cpus", "ranks", "expected"),
    [
        (flat(2), 2, "0|1"),
        (flat(2), 3, "0|1|0"),
        (flat(1), 2, "0|0"),
        (flat(4), 2, "0,1|2,3"),
        (flat(5), 2, "0,1|2,3"),
        (flat(8), 3, "0,1|2,3|4,5"),
        (flat(8, node_of=4), 2, "0,1,2,3|4,5,6,7"),
        (threads(4), 2, "0,1|2,3"),
        (threads(2), 4, "0|2|1|3"),
        (threads(2), 5, "0|2|1|3|0"),
        ([Cpu(0, 3, 3), Cpu(0, 6, 6)], 2, "3|6"),
        ([Cpu(1, 0, 0), Cpu(0, 1, 1), Cpu(1, 2, 2), Cpu(0, 3, 3)], 2, "1,3|0,2"),
    ],
)
def test_each_rank_gets_as_many_cores(cpus: list[Cpu], ranks: int, expected: str) -> None:
    assert shared_out(cpus, ranks) == expected


@pytest.mark.parametrize("ranks", range(1, 12))
@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_no_core_is_given_twice_before_every_core_is_given_once(count: int, ranks: int) -> None:
    parts = [part.split(",") for part in shared_out(flat(count), ranks).split("|")]
    assert len(parts) == ranks
    assert len({len(part) for part in parts}) == 1
    given = [number for part in parts for number in part]
    assert len(set(given)) == min(len(given), count)


def test_a_limit_of_threads_wins() -> None:
    assert shared_out(flat(8), 2, 3) == "0,1,2|4,5,6"
    assert shared_out(flat(2), 2, 64) == "0|1"


def test_the_system_is_asked_for_cores_and_nodes(tmp_path: Path) -> None:
    for number, siblings, node in ((0, "0,2", 0), (1, "1,3", 1), (2, "0,2", 0), (3, "1-3", 1)):
        cpu = tmp_path / f"cpu{number}"
        (cpu / "topology").mkdir(parents=True)
        (cpu / "topology" / "thread_siblings_list").write_text(f"{siblings}\n")
        (cpu / f"node{node}").mkdir()
    assert described([0, 1, 2, 3], tmp_path) == [
        *(Cpu(0, 0, 0), Cpu(1, 1, 1), Cpu(0, 0, 2), Cpu(1, 1, 3)),
    ]
    assert described([7], tmp_path) == [Cpu(0, 7, 7)]  # the system says nothing


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_only_allowed_processors_are_given() -> None:
    before = os.sched_getaffinity(0)
    only = max(before)
    os.sched_setaffinity(0, {only})
    try:
        assert binding(2, {}) == f"{only}|{only}"
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("text", ["1", "1,4", " 1 "])
def test_the_users_own_number_of_threads_wins(text: str) -> None:
    parts = binding(1, {"OMP_NUM_THREADS": text}).split(",")
    assert len(parts) == 1


@pytest.mark.parametrize("text", ["", "0", "many"])
def test_a_number_of_threads_that_is_not_one_is_no_limit(text: str) -> None:
    assert binding(1, {"OMP_NUM_THREADS": text}) == binding(1, {})


def test_a_system_without_affinity_binds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert binding(2, {}) == "nobind"
