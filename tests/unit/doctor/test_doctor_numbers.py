"""Logs and tools may print text where a number is expected; the doctor reads on."""

from __future__ import annotations

import pytest

from harness.doctor.messages import explain
from harness.doctor.npu_smi import parse
from harness.doctor.numbers import real, whole

NINES = "9" * 5000
STRANGE = (".", "", "1.2.3", "1..8", "²", "१", "-1", "1e9", "nan", "inf", NINES, f"0.{NINES}")


@pytest.mark.parametrize("text", STRANGE)
def test_what_is_not_a_number_is_none(text: str) -> None:
    assert real(text) is None
    assert whole(text) is None


def test_numbers_are_read() -> None:
    assert [whole(t) for t in ("0", "007", "123456789012345")] == [0, 7, 123456789012345]
    assert [real(t) for t in ("0", "1.5", ".5", "5.")] == [0.0, 1.5, 0.5, 5.0]


@pytest.mark.parametrize("figure", STRANGE)
@pytest.mark.parametrize(
    "line",
    [
        "NPU out of memory ({}/{} GiB)",
        "NPU out of memory. Tried to allocate 2 GiB ({} / {} GiB)",
        "the estimated maximum model length is {}",
        "Total number of attention heads ({}) must be divisible by tensor parallel size ({})",
        "invalid device ordinal: devices ({}) {}",
    ],
)
def test_a_log_with_strange_figures_is_explained(line: str, figure: str) -> None:
    explain(line.format(figure, figure))


@pytest.mark.parametrize("figure", STRANGE)
def test_a_table_with_strange_figures_is_read(figure: str) -> None:
    lines = [
        f"| {figure} 910B4 | OK | 80 {figure} 0 / 0 |",
        f"| {figure} | 0000:C1:00.0 | {figure} {figure} / {figure} 3419 / 65536 |",
        f"| 0 910B4 | OK | 80 {figure} 0 / 0 |",
        f"| 0 | 0000:C1:00.0 | {figure} 0 / 0 {figure}/{figure} |",
    ]
    _, chips = parse("\n".join(lines))
    assert all(chip.temperature is None for chip in chips) or not figure
