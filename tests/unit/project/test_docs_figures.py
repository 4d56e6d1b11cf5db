"""Figures of the pages against benchmarks/results, the examples and the committed baselines."""

from __future__ import annotations

import json
import re

import pytest
from doc_pages import ROOT

from benchmarks.catalogue.entries import Entry
from benchmarks.catalogue.judging import Judged
from benchmarks.catalogue.table import (
    BEGIN,
    DETECTED,
    DIAGNOSIS,
    END,
    diagnosed_in,
    evidence_table,
    read,
    tables,
)

RESULTS = ROOT / "benchmarks" / "results"
STATUS = ROOT / "docs" / "status.md"
#: By the beginning of a row of docs/status.md: the faults whose figures it shows, in their order.
STATUS_ROWS = {
    "one attention head zeroed": [
        ("one head zeroed", "median (10.1)"),
        ("one head zeroed", "weakest (20.3)"),
    ],
    "weights rounded to fp8": [("fp8 weights", "all layers"), ("int8 weights", "all layers")],
    "KV cache in fp8": [("quantized KV cache", "fp8"), ("quantized KV cache", "int8")],
    "softmax scale 10 % off": [("softmax scale", "10% off")],
    "last norm 1 % off": [("last norm", "1.0% off")],
    "one `lm_head` row": [
        ("one lm_head row", "common token × 1.5"),
        ("one lm_head row, uncommon token", "× 1.5"),
        ("one lm_head row, rare token", "× 1.5"),
    ],
    "RoPE base ÷ 10": [
        ("RoPE base", "÷ 10"),
        ("KV heads exchanged", "in every layer"),
        ("layer skipped", "layer 15"),
        ("layer skipped", "layer 25"),
    ],
}


@pytest.fixture(scope="module")
def judged() -> list[Judged]:
    return read(RESULTS / "catalogue.json")[0]


def _rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_tables_of_the_catalogue_are_those_of_its_results(judged: list[Judged]) -> None:
    page = (ROOT / "docs" / "catalogue.md").read_text("utf-8")
    _, _, rest = page.partition(BEGIN)
    _, told, _ = read(RESULTS / "catalogue.json")
    assert all(entry.right for entry in told)
    wanted = [*tables(judged, diagnosed_in(RESULTS / DIAGNOSIS)), *evidence_table(told)]
    assert rest.partition(END)[0].strip() == "\n".join(wanted).strip()


def test_every_diagnosis_of_a_fault_is_in_the_table(judged: list[Judged]) -> None:
    """A name that no entry has would be left out in silence."""
    keys = {Entry(j.family, j.severity, correct=j.correct).key for j in judged}
    known = diagnosed_in(RESULTS / DIAGNOSIS)
    assert {key for key in known if not key.startswith("engine-")} <= keys
    assert sum(known[key].told for key in known if key.startswith("fault-")) > 15
    assert not any(found.told for key, found in known.items() if not key.startswith("fault-"))


def test_the_status_shows_the_catalogues_figures(judged: list[Judged]) -> None:
    text = STATUS.read_text("utf-8")
    _, _, rest = text.partition("| on subsets of 32 prompts |")
    correct, *rows = _rows(rest.partition("\n\n")[0])
    right = [j for j in judged if j.correct]
    assert correct[0].startswith(f"{len(right)} correct variations")
    for cell, name in zip(correct[1:], ("unequal", "not_close", "failed"), strict=True):
        alarms = {getattr(j, name)[32] for j in right}
        assert {f"{rate:.0%}" for rate in alarms} == set(_percent(cell))
    assert {j.undecided[32] for j in right} == {0.0}
    assert len(rows) == len(STATUS_ROWS)
    faults = {(j.family, j.severity): j for j in judged}
    for what, _, close, verdict in rows:
        names = next(v for begin, v in STATUS_ROWS.items() if what.startswith(begin))
        for cell, rates in (
            (close, [faults[n].not_close[32] for n in names]),
            (verdict, [faults[n].failed[32] for n in names]),
        ):
            wanted = [f"{rate:.0%}" for rate in rates]
            # One figure stands for all of a row.
            shown = _percent(cell)
            assert (shown * len(wanted) if len(shown) == 1 else shown) == wanted, what
    for ratio in re.findall(r"error is ([0-9.]+) times", rest.partition("\n\n")[0]):
        assert ratio == f"{faults['quantized KV cache', 'int8'].figures['error_ratio']:.2f}"


def _percent(cell: str) -> list[str]:
    return [f"{figure}%" for figure in re.findall(r"([0-9.]+) %", cell)]


def test_the_catalogue_lists_every_fault_that_it_misses(judged: list[Judged]) -> None:
    page = (ROOT / "docs" / "catalogue.md").read_text("utf-8")
    section = page.partition("## What is missed")[2]
    shown = set()
    for family, *columns in _rows(section)[1:]:
        for column, cell in enumerate(columns):
            shown |= {(family, column, item) for item in cell.split(", ") if item}
    assert shown == {
        (j.family, _column(j), _item(j))
        for j in judged
        if not j.correct and j.failed[32] < DETECTED
    }
    for j in judged:
        if not j.correct and DETECTED <= j.failed[32] < 1.0:
            assert f"({100 * j.failed[32]:g} %)" in section, j


