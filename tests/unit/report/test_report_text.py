"""Figures and untrusted text as reports write them."""

from __future__ import annotations

import math

import pytest

from harness.report.text import (
    html_token,
    markdown_code,
    markdown_prose,
    number,
    percent,
    seconds,
    visible,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (math.nan, "—"), (math.inf, "—"), (0.0, "0"), (-0.0, "0"), (1.23456, "1.235"),
     (12345.6, "12,346"), (2112, "2,112"), (1.5e-7, "1.5e-07"), (-0.03125, "-0.03125")],
)  # fmt: skip
def test_numbers_have_four_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_seconds_carry_their_unit() -> None:
    assert [seconds(v) for v in (None, 0.0312, 1.5)] == ["—", "31.2 ms", "1.5 s"]


def test_tokens_show_their_spaces_and_lone_marks() -> None:
    assert "␣" in html_token(" the")
    assert "(empty)" in html_token("")
    assert visible("\u0301") == r"\u0301"
    assert visible("e\u0301") == "e\u0301"
    assert visible("e" + "\u0301" * 50).count(r"\u0301") == 46
    assert visible("\U000e0041") == r"\U000e0041"
    assert visible("三元量化 اب 👍") == "三元量化 اب 👍"


def test_prose_keeps_plain_words_and_wraps_the_rest() -> None:
    text = "Error ratio 1.02 (0.98 to 1.07) is within 1.5; see a_b @you x|y."
    assert markdown_prose(text) == (
        r"Error ratio 1.02 (0.98 to 1.07) is within 1.5; see a_b `@you` `x\x7cy.`"
    )
    assert markdown_code("a`b") == "``a`b``"


def test_chinese_prose_stays_prose() -> None:
    text = "误差为参考的 1.01 倍（95 % 区间 0.98 至 1.03）；见 @you。"
    assert markdown_prose(text) == "误差为参考的 1.01 倍（95 % 区间 0.98 至 1.03）；见 `@you`。"


@pytest.mark.parametrize(
    "word",
    [
        "GH-26",
        "gh-1",
        "a5c3785",
        "a5c3785ed8d6a35868bc169f07e40e889087fd2e",
        "group/name!123",
        "x!5",
        "1" * 40,
        "(GH-26)",
        "a5c3785..b5c3785",
    ],
)
def test_what_a_forge_would_link_is_code(word: str) -> None:
    assert markdown_prose(f"see {word} there") == f"see `{word}` there"


@pytest.mark.parametrize(
    "word", ["GH", "HIGH-9", "1622165504", "defaced", "0.98", "1e-05", "no!", "x5!"]
)
def test_ordinary_words_and_figures_stay(word: str) -> None:
    assert markdown_prose(f"see {word} there") == f"see {word} there"


def test_a_share_is_a_percentage() -> None:
    assert [percent(v) for v in (None, 0.0, 0.0169270833, 1.0)] == ["—", "0 %", "1.69 %", "100 %"]


def test_chinese_punctuation_ends_a_word_of_a_sentence() -> None:
    said = "相差 +0.01281（95 % 区间 -0.06 至 +0.08），上限 0.003：bad_name，*x*。"
    shown = markdown_prose(said)
    assert shown == "相差 +0.01281（95 % 区间 -0.06 至 +0.08），上限 0.003：bad_name，`*x*`。"
