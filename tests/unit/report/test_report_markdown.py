"""Markdown stays Markdown whatever the model said, and within its limit."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from report_alignments import HOSTILE, LINK, alignment, arm, prompt, units

from harness.alignment.outcomes import VERDICTS
from harness.alignment.result import Gate
from harness.messages.message import message
from harness.report import to_markdown
from harness.report.text import markdown_cell


def rows_of(markdown: str) -> list[list[str]]:
    """Cells of every table row, cut at pipes as GitHub cuts them."""
    lines = [line for line in markdown.split("\n") if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]


@pytest.mark.parametrize("text", [HOSTILE, LINK, "a|b||c\\|d\\", "`", "``` ```", " ", "", "\n\n|"])
def test_untrusted_text_breaks_no_markdown_table(text: str) -> None:
    markdown = to_markdown([alignment(text=text)])
    widths = {1: 0}
    header: list[str] = []
    for line in markdown.split("\n"):
        if not line.startswith("|"):
            header = []
            continue
        cells = rows_of(line)[0]
        header = header or cells
        assert len(cells) == len(header), line
        widths[1] += 1
    assert widths[1] > 30


OWN = re.compile(
    r"<!-- harness-report [\w.-]+ -->\n|<details><summary>[\w ,()]+</summary>\n|</details>\n"
)


@pytest.mark.parametrize("text", [HOSTILE, LINK, "@team", "`@a` @b", "<b>x</b>", "[a](b)", "#12"])
def test_markdown_holds_untrusted_text_in_code_spans_only(text: str) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark").enable("table")
    kinds: Counter[str] = Counter()
    outside: list[str] = []
    for block in parser.parse(to_markdown([alignment(text=text)])):
        # HTML is the report's own alone: a mark for CI, and parts that open.
        assert block.type != "html_block" or OWN.fullmatch(block.content), block.content
        kinds[block.type if block.type != "html_block" else "own"] += 1
        for token in block.children or []:
            kinds[token.type] += 1
            if token.type == "text":
                outside.append(token.content)
    assert kinds["code_inline"] > 20
    assert kinds["own"] > 10
    other = ("html", "link", "image", "fence", "code_block", "em_")
    assert not {k for k in kinds if k.startswith(other)}
    assert not re.search(r"@|://|<|#\d|`|\[", "".join(outside))


@pytest.mark.parametrize(
    "text", ["a|b", r"a\|b", r"\\|", "|", "`", "``", "a`", "`a", " a ", "x\\", "`|`", "a``b`c"]
)
def test_a_cell_reads_as_its_text(text: str) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark").enable("table")
    source = f"| a | b |\n|---|---|\n| {markdown_cell(text)} | end |\n"
    cells = [token.children for token in parser.parse(source) if token.type == "inline"][2:]
    assert [token.type for token in cells[0]] == ["code_inline"]
    assert cells[0][0].content == re.sub(r"\\+(?=\|)", lambda m: r"\x5c" * len(m[0]), text)
    assert cells[1][0].content == "end"


@pytest.mark.parametrize("limit", [3_000, 5_000, 20_000, 65_536])
@pytest.mark.parametrize("text", ["😀" * 300, "plain", HOSTILE])
def test_markdown_keeps_within_the_limit_and_counts_what_it_leaves_out(
    limit: int, text: str
) -> None:
    many = tuple(prompt(f"{text[:40]} {n}", text, 64, flip=20, bad=40) for n in range(100))
    found = alignment("DRIFT", text=text, prompts=many)
    markdown = to_markdown([found, alignment()], limit)
    assert units(markdown) <= limit
    assert "left out" in markdown
    header: list[str] = []
    for line in markdown.split("\n"):
        cells = rows_of(line)[0] if line.startswith("|") else []
        header = (header or cells) if cells else []
        assert len(cells) == len(header)
    if limit == 65_536:
        assert units(markdown) > 50_000  # it uses the room that there is
        table = markdown.split("<summary>Per prompt")[1].split("</details>")[0]
        shown = len([row for row in rows_of(table) if len(row) == 9]) - 2
        assert shown == 101 or f"{101 - shown} of 101 prompts are left out" in table


def test_a_comment_shows_every_failing_prompt_and_a_few_that_only_flip() -> None:
    flips = [prompt(f"flip-{n}", flip=2) for n in range(9)]
    fails = [prompt(f"fail-{n}", bad=3, verdict="DRIFT") for n in range(5)]
    markdown = to_markdown([alignment("DRIFT", prompts=(*flips, *fails))])
    shown = re.findall(r"^#### `(\w+)-\d`", markdown, re.MULTILINE)
    assert shown == ["fail"] * 5 + ["flip"] * 3
    assert "6 more prompts have a flip and no failing position" in markdown


def test_the_verdict_is_there_even_where_the_rest_has_no_room() -> None:
    gate = Gate(name="g" * 60, status="FAIL", value=1.0, limit=0.0, sentence="\u202e" * 600)
    markdown = to_markdown([alignment("DRIFT", gates=(gate,) * 50)])
    assert units(markdown) <= 65_536
    assert "DRIFT" in markdown
    assert "DRIFT" in to_markdown([alignment("DRIFT")], limit=500)


def test_a_limit_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="20 characters"):
        to_markdown([alignment()], limit=20)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_it_names_the_verdict_the_sentence_and_the_error_ratio(verdict: str) -> None:
    prompts: Any = () if verdict == "NOT_COMPARABLE" else (prompt(),)
    markdown = to_markdown([alignment(verdict, prompts=prompts)])
    assert re.search(rf"^## . {verdict}$", markdown, re.MULTILINE)
    assert "The candidate computes what the reference computes" in markdown
    assert "1.021 (0.98 to 1.07)" in markdown


@pytest.mark.slow
def test_ten_thousand_characters_are_cut_and_their_number_is_told() -> None:
    markdown = to_markdown([alignment(text="x" * 9_990 + "end-of-text")])
    assert "10,001 characters" in markdown
    assert units(markdown) <= 65_536


def test_several_begin_with_a_table_of_their_verdicts() -> None:
    several = [alignment("DRIFT"), alignment("BIT_EXACT"), alignment("NOT_COMPARABLE", prompts=())]
    table = to_markdown(several).split("\n## ")[0]
    assert all(found.verdict in table for found in several)


def test_a_forced_candidate_is_said_to_have_no_run_of_its_own() -> None:
    found = alignment(candidate=arm("candidate", replay="forced-decode"), prompts=(prompt(),))
    assert "| no free run |" in to_markdown([found])


def test_figures_of_performance_are_struck_out_where_the_verdict_makes_them_worthless() -> None:
    assert "| ~~31 ms~~ | ~~31 ms~~ |" in to_markdown([alignment("DRIFT")])
    assert "~~" not in to_markdown([alignment("EQUIVALENT")])


def test_chinese_has_headings_and_sentences_of_its_own() -> None:
    ratio = message("times", value=1.02, low=0.98, high=1.07)
    said = message("verdict.found", meaning=message("meaning.DRIFT"),
                   parts=(message("part.error", ratio=ratio),))  # fmt: skip
    markdown = to_markdown([alignment("DRIFT", message=said)], language="zh")
    assert "所有判据" in markdown
    assert (
        "计算结果的偏差超出判据所允许的范围：误差为参考的 1.02 倍（95 % 区间 0.98 至 1.07）。"
        in markdown
    )
    assert "| 指标 | 待测 | 参考 | 比值 |" in markdown
    assert "Gates" not in markdown
