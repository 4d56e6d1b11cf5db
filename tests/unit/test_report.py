"""Reports say what the alignment says, and no text of a model can change them."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.alignment.result import (
    VERDICTS,
    Alignment,
    Arm,
    Comparability,
    FieldDifference,
    Figures,
    Gate,
    Interval,
    Performance,
    PointClass,
    Positions,
    PromptAlignment,
    load_alignment,
)
from harness.errors import UsageError
from harness.recording import ModelFacts, SuiteFacts
from harness.report import charts, render, to_html, to_markdown
from harness.report.prompt_view import Series
from harness.report.text import (
    html_token,
    markdown_cell,
    markdown_code,
    markdown_prose,
    number,
    seconds,
    visible,
)
from harness.report.view import view

HOSTILE = (
    "<script>document.title='owned'</script></style></title></textarea>--></script>]]>"
    "<img/onerror=document.title='owned'> \u202eevil\u202c \u2066x\u2069 \u200f\u061c\u200b "
    "\ud800 \udfff {{7*7}} {% raw %} a|b \\| `x` ``y`` \r\n\t\x00\x1b[31m \u2028 &amp; \"'"
)
LINK = "see https" + "://evil.example/ @everyone #1 ![x](http" + "://evil.example/p.png)"


def facts(text: str = "smollm2") -> ModelFacts:
    return ModelFacts(
        name=text,
        weights="ab" * 32,
        parameters=134_515_008,
        weight_bytes=269_030_016,
        config={"hidden_size": 576, "rope": {"theta": 10000.0}, "names": [text]},
        tokenizer="cd" * 32,
        template=None,
        vocab_size=49_152,
    )


def arm(role: Any, text: str = "hf-cpu", **changes: Any) -> Arm:
    fields: dict[str, Any] = {
        "role": role,
        "name": text,
        "file": f"{role}.json",
        "device": text,
        "dtype": "float32" if role == "oracle" else "bfloat16",
        "replay": "free",
        "created": "2025-01-02T03:04:05Z",
        "model": facts(),
        "suite": SuiteFacts(name="mixed", digest="ef" * 32),
        "settings": {"max_new_tokens": 64, "ignore_eos": True},
        "overridden": {},
        "engine": {"attention": "eager" if role == "control" else "sdpa", "threads": 8},
        "environment": {"torch": "2.9.0", "processor": text, "driver": None},
        "load": {"load_s": 1.25 if role == "candidate" else 1.5},
    }
    return Arm(**(fields | changes))


def prompt(
    name: str = "capital",
    text: str = "The capital of France is",
    count: int = 24,
    *,
    verdict: Any = "EQUIVALENT",
    flip: int | None = None,
    bad: int | None = None,
    piece: int = 0,
    oracle: bool = True,
) -> PromptAlignment:
    """A prompt of ``count`` positions, with a flip and a failing position."""
    tokens = [1 + (n + piece) % 9 for n in range(count)]
    own = [t if flip is None or n < flip else 1 + t % 9 for n, t in enumerate(tokens)]
    classes: list[PointClass | None] = ["EXACT"] * count
    if flip is not None:
        classes[flip] = "NEAR-TIE"
    if bad is not None:
        classes[bad] = "SILENT-DRIFT"
    shown = bad if bad is not None else flip if flip is not None else (0 if count else None)
    chosen = [own[n] if n == flip else t for n, t in enumerate(tokens)]
    wave = [0.08 + 0.03 * math.sin(n + len(name)) for n in range(count)]
    errors = [e * (4.0 if n == bad else 1.1) if oracle else None for n, e in enumerate(wave)]
    tops = [[(t, 18.25), (1 + t % 9, 17.5), (11, 12.0), (12, 11.5), (13, 0.1)] for t in tokens]
    return PromptAlignment(
        id=name,
        verdict=verdict,
        text=text,
        tokens_compared=count,
        tokens_expected=count,
        first_divergence=flip,
        shown=shown,
        class_=None if shown is None else classes[shown],
        margin=None if shown is None else 0.03125,
        shift=None if shown is None else -0.0625,
        tolerance=None if shown is None else 0.1875,
        context_token_ids=tokens,
        candidate_token_ids=own,
        context_text=text * 2,
        candidate_text=text * 2 if flip is None else text * 2 + "!",
        positions=Positions(
            class_=classes,
            reference_token=tokens,
            candidate_token=chosen,
            margin=[0.75] * count,
            shift=[None if n == 3 else 0.0625 for n in range(count)],
            tolerance=[0.1875] * count,
            error=errors,
            reference_error=[e if oracle else None for e in wave],
            bit_equal=[False] * count,
            reference_top=tops,
            candidate_top=tops,
        ),
    )


def alignment(verdict: Any = "EQUIVALENT", text: str | None = None, **changes: Any) -> Alignment:
    """An alignment; with ``text``, every free string in it is that text."""
    say = text if text is not None else "hf-cpu"
    prompts = changes.pop("prompts", (prompt(), prompt("second", flip=7, bad=9)))
    if text is not None:
        prompts = (prompt(text, text, flip=4, bad=6), *prompts)
    pieces = {
        str(n): word
        for n, word in enumerate(["", "the", " a", "of\n", " Paris", "is", ".", "\t,", "é", " "])
    }
    difference = FieldDifference(field=f"dtype {say}", candidate=say, baseline="bfloat16")
    none = {"load_s": None, "ttft_s": 0.031, "itl_s": 0.0123, "decode_tpot_s": 0.0125}
    speed = {"decode_tok_s": 80.0, "total_tok_s": 76.54321}
    fields: dict[str, Any] = {
        "created": "2025-01-02T03:04:05Z",
        "verdict": verdict,
        "sentence": f"The candidate computes what the reference computes: {say}.",
        "error_ratio": Interval(value=1.0213456, low=0.98, high=1.07),
        "top_k_error_ratio": Interval(value=1.0, low=None, high=None),
        "gates": (
            Gate(name="error_ratio", status="PASS", value=1.0213456, low=0.98, high=1.07,
                 threshold=1.5, sentence=f"The error is that of the reference. {say}"),
            Gate(name="point_guard", status="FAIL", value=1.0, threshold=0.0, sentence=say),
            Gate(name="bias", status="NOT_RUN", value=None, threshold=None, sentence="No data."),
        ),
        "positions": sum(p.tokens_compared for p in prompts),
        "classes": {"EXACT": 45, "NEAR-TIE": 1, "SILENT-DRIFT": 1, "TIE": 0},
        "prompts": prompts,
        "comparability": Comparability(
            comparable=verdict != "NOT_COMPARABLE",
            differences=(difference,) if verdict == "NOT_COMPARABLE" else (),
            allowed=(),
            unknown=("weights",),
        ),
        "candidate": arm("candidate", say, file=say, model=facts(text or "smollm2")),
        "baseline": (arm("reference"), arm("oracle"), arm("control"), arm("control", say)),
        "performance": Performance(
            candidate=Figures(**none, **speed, samples=32, gaps=2016),
            reference=Figures(**none, **speed, samples=32, gaps=2016),
            ratio={"ttft_s": 1.0, "load_s": None, "decode_tok_s": 1.25},
        ),
        "pieces": pieces | {str(n): say for n in range(10, 14)} | {"5": say},
        "warnings": (f"Thread count differs: {say}",),
        "reproduce": (f"harness compare {say} baselines/smollm2/mixed/bfloat16",),
    }  # fmt: skip
    return Alignment(**(fields | changes))


class Page(HTMLParser):
    """What a browser would see of a page: elements, attributes, text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.ids: Counter[str] = Counter()
        self.inline: dict[str, str] = {}
        self.words: list[str] = []
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids.update(value or "" for name, value in attrs if name == "id")
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in {"script", "style"}:
            self.inline[self._inside] = data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@pytest.mark.parametrize("verdict", VERDICTS)
