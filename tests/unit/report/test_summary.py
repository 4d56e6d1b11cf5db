from __future__ import annotations

import re
from pathlib import Path

import pytest
from factories import diagnosed

from harness.alignment.align import compare
from harness.alignment.allow import Allow
from harness.alignment.result import Alignment
from harness.baseline.folder import load_baseline
from harness.devices.fake import FakeDevice, fake_subject
from harness.errors import printable
from harness.recording.context import Context
from harness.recording.recorder import Options, record
from harness.report.summary import number, summary_lines
from harness.suite.read import load_suite


@pytest.fixture
def drift(project_folder: Path) -> Alignment:
    baseline = load_baseline(Path("baselines/fake/s/bfloat16"))
    options = Options(context=Context.of(baseline.reference))
    suite = load_suite("s.yaml")
    return compare(record(FakeDevice(fault="scale"), fake_subject(), suite, options), baseline)


def test_verdict_gates_and_bad_prompts_in_this_order(drift: Alignment) -> None:
    lines = list(summary_lines(drift))
    assert lines[0] == f"{drift.verdict}: {drift.sentence}"
    gates = lines[1 : 1 + len(drift.gates)]
    assert [line.split()[1].rstrip(":") for line in gates] == [gate.name for gate in drift.gates]
    bad = [p for p in drift.prompts if p.verdict in ("DIVERGENT", "DRIFT")]
    assert [line.split(":")[0].strip() for line in lines[-len(bad) :]] == [p.id for p in bad]
    n, far = next((n, p) for n, p in enumerate(bad) if p.class_ == "DIVERGENT")
    assert f"DIVERGENT at position {far.shown}, margin " in lines[-len(bad) + n]


def test_more_than_ten_bad_prompts_are_counted(drift: Alignment) -> None:
    bad = next(p for p in drift.prompts if p.verdict == "DIVERGENT")
    many = [bad.model_copy(update={"id": f"p{i}"}) for i in range(13)]
    lines = list(summary_lines(drift.model_copy(update={"prompts": tuple(many)})))
    assert lines[-2].startswith("  p9: ")
    assert lines[-1] == "  and 3 more prompts"


def test_differences_and_warnings_are_told(drift: Alignment) -> None:
    baseline = load_baseline(Path("baselines/fake/s/bfloat16"))
    made = record(FakeDevice(), fake_subject(), load_suite("s.yaml"))
    other = made.model_copy(update={"dtype": "float16"})
    lines = list(summary_lines(compare(other, baseline)))
    assert "  dtype: float16 against bfloat16" in lines
    lines = list(summary_lines(compare(other, baseline, allow=Allow(dtype=True))))
    assert any(line.startswith("  warning: dtype differs and was allowed") for line in lines)


def test_no_control_character_reaches_the_terminal(drift: Alignment) -> None:
    hostile = drift.model_copy(update={"sentence": "a\x1b[2Jb\rc\u202ed\ud800"})
    first = next(iter(summary_lines(hostile)))
    assert first == f"{drift.verdict}: a\\x1b[2Jb\\rc\\u202ed\\ud800"


def test_printable_keeps_letters_of_every_script() -> None:
    assert printable("什么 é 😀") == "什么 é 😀"
    assert printable("\n\t\x00\x7f\u2028") == "\\n\\t\\x00\\x7f\\u2028"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "—"), (0.0, "0"), (1.23456, "1.235"), (-1e-9, "-1e-09")]
)
def test_numbers_have_four_digits(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_what_explains_the_error_stands_under_the_verdict(drift: Alignment) -> None:
    told = list(summary_lines(drift.model_copy(update={"diagnosis": diagnosed("SYSTEMATIC")})))
    assert "Explained by" in told[1]
    assert "head 3 of model.layers.2.self_attn" in told[1]
    none = list(summary_lines(drift.model_copy(update={"diagnosis": diagnosed("NOTHING")})))
    assert none[1].split()[1] == f"{drift.gates[0].name}:"


def test_the_outcome_is_told_in_chinese(drift: Alignment) -> None:
    lines = list(summary_lines(drift, "zh"))
    assert lines[0].startswith(f"{drift.verdict}: ")
    assert all(re.search("[\u4e00-\u9fff]", line) for line in lines)
    assert len(lines) == len(list(summary_lines(drift)))
