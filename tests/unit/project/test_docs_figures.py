"""Figures of the pages against benchmarks/results: the catalogue's and the simulation's."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from doc_pages import ROOT

from benchmarks.catalogue.judging import Judged
from benchmarks.catalogue.table import BEGIN, DETECTED, END, tables

RESULTS = ROOT / "benchmarks" / "results"
#: By the beginning of a row of the README: the faults whose figures it shows, in their order.
README_ROWS = {
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
    found = json.loads((RESULTS / "catalogue.json").read_text("utf-8"))
    return [_judged(entry) for entry in found["entries"]]


def _judged(entry: dict[str, Any]) -> Judged:
    by_size = ("failed", "undecided", "unequal", "not_close")
    sizes = {name: {int(k): v for k, v in entry[name].items()} for name in by_size}
    return Judged(**{**entry, **sizes})


def _rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_tables_of_the_catalogue_are_those_of_its_results(judged: list[Judged]) -> None:
    page = (ROOT / "docs" / "catalogue.md").read_text("utf-8")
    _, _, rest = page.partition(BEGIN)
    assert rest.partition(END)[0].strip() == "\n".join(tables(judged)).strip()


def test_the_readme_shows_the_catalogues_figures(judged: list[Judged]) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    _, _, rest = text.partition("| on subsets of 32 prompts |")
    correct, *rows = _rows(rest.partition("\n\n")[0])
    right = [j for j in judged if j.correct]
    assert correct[0].startswith(f"{len(right)} correct variations")
    for cell, name in zip(correct[1:], ("unequal", "not_close", "failed"), strict=True):
        alarms = {getattr(j, name)[32] for j in right}
        assert {f"{rate:.0%}" for rate in alarms} == set(_percent(cell))
    assert {j.undecided[32] for j in right} == {0.0}
    assert len(rows) == len(README_ROWS)
    faults = {(j.family, j.severity): j for j in judged}
    for what, _, close, verdict in rows:
        names = next(v for begin, v in README_ROWS.items() if what.startswith(begin))
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