def test_both_formats_name_the_verdict_and_the_sentence(verdict: str) -> None:
    prompts: Any = () if verdict == "NOT_COMPARABLE" else (prompt(),)
    found = alignment(verdict, prompts=prompts)
    page = Page(to_html([found]))
    assert page.text.count(verdict) >= 1
    assert found.sentence in page.text
    assert "1.021 (0.98 to 1.07)" in page.text
    markdown = to_markdown([found])
    word = f"`{verdict}`" if "_" in verdict else verdict
    assert re.search(rf"^## . {word}$", markdown, re.MULTILINE)
    assert "1.021 (0.98 to 1.07)" in markdown


def test_a_refused_comparison_shows_the_differing_field_and_no_empty_table() -> None:
    found = alignment("NOT_COMPARABLE", prompts=(), gates=(), baseline=())
    page = Page(to_html([found]))
    assert "dtype hf-cpu" in page.text
    assert "No prompt was compared." in page.text
    assert "No gate was run." in page.text
    assert "dtype hf-cpu" in to_markdown([found])


def test_hostile_text_adds_no_element_to_the_page() -> None:
    hostile, harmless = to_html([alignment(text=HOSTILE)]), to_html([alignment(text="plain")])
    wild, tame = Page(hostile), Page(harmless)
    assert wild.tags["script"] == wild.tags["style"] == wild.tags["title"] == 1
    assert set(wild.tags) <= set(tame.tags) | {"br"}
    # Escapes, line breaks and texts that now differ from one another apart.
    assert {t: n for t, n in wild.tags.items() if t not in {"span", "br", "bdi"}} == {
        t: n for t, n in tame.tags.items() if t not in {"span", "br", "bdi"}
    }
    assert not [a for a in wild.attributes if a[1].startswith("on")]


