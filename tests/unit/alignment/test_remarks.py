"""Warnings are plain sentences for whoever reads the JSON; remarks are the same as messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from factories import again, arms

from harness.alignment.align import compare
from harness.alignment.result import Alignment, alignment_bytes, load_alignment, save_alignment
from harness.errors import FormatError
from harness.files import jsonfile
from harness.messages.message import message
from harness.messages.statement import remark


def alignment() -> Alignment:
    baseline = arms()
    candidate = next(iter(baseline.controls.values()))
    return compare(again(candidate), baseline).with_remarks(remark(message("warning.prefill_only")))


def test_the_json_holds_each_warning_as_a_text_and_as_a_message() -> None:
    document = json.loads(alignment_bytes(alignment()))
    assert all(isinstance(said, str) for said in document["warnings"])
    assert [r["sentence"] for r in document["remarks"]] == document["warnings"]
    assert document["remarks"][-1]["message"]["key"] == "warning.prefill_only"


def test_both_come_back(tmp_path: Path) -> None:
    made = alignment()
    save_alignment(made, tmp_path / "a.json")
    assert load_alignment(tmp_path / "a.json") == made


@pytest.mark.parametrize("warnings", [[], ["Something else."], [7], "text"])
def test_two_that_do_not_agree_are_refused(tmp_path: Path, warnings: object) -> None:
    document = {**json.loads(alignment_bytes(alignment())), "warnings": warnings}
    plain = {k: v for k, v in document.items() if not k.startswith("checksum")}
    jsonfile.write(tmp_path / "a.json", plain)
    with pytest.raises(FormatError, match="warnings"):
        load_alignment(tmp_path / "a.json")
