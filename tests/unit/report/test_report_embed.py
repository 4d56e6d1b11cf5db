"""The alignment that a page carries."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

from report_alignments import HOSTILE, alignment, prompt

from harness.alignment.result import alignment_bytes, load_alignment
from harness.report.embed import Embedded, embed
from harness.report.views.alignment import view


def unpacked(data: Embedded) -> bytes:
    return zlib.decompress(base64.b64decode(data.data), wbits=-15)


def test_it_is_the_file_that_compare_writes_byte_for_byte() -> None:
    found = alignment("DRIFT", text=HOSTILE)
    assert unpacked(embed(view(found))) == alignment_bytes(found)


def test_a_part_is_a_file_too_and_says_that_it_is_one(tmp_path: Path) -> None:
    many = (*(prompt(f"good-{n}", count=4) for n in range(30)), prompt("bad", bad=1))
    data = embed(view(alignment(prompts=many), budget=11_000))
    assert (data.kept, data.prompts) == (2, 31)
    path = tmp_path / "part.json"
    path.write_bytes(unpacked(data))
    again = load_alignment(path)
    assert len(again.prompts) == 2
    assert again.warnings[-1] == "This copy was taken from a report: it holds 2 of 31 prompts."


def test_tokens_that_cannot_stand_as_they_are_come_spelt_out() -> None:
    pieces = {"1": "</script>", "2": "\u202e", "3": " the", "4": "\n", "5": "x" * 100}
    data = embed(view(alignment(pieces=pieces)))
    assert "<" not in data.odd
    odd = json.loads(data.odd)
    assert odd == {"2": "\\u202e", "4": "↵", "5": "x" * 80 + "… (100 characters)"}


def test_the_name_of_the_download_is_a_plain_file_name() -> None:
    found = alignment(text="../../etc/passwd <b>\u202e")
    name = embed(view(found)).name
    assert name == "etc-passwd-b.alignment.json"
    assert embed(view(alignment(text="\u202e"))).name == "candidate.alignment.json"