def _column(j: Judged) -> int:
    if j.verdict != "EQUIVALENT":
        return 2
    ratio = j.figures["error_ratio"]
    assert ratio is not None
    return 1 if ratio > 1.2 else 0


def _item(j: Judged) -> str:
    share = "" if j.verdict == "EQUIVALENT" else f"; fails in {100 * j.failed[32]:g} %"
    return f"{j.severity} ({j.figures['error_ratio']:.2f}{share})"


def test_the_simulations_table_is_what_it_printed() -> None:
    """The page leaves out the last two columns: inconclusive and warned."""
    printed = _rows((RESULTS / "known_answers.txt").read_text("utf-8"))
    page = (ROOT / "docs" / "verdict.md").read_text("utf-8")
    _, _, rest = page.partition("| noise | prompts |")
    assert _rows(rest.partition("\n\n")[0]) == [row[:6] for row in printed[1:]]


#: What a row of docs/status.md begins with; what performance.txt printed; the figures, rounded.
PRINTED = [
    ("generating with row statistics", r"keeping nothing: median ([\d.]+)", ["{:.2f} times"]),
    ("generating 128 tokens", r"one pass in the model's dtype: median ([\d.]+)", ["{:.1f}"] * 2),
    ("the same with the float32", r"\(pass \+ oracle\): median ([\d.]+)", ["{:.1f}"] * 2),
    ("`harness compare` of two", r"harness compare: median ([\d.]+) s", ["{:.2f} s"]),
    ("`harness compare` of two", r"harness compare: .* peak (\d+) MB", ["{:.0f} MB"]),
    ("`harness --help`", r"harness --help: median ([\d.]+) s", ["{:.2f} s"]),
    ("compare and report of 1,000", r"^([\d.]+) s \([\d.]+ s of CPU time\)", ["{:.1f} s"]),
    ("compare and report of 1,000", r"^([\d.]+) GiB of memory", ["{:.2f} GiB"]),
    ("a plain loop with a clock: first", r"^ttft_s: .* loop ([\d.]+)", ["{:.2f}"]),
    ("a plain loop with a clock: each", r"^decode_tpot_s: .* loop ([\d.]+)", ["{:.2f}"]),
    ("the same with BitCPM4", r"_s: .* loop ([\d.]+), .*, 5 pairs", ["{:.2f}"] * 2),
    ("`vllm bench latency`", r"vllm bench latency ([\d.]+), .*, 3 pairs", ["{:.2f}"]),
]


@pytest.mark.parametrize(("row", "pattern", "forms"), PRINTED)
def test_the_status_shows_what_the_benchmarks_printed(
    row: str, pattern: str, forms: list[str]
) -> None:
    printed = re.findall(
        pattern, (RESULTS / "performance.txt").read_text("utf-8"), flags=re.MULTILINE
    )
    assert len(printed) >= len(forms)
    (line,) = [r for r in _rows(STATUS.read_text("utf-8")) if r[0].startswith(row)]
    for figure, form in zip(printed, forms, strict=False):
        assert form.format(float(figure)) in line[1], figure


def test_the_status_counts_the_outcomes_of_the_gate_as_printed() -> None:
    printed = (RESULTS / "performance.txt").read_text("utf-8")
    text = " ".join(STATUS.read_text("utf-8").split())
    same, slower = re.findall(r"^slowdown \d%: (\{.*\}) of (\d+)$", printed, re.MULTILINE)
    assert same == ("{'EQUIVALENT': 18, 'INCONCLUSIVE': 2}", "20")
    assert slower == ("{'REGRESSED': 10}", "10")
    assert "of 20 comparisons" in text
    assert "18 were EQUIVALENT, 2 INCONCLUSIVE and none REGRESSED" in text
    assert "in 10 of 10" in text


def test_the_status_tells_the_sizes_of_the_committed_files() -> None:
    rows = {row[0]: row[1] for row in _rows(STATUS.read_text("utf-8")) if len(row) > 1}
    example = ROOT / "docs" / "examples" / "vllm-cpu-mixed.html"
    assert rows["a report of 36 prompts × 64 positions"] == f"{example.stat().st_size / 1e6:.1f} MB"
    sizes = []
    for arm in (ROOT / "baselines" / "smollm2" / "mixed" / "bfloat16").glob("*.json"):
        prompts = json.loads(arm.read_text("utf-8"))["prompts"]
        runs = [run for p in prompts for run in (p["free"], p["forced"]) if run is not None]
        sizes.append(arm.stat().st_size / sum(len(run["token_ids"]) for run in runs))
    low, high = re.findall(r"\d+", rows["a position in a recording"])
    assert int(low) == round(min(sizes))
    assert int(high) >= max(sizes)
