"""The README: short, in plain sentences, with a picture; the Chinese one says the same."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from doc_pages import ROOT, without_fences

README = ROOT / "README.md"
CHINESE = ROOT / "docs" / "zh" / "README.md"
MOST_WORDS = 700
LONGEST_SENTENCE = 30
LARGEST_PICTURE = 200_000
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


def prose(text: str) -> str:
    """A page without its blocks of code and its comments."""
    return re.sub(r"<!--.*?-->", "", without_fences(text), flags=re.DOTALL)


def sentences(text: str) -> list[str]:
    """What a reader reads in one go: sentences, cells of tables, headings, items of lists."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n|\n(?=[-#|])", prose(text)):
        for part in paragraph.split("|") if paragraph.startswith("|") else [paragraph]:
            found += re.split(r"(?<=[.!?])\**\s+", part)
    return [" ".join(sentence.split()) for sentence in found if sentence.strip(" -#\n")]


def test_the_readme_is_short() -> None:
    assert len(prose(README.read_text("utf-8")).split()) <= MOST_WORDS


def test_no_sentence_of_the_readme_is_long() -> None:
    long = [s for s in sentences(README.read_text("utf-8")) if len(s.split()) > LONGEST_SENTENCE]
    assert long == []


def test_sentences_are_told_apart() -> None:
    text = (
        "# Head\n\nOne two. Three\nfour? Five: six.\n\n- **Item.** Seven.\n- eight\n\n| a b | c |\n"
    )
    text += "<!-- left\nout -->\n```sh\nno. code.\n```\n"
    expected = ["# Head", "One two.", "Three four?", "Five: six.", "- **Item.", "Seven."]
    assert sentences(text) == [*expected, "- eight", "a b", "c"]


@pytest.mark.parametrize("page", [README, CHINESE], ids=["en", "zh"])
def test_the_readme_has_one_picture_that_is_described_and_small(page: Path) -> None:
    ((described, target),) = _PICTURE.findall(page.read_text("utf-8"))
    assert described
    picture = (page.parent / target).resolve().read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) <= LARGEST_PICTURE
    width, height = struct.unpack(">II", picture[16:24])
    assert 800 <= width <= 2000
    assert height <= width


def test_the_readmes_figures_are_its_verdicts_only() -> None:
    """Measured figures stand in docs/status.md, the one place for them."""
    told = re.findall(r"[0-9][0-9.,]* ?(?:%|times|MB|GB|ms|s\b)", prose(README.read_text("utf-8")))
    assert told == []


def test_the_chinese_readme_is_built_like_the_english_one() -> None:
    english, chinese = (_shape(page.read_text("utf-8")) for page in (README, CHINESE))
    assert chinese == english


def _shape(text: str) -> dict[str, list[str] | int]:
    """What a translation keeps: levels of headings, rows, items, names in the first cells."""
    plain = prose(text)
    return {
        "headings": re.findall(r"^#+", plain, re.MULTILINE),
        "rows": len(re.findall(r"^\|", plain, re.MULTILINE)),
        "items": len(re.findall(r"^- ", plain, re.MULTILINE)),
        "verdicts": re.findall(r"^\| `([A-Z_]+)` ", plain, re.MULTILINE),
        "statuses": re.findall(r" (\d) \|$", plain, re.MULTILINE),
        "pictures": len(_PICTURE.findall(plain)),
    }