def test_hostile_text_is_shown_as_text() -> None:
    page = Page(to_html([alignment(text=HOSTILE)]))
    assert "<script>document.title='owned'</script>" in page.text
    assert "</style></title></textarea>--></script>]]>" in page.text
    assert "{{7*7}} {% raw %}" in page.text
    for escape in (r"\u202e", r"\u2066", r"\u200f", r"\u061c", r"\u200b", r"\ud800", r"\udfff",
                   "↵", r"\r", r"\t", r"\0", r"\x1b", r"\u2028"):  # fmt: skip
        assert escape in page.text


def test_no_invisible_character_reaches_a_report() -> None:
    found = alignment(text=HOSTILE)
    for report in (to_html([found]), to_markdown([found])):
        report.encode("utf-8")
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e"
                             "\u2066-\u2069\ud800-\udfff]", report)  # fmt: skip


def test_the_page_asks_for_nothing_outside_itself() -> None:
    html = to_html([alignment(text=HOSTILE), alignment()])
    assert not re.search(r"https?://|\bsrc\s*=|url\(|@import", html)
    allowed = {("link", "data:,")}
    for tag, name, value in Page(html).attributes:
        if name in {"href", "src", "srcset", "action", "data", "poster"}:
            assert (value or "").startswith("#") or (tag, value) in allowed
        assert name != "style"  # the policy would ignore it


def test_links_in_texts_stay_text() -> None:
    page = Page(to_html([alignment(text=LINK)]))
    assert LINK in page.text
    assert all((v or "")[:1] == "#" for t, n, v in page.attributes if (t, n) == ("a", "href"))


