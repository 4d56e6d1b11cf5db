from __future__ import annotations

import pytest

from harness.devices.kinds import KINDS
from harness.doctor.needs import NEEDS
from harness.doctor.versions import (
    RELEASES,
    before,
    fits,
    is_development,
    numbers,
    pins,
    release_of,
    stacks_with,
    table_of,
)


def test_every_device_has_its_needs() -> None:
    """The doctor runs where the harness cannot be imported, so it has a table of its own."""
    backends = {kind.name: kind.backend for kind in KINDS}
    assert {name: needs.backend for name, needs in NEEDS.items()} == backends
    platforms = {kind.name: kind.backend for kind in KINDS if kind.family == "vllm"}
    assert {name: n.platform for name, n in NEEDS.items() if n.platform} == platforms


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("2.9.0.post1+cpu", "2.9.0"),
        ("0.18.0rc1", "0.18.0"),
        ("0.18.0+empty", "0.18.0"),
        ("0.1.dev1+gabc", None),
        ("", None),
        (None, None),
    ],
)
def test_the_release_of_a_version(version: str | None, release: str | None) -> None:
    assert release_of(version) == release


@pytest.mark.parametrize(
    ("version", "development"),
    [
        ("0.18.0", False),
        ("0.18.0+empty", False),
        ("0.18.0rc1", False),
        ("0.18.1.post2", False),
        ("0.1.dev1+ge5588e49b", True),
        ("0.18.1.dev6+gb30408353.d20260307", True),
        ("main", True),
    ],
)
def test_builds_between_releases(version: str, development: bool) -> None:
    assert is_development(version) is development


def test_numbers_are_compared_as_numbers() -> None:
    assert before("3.9.18", "3.10")
    assert not before("3.10.2", "3.10")
    assert not before("3.12.0", "3.12")
    assert numbers("x") == ()


def test_the_table_knows_candidates_and_no_strangers() -> None:
    found = table_of("0.18.0rc1")
    assert found is not None
    assert [s.cann for s in found.stacks] == ["8.5.1", "9.0.0"]
    assert table_of("0.17.0") is None
    assert table_of("nonsense") is None


@pytest.mark.parametrize(
    ("torch_npu", "canns"),
    [
        ("2.9.0", ["8.5.1"]),
        ("2.9.0.post1", ["8.5.1"]),
        ("2.9.0.post2", ["9.0.0"]),
        ("2.10.0.post4", ["9.0.0", "9.1.0"]),
        ("2.7.1", []),
    ],
)
def test_which_cann_goes_with_a_torch_npu(torch_npu: str, canns: list[str]) -> None:
    assert [s.cann for s in stacks_with(torch_npu)] == canns


def test_a_local_part_does_not_matter() -> None:
    assert fits(RELEASES[1].stacks[1], "2.9.0.post2+git123")


@pytest.mark.parametrize(
    ("ascend", "cann", "wanted"),
    [
        (None, None, "torch-npu==2.9.0.post1 vllm==0.18.0 vllm-ascend==0.18.0 transformers"),
        ("0.18.0", "9.0.0", "torch-npu==2.9.0.post2 vllm==0.18.0 vllm-ascend==0.18.0 transformers"),
        ("0.22.1", "9.0.0", "torch-npu==2.10.0 vllm==0.22.1 vllm-ascend==0.22.1 transformers"),
    ],
)
def test_pins_of_what_is_missing(ascend: str | None, cann: str | None, wanted: str) -> None:
    assert pins(("torch_npu", "vllm", "vllm_ascend", "transformers"), ascend, cann) == wanted
