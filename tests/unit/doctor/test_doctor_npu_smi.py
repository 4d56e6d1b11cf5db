"""Tables of ``npu-smi info``: three generations of drivers, A2 and A3."""

from __future__ import annotations

import pytest
from doctor_host import npu_smi_output

from harness.doctor.npu_smi import Chip, kind_of, parse

GENERATION_23_A2 = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 23.0.3                   Version: 23.0.3                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 3     910B1               | OK            | 94.2        41                0    / 0             |
| 0                         | 0000:C1:00.0  | 7           0    / 0          27547/ 65536         |
+===========================+===============+====================================================+
| 5     910B1               | Warning       | 97.8        88                0    / 0             |
| 0                         | 0000:01:00.0  | 100         0    / 0          3367 / 65536         |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 3       0                 | 632268        | python3.11               | 24197                   |
+===========================+===============+====================================================+
| No running processes found in NPU 5                                                            |
+===========================+===============+====================================================+
"""
GENERATION_24_A3 = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc3.7               Version: 24.1.rc3.7                                           |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     Ascend910           | OK            | 178.8       36                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3397 / 65536         |
+------------------------------------------------------------------------------------------------+
| 0     Ascend910           | OK            | -           37                0    / 0             |
| 1     1                   | 0000:9F:00.0  | 0           0    / 0          31877/ 65536         |
+===========================+===============+====================================================+
"""
GENERATION_26_A3 = """\
+------------------------------------------------------------------------------------------------------------------+
| npu-smi 26.0.rc2                            Version: 26.0.rc2                                                    |
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU   Name                | Health        | Power(W)             Temp(C)                 Hugepages-Usage(page)   |
| Chip  Phy-ID              | Bus-Id        | AICore(%)            Memory-Usage(MB)        HBM-Usage(MB)           |
+===========================+===============+======================================================================+
| 0     Ascend910           | OK            | 162.6                34                      0    / 0                |
| 0     0                   | 0000:9D:00.0  | 0                    0    / 0                3419 / 65536            |
+------------------------------------------------------------------------------------------------------------------+
| 0     Ascend910           | OK            | -                    35                      0    / 0                |
| 1     1                   | 0000:9F:00.0  | 12                   0    / 0                31877/ 65536            |
+===========================+===============+======================================================================+
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU     Chip              | Process id    | Process name       | Process memory(MB)    | Process id in container |
+===========================+===============+======================================================================+
| 0       1                 | 632268        | python3.1          | 28197                 | NA                      |
+===========================+===============+======================================================================+
"""  # noqa: E501


def test_the_columns_of_an_a2_with_a_space_missing() -> None:
    version, chips = parse(GENERATION_23_A2)
    assert version == "23.0.3"
    assert chips == (
        Chip(3, 0, "910B1", "OK", 41, 7, 27547, 65536),
        Chip(5, 0, "910B1", "Warning", 88, 100, 3367, 65536),
    )
    assert kind_of(chips) == "A2"


@pytest.mark.parametrize(
    ("text", "version", "temperatures", "cores", "used"),
    [
        (GENERATION_24_A3, "24.1.rc3.7", [36, 37], [0, 0], [3397, 31877]),
        (GENERATION_26_A3, "26.0.rc2", [34, 35], [0, 12], [3419, 31877]),
    ],
)
def test_two_chips_of_an_a3_whatever_the_widths(
    text: str, version: str, temperatures: list[int], cores: list[int], used: list[int]
) -> None:
    found, chips = parse(text)
    assert found == version
    assert [(c.npu, c.chip) for c in chips] == [(0, 0), (0, 1)]
    assert [c.temperature for c in chips] == temperatures
    assert [c.aicore for c in chips] == cores
    assert [c.used_mb for c in chips] == used
    assert kind_of(chips) == "A3"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("910B4-1",), "A2"),
        (("910_9362",), "A3"),
        (("910B (A2 9362)",), "A3"),
        (("Ascend910",), None),
        (("310P3",), "310P"),
        (("Ascend310P3",), "310P"),
        (("310B4",), None),
        (("Ascend950PR",), "A5"),
        (("950DT",), "A5"),
        (("9950",), None),
        ((), None),
    ],
)
def test_the_kind_of_card_by_its_name(names: tuple[str, ...], kind: str | None) -> None:
    _, chips = parse(npu_smi_output(names))
    assert [c.name for c in chips] == list(names)
    assert kind_of(chips) == kind


def test_free_memory_is_a_share() -> None:
    _, (chip, _) = parse(GENERATION_23_A2)
    assert chip.free_share == pytest.approx(1 - 27547 / 65536)
    assert Chip(0, 0, "x", "OK", None, None, None, None).free_share is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dcmi module initialize failed. ret is -8005",
        "| 0 | 0000:9D:00.0 | 0 |\n",  # a second row without its first
        GENERATION_23_A2[:700],  # cut in the middle of a row
        "| a | b | c |\n| 1 2 | | |\n|||\n",
    ],
)
def test_what_is_no_table_has_no_chips(text: str) -> None:
    assert parse(text)[1] == ()