def test_the_policy_allows_exactly_the_inline_script_and_style() -> None:
    page = Page(to_html([alignment()]))
    contents = [v or "" for t, n, v in page.attributes if (t, n) == ("meta", "content")]
    policy = next(value for value in contents if "src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        digest = hashlib.sha256(page.inline[kind].encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_ids_are_unique_and_links_lead_to_them() -> None:
    page = Page(to_html([alignment(), alignment(text=HOSTILE), alignment("DRIFT")]))
    assert max(page.ids.values()) == 1
    links = [v[1:] for t, n, v in page.attributes if (t, n) == ("a", "href") and v]
    assert links
    assert set(links) <= set(page.ids)


def test_a_forced_candidate_is_said_to_have_no_run_of_its_own() -> None:
    found = alignment(candidate=arm("candidate", replay="forced-decode"), prompts=(prompt(),))
    page = Page(to_html([found]))
    assert "There was no free run" in page.text
    assert "own run left the context" not in page.text
    assert "— (no free run)" in page.text
    assert "— (no free run)" in to_markdown([found])
    assert "There was no free run" not in Page(to_html([alignment(prompts=(prompt(),))])).text


def test_a_position_of_no_known_class_shows_a_dash() -> None:
    one = prompt(count=4)
    positions = one.positions.model_copy(update={"class_": [None] * 4})
    one = one.model_copy(update={"positions": positions, "class_": None})
    shown = view(alignment(prompts=(one,))).prompts[0]
    assert [p.class_ for p in shown.window] == ["—"] * 4
    assert "None" not in to_html([alignment(prompts=(one,))])
    assert "None" not in to_markdown([alignment(prompts=(one,))])


def test_several_alignments_stand_side_by_side_first() -> None:
    several = [alignment("DRIFT"), alignment("BIT_EXACT"), alignment("NOT_COMPARABLE", prompts=())]
    html = Page(to_html(several))
    assert html.tags["article"] == 3
    beginning = html.text.split("Comparability")[0]
    assert all(found.verdict in beginning for found in several)
    table = to_markdown(several).split("\n## ")[0]
    assert all(found.verdict in table for found in several)


def test_ten_thousand_characters_are_shown_whole_in_html_and_cut_in_markdown() -> None:
    long = "x" * 9_990 + "end-of-text"
    assert long in Page(to_html([alignment(text=long)])).text
    markdown = to_markdown([alignment(text=long)])
    assert "10,001 characters" in markdown
    assert units(markdown) <= 65_536


def test_a_full_report_stays_below_three_megabytes() -> None:
    many = tuple(prompt(f"prompt-{n}", count=64, flip=20, bad=40) for n in range(33))
    html = to_html([alignment("DRIFT", prompts=many)])
    assert len(html.encode()) < 3_000_000
    assert Page(html).tags["details"] >= 66


def test_prompts_beyond_the_detailed_ones_are_counted() -> None:
    good = [prompt(f"good-{n}", count=2) for n in range(120)]
    found = alignment("DRIFT", prompts=(*good, prompt("bad", verdict="DRIFT", bad=3)))
    page = Page(to_html([found]))
    assert "21 more prompts are in the table only" in page.text
    assert "a1-p120" in page.ids  # the failing one is among those shown
    assert all(p.id in page.text for p in found.prompts)


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


@pytest.mark.parametrize("text", [HOSTILE, LINK, "@team", "`@a` @b", "<b>x</b>", "[a](b)", "#12"])
def test_markdown_holds_untrusted_text_in_code_spans_only(text: str) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark").enable("table")
    kinds: Counter[str] = Counter()
    outside: list[str] = []
    for block in parser.parse(to_markdown([alignment(text=text)])):
        kinds[block.type] += 1
        for token in block.children or []:
            kinds[token.type] += 1
            if token.type == "text":
                outside.append(token.content)
    assert kinds["code_inline"] > 20
    assert not {k for k in kinds if k.startswith(("html", "link", "image", "fence", "code_block"))}
    assert not re.search(r"@|://|<|#\d|\w_\w|`|\[", "".join(outside))


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
        table = markdown.split("### Parity per prompt")[1].split("#### ")[0]
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
    gate = Gate(name="g" * 60, status="FAIL", value=1.0, threshold=0.0, sentence="\u202e" * 600)
    markdown = to_markdown([alignment("DRIFT", gates=(gate,) * 50)])
    assert units(markdown) <= 65_536
    assert "DRIFT" in markdown
    assert "DRIFT" in to_markdown([alignment("DRIFT")], limit=500)


def test_a_limit_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="20 characters"):
        to_markdown([alignment()], limit=20)


