"""A file that the version before messages wrote (harness.alignment/1) is read and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.alignment.result import load_alignment, save_alignment
from harness.errors import ChecksumError, FormatError
from harness.files import jsonfile
from harness.report import to_html, to_markdown

FIRST = Path(__file__).parents[2] / "data" / "alignment" / "first.json"
WRITTEN = json.loads(FIRST.read_text("utf-8"))


def test_its_sentences_are_shown_as_they_are_in_both_languages() -> None:
    found = load_alignment(FIRST)
    assert WRITTEN["schema"] == "harness.alignment/1"
    sentences = [WRITTEN["sentence"], *WRITTEN["warnings"], WRITTEN["magnifier"]["sentence"]]
    sentences += [part["sentence"] for name in ("gates", "matrix") for part in WRITTEN[name]]
    assert len(sentences) > 20
    assert list(found.warnings) == WRITTEN["warnings"]
    for language in ("en", "zh"):
        page = to_html([found], language)  # type: ignore[arg-type]
        markdown = to_markdown([found], language=language)  # type: ignore[arg-type]
        for sentence in sentences:
            assert sentence.replace("'", "&#39;") in page
        assert WRITTEN["gates"][0]["name"] in markdown


def test_its_classes_are_spelled_with_an_underscore() -> None:
    found = load_alignment(FIRST)
    assert {"NEAR-TIE", "SILENT-DRIFT"} < set(WRITTEN["classes"])
    assert {"NEAR_TIE", "SILENT_DRIFT"} < set(found.classes)
    shown = {p.class_ for p in found.prompts} | {
        c for p in found.prompts for c in p.positions.class_
    }
    assert "SILENT_DRIFT" in shown
    assert not any("-" in name for name in (*shown, *found.classes) if name)


def test_it_is_written_as_a_file_of_today(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    found = load_alignment(FIRST)
    save_alignment(found, path)
    assert json.loads(path.read_text("utf-8"))["schema"] == "harness.alignment/2"
    assert load_alignment(path) == found


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(FIRST.read_text("utf-8").replace('"DIVERGENT"', '"EQUIVALENT"'), "utf-8")
    with pytest.raises(ChecksumError):
        load_alignment(path)


@pytest.mark.parametrize("field", ["prompts", "classes", "warnings", "gates"])
@pytest.mark.parametrize("value", [7, "x", [7], [[1]], {"a": "b"}, None])
def test_a_field_of_another_shape_is_named(tmp_path: Path, field: str, value: object) -> None:
    document = {k: v for k, v in WRITTEN.items() if not k.startswith("checksum")}
    path = tmp_path / "a.json"
    jsonfile.write(path, {**document, field: value})
    with pytest.raises(FormatError, match=field):
        load_alignment(path)
