"""Reports of benches are in the language that was asked for, with the same figures."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benches import CELL, MS, bench
from report_alignments import Page

from harness.bench.against import judge_pairs
from harness.bench.gate import Outcome
from harness.bench.result import (
    Accuracy,
    Bench,
    Comparison,
    LoadBench,
    LoadTimes,
    PairedCell,
    Side,
    load_bench,
    save_bench,
)
from harness.cli.main import main
from harness.messages.message import message
from harness.messages.tables import MESSAGES, Language
from harness.report.bench import (
    bench_lines,
    comparison_lines,
    load_lines,
    render_bench,
    render_comparison,
    render_load,
)

HAN = re.compile("[\u4e00-\u9fff]")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def comparison() -> Comparison:
    """One cell of each outcome, one with counters that grew, one out of time."""
    shifts = {"REGRESSED": 0.2, "IMPROVED": -0.2, "EQUIVALENT": 0.001}
    found = [judge_pairs([shift, shift + 0.001, shift]) for shift in shifts.values()]
    found.append(judge_pairs([0.5, -0.5]))
    said = [one.message for one in found]
    counters = (message("bench.counter", name="output_tokens", first=3, second=4),)
    said.append(message("bench.counters", counters=counters, clock=said[2]))
    said.append(message("bench.stopped", clock=said[3], seconds=60.0))
    outcomes: list[Outcome] = [one.outcome for one in found]
    assert outcomes == ["REGRESSED", "IMPROVED", "EQUIVALENT", "INCONCLUSIVE"]
    cells = tuple(
        PairedCell(cell=CELL, blocks_ns=((1, 2, 2, 1),), outcome="INCONCLUSIVE", ratio=1.0,
                   low=0.9, high=1.1, detectable=1.2, message=text, counters={})
        for text in said
    )  # fmt: skip
    side = Side(device="fake", model="m", dtype="bfloat16", options="--device fake", machine="m",
                engine={}, environment={},
                accuracy=Accuracy(verdict=None, message=message("bench.not_judged")))  # fmt: skip
    return Comparison(created="2026-01-02T03:04:05+00:00", first=side, second=side, cells=cells)


def loaded() -> LoadBench:
    def times(rate: float | None, **changes: Any) -> LoadTimes:
        fields: dict[str, Any] = {
            "rate": rate, "concurrency": 16, "requests": 3, "completed": 2, "prompt_tokens": 16,
            "output_tokens": 8, "errors": 1, "first_error": "it hung up", "wall_ns": 500 * MS,
            "ttft_ns": (20 * MS,), "itl_ns": ((10 * MS,),), "server": {},
        }  # fmt: skip
        return LoadTimes(**(fields | changes))

    return LoadBench(created="2026-01-02T03:04:05+00:00", url="http://127.0.0.1:8000", model="m",
                     prompt_tokens=8, output_tokens=4,
                     loads=(times(None), times(2.5, errors=2)))  # fmt: skip


KINDS: list[tuple[Any, Callable[..., None], Callable[..., Any]]] = [
    (bench(), lambda b, path, lang: render_bench([b], path, lang), bench_lines),
    (comparison(), render_comparison, comparison_lines),
    (loaded(), render_load, load_lines),
]


def numbers(text: str) -> Counter[str]:
    return Counter(NUMBER.findall(text))


@pytest.mark.parametrize(("found", "render", "lines"), KINDS, ids=["bench", "against", "load"])
def test_markdown_page_and_lines_say_the_same_in_both_languages(
    tmp_path: Path, found: Any, render: Callable[..., None], lines: Callable[..., Any]
) -> None:
    texts: dict[str, list[str]] = {}
    for language in ("en", "zh"):
        for suffix in ("md", "html"):
            render(found, tmp_path / f"{language}.{suffix}", language)
        page = Page((tmp_path / f"{language}.html").read_text("utf-8"), language)
        assert ("html", "lang", language) in page.attributes
        texts[language] = [
            (tmp_path / f"{language}.md").read_text("utf-8"), " ".join(page.words),
            "\n".join(lines(found, language)),
        ]  # fmt: skip
    for english, chinese in zip(texts["en"], texts["zh"], strict=True):
        assert not HAN.search(english)
        assert HAN.search(chinese)
        # A page holds the other language as well, which leaves blank lines.
        both = ([line for line in text.splitlines() if line.strip()] for text in (english, chinese))
        for mine, theirs in zip(*both, strict=True):
            assert numbers(mine) == numbers(theirs), (mine, theirs)
        for sentence in re.findall(r"[a-z]{3,} [a-z]{2,} [a-z]{2,} [a-z]{2,}", chinese):
            assert sentence in ("it does not fit",), sentence


def test_every_warning_of_a_bench_is_shown() -> None:
    for language in ("en", "zh"):
        said = "\n".join(bench_lines(bench(), language))  # type: ignore[arg-type]
        assert "it does not fit" in said
        assert said.count("8+3 x 1") == 2
        assert said.count("8+3 x 8") == 2


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_command_obeys_lang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: Language
) -> None:
    monkeypatch.chdir(tmp_path)
    save_bench(bench(), Path("b.json"))
    save_bench(bench("2026-02-02T03:04:05+00:00", machine="another"), Path("c.json"))
    for out in ("r.md", "r.html"):
        command = ["report", "b.json", "c.json", "--out", out, "--lang", language]
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    text = Page(Path("r.html").read_text("utf-8"), language).text
    for key in ("bench.heading", "bench.another_machine", "bench.crossed", "bench.interrupted"):
        assert MESSAGES[language][key] in text
    assert MESSAGES[language]["bench.crossed"] in Path("r.md").read_text("utf-8")


def test_a_bench_of_before_messages_is_read_and_shown_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    old = json.loads(bench().model_dump_json(by_alias=True))
    old["accuracy"] = {"verdict": "DRIFT", "sentence": "As it was.", "suite": None}
    save_bench(Bench.model_validate(old), path)
    render_bench([load_bench(path)], tmp_path / "b.md", "zh")
    assert "As it was." in (tmp_path / "b.md").read_text("utf-8")