@pytest.mark.parametrize("suffix", [".html", ".md", ".json"])
def test_render_writes_the_format_of_the_suffix(tmp_path: Path, suffix: str) -> None:
    found = alignment(text=HOSTILE)
    path = tmp_path / "deep" / f"report{suffix}"
    render([found], path)
    content = path.read_bytes().decode("utf-8")
    if suffix == ".json":
        assert load_alignment(path) == found
    else:
        assert content == {".html": to_html, ".md": to_markdown}[suffix]([found])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_render_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.html, \.md or \.json"):
        render([alignment()], tmp_path / "report.pdf")
    with pytest.raises(UsageError, match="one alignment, not 2"):
        render([alignment(), alignment()], tmp_path / "report.json")
    with pytest.raises(UsageError, match="no alignment"):
        render([], tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_without_an_oracle_no_chart_is_drawn_and_the_page_says_so() -> None:
    page = Page(to_html([alignment(prompts=(prompt(oracle=False),))]))
    assert "there is no error to draw" in page.text
    assert not [v for t, n, v in page.attributes if n == "class" and v in {"chart", "heat"}]


def test_positions_around_the_shown_one_are_eight_on_either_side() -> None:
    shown = view(alignment(prompts=(prompt(count=40, flip=20), prompt("edge", flip=2))))
    assert [p.index for p in shown.prompts[0].window] == list(range(12, 29))
    assert [p.index for p in shown.prompts[1].window] == list(range(11))
    assert [p.index for p in shown.prompts[0].window if p.shown] == [20]
    assert len(shown.prompts[0].window[0].reference_top) == 5


def test_the_token_pairs_mark_where_the_run_left_the_context() -> None:
    pairs = view(alignment(prompts=(prompt(count=30, flip=11),))).prompts[0].pairs
    assert [p.index for p in pairs if p.first] == [11]
    assert all(p.equal for p in pairs[:11])
    assert not any(p.equal for p in pairs[11:])


def test_long_runs_are_paired_around_the_divergence_and_the_rest_is_counted() -> None:
    found = view(alignment(prompts=(prompt(count=2_000, flip=1_000),))).prompts[0]
    assert (found.pairs_before, len(found.pairs), found.pairs_after) == (872, 256, 872)
    assert [p.index for p in found.pairs if p.first] == [1_000]


def test_flips_and_error_ratio_are_computed_from_the_positions() -> None:
    shown = view(alignment(prompts=(prompt(flip=7), prompt("b"))))
    assert shown.flips == 1
    assert shown.diverged == "1 of 2"
    assert shown.prompts[1].error_ratio == "1.1"


def test_differing_fields_of_the_environment_stand_apart_from_equal_ones() -> None:
    shown = view(alignment(baseline=(arm("reference"), arm("control"))))
    assert [row.name for row in shown.differing] == ["engine.attention"]
    same = {row.name: row.values for row in shown.same}
    assert same["environment.driver"] == ("unknown",) * 3
    assert same["model.config.rope.theta"] == ("10000.0",) * 3
    assert same["load.load_s"] == ("1.25", "1.5", "1.5")


def test_performance_shows_units_ratio_samples_and_definition() -> None:
    shown = view(alignment())
    figures = {row.name: row for row in shown.performance}
    assert figures["time to first token"].candidate == "31 ms"
    assert figures["tokens per second"].candidate == "76.54"
    assert figures["load"].ratio == "—"
    assert "(n − 1)" in figures["time per output token"].definition
    assert "32 requests and 2,016 gaps" in shown.samples


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
        r"Error ratio 1.02 (0.98 to 1.07) is within 1.5; see `a_b` `@you` `x\x7cy.`"
    )
    assert markdown_code("a`b") == "``a`b``"


def test_charts_bin_many_positions_and_break_at_missing_ones() -> None:
    many = Series("p", tuple([0.1, None, 0.3] * 1_000), (0.1,) * 3_000, (5,), (6,))
    assert len(charts.error_chart(many)) < 20_000
    assert len(charts.heat_map([many] * 300)) < 4_000_000
    assert charts.heat_map([many] * 300).count("<text") == charts.MOST_ROWS + 2
    gap = charts.error_chart(Series("p", (0.1, None, 0.3), (None,) * 3, (), ()))
    line = re.search(r'candidate" d="([^"]*)"', gap)
    assert line is not None
    assert line[1].count("M") == 2


def test_charts_show_what_fails_by_a_mark_and_not_by_colour_alone() -> None:
    series = Series("p", (1.0, 9.0, 1.0), (1.0, 1.0, 0.0), failing=(1,), flips=(2,))
    drawn = charts.heat_map([series])
    assert re.search(r'class="cross" d="M[^"]+"', drawn)
    assert re.search(r'class="dot" d="M[^"]+"', drawn)
    assert 'class="h4"' in drawn
    line = charts.error_chart(series)
    assert re.search(r'class="flip" d="M[^"]+"', line)
    assert re.search(r'class="cross" d="M[^"]+"', line)


def test_charts_of_nothing_are_empty() -> None:
    empty = Series("p", (), (), (), ())
    assert charts.error_chart(empty) == charts.heat_map([empty]) == charts.heat_map([]) == ""
