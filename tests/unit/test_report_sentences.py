"""Chinese for what the judgement says, from the same figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_alignments import alignment, prompt

from harness.alignment import gates as g
from harness.alignment.align import compare
from harness.alignment.result import VERDICTS, Gate, Interval
from harness.baselines import load_baseline
from harness.recorder import Context, Options, record
from harness.report.messages import gates_zh
from harness.report.sentences import gate_base, gate_sentence, verdict_sentence, warning
from harness.suites import load_suite
from harness.testing import FakeDevice, fake_subject

_HAN = re.compile("[\u4e00-\u9fff]")


def every_gate() -> list[Gate]:
    """The gates of the judgement with every status that they can give."""
    ends = [(1.0, 0.9, 1.1), (2.0, 1.8, 2.2), (1.4, 1.2, 1.6), (1.4, None, None), (None,) * 3]
    ratios = [Interval(value=v, low=low, high=high) for v, low, high in ends]
    return [
        *(g.error_ratio_gate(n, "x", r, "no") for r in ratios for n in g.GATES[:2]),
        g.point_guard(["EXACT"], judged=True),
        g.point_guard(["DIVERGENT"], judged=True),
        g.point_guard([None], judged=False),
        g.nonfinite_gate(4, 0, 0),
        g.nonfinite_gate(4, 2, 0),
        g.coverage_gate(4, 4, 0, 0),
        g.coverage_gate(3, 4, 0, 1),
        g.determinism_gate(0, 0, [], []),
        g.determinism_gate(4, 4, [], []),
        g.determinism_gate(4, 3, [0.1], [0.5]),
        g.determinism_gate(4, 3, [0.9], [0.5]),
    ]


@pytest.mark.parametrize("gate", every_gate(), ids=lambda gate: f"{gate.name}-{gate.status}")
def test_every_status_of_every_gate_has_a_chinese_sentence(gate: Gate) -> None:
    said = gate_sentence(alignment(), gate)
    assert said.en == gate.sentence
    assert said.zh != gate.sentence
    assert _HAN.search(said.zh)
    assert "{" not in said.zh


def test_figures_stand_in_the_chinese_sentence() -> None:
    gate = g.error_ratio_gate("error_ratio", "x", Interval(value=1.25, low=1.125, high=1.375), "")
    zh = gate_sentence(alignment(), gate).zh
    assert zh == "整个词表上的误差为参考的 1.25 倍（95 % 区间 1.125 至 1.375），不超过 1.5。"


def test_a_gate_of_one_path_says_which() -> None:
    assert gate_base("error_ratio.prefill") == ("error_ratio", "prefill")
    assert gate_base("slope_decode") == ("slope", "decode")
    assert gate_base("point_guard") == ("point_guard", "")
    gate = Gate(name="slope_decode", status="FAIL", value=0.01, low=0.008, high=0.012,
                threshold=0.003, sentence="The slope is off.")  # fmt: skip
    assert gate_sentence(alignment(), gate).zh.startswith("decode：误差随 logit 的斜率为 0.01")


def test_an_unknown_gate_or_warning_stays_in_english() -> None:
    gate = Gate(name="new", status="PASS", value=1.0, threshold=1.0, sentence="All is well.")
    assert gate_sentence(alignment(), gate).zh == "All is well."
    assert warning(alignment(), "Something else.").zh == "Something else."


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_a_chinese_sentence_with_its_figures(verdict: Any) -> None:
    prompts: Any = () if verdict == "NOT_COMPARABLE" else (prompt(flip=3),)
    zh = verdict_sentence(alignment(verdict, prompts=prompts)).zh
    assert zh.startswith(gates_zh.VERDICTS[verdict])
    if verdict == "NOT_COMPARABLE":
        assert "dtype hf-cpu" in zh
    elif verdict != "BIT_EXACT":
        assert "1.02 倍（95 % 区间 0.98 至 1.07）" in zh
        assert "24 个位置中有 1 个选择不同的词元" in zh


def test_the_gate_that_made_the_verdict_is_named() -> None:
    assert "point_guard：" in verdict_sentence(alignment("DRIFT")).zh
    assert "point_guard：" not in verdict_sentence(alignment("EQUIVALENT")).zh


def test_what_a_real_comparison_warns_of_is_said_in_chinese(project_folder: Any) -> None:
    baseline = load_baseline(Path("baselines/fake/s/bfloat16"))
    options = Options(context=Context.of(baseline.reference), repeats=2)
    found = record(FakeDevice(fault="unsteady"), fake_subject(), load_suite("s.yaml"), options)
    other = compare(found.model_copy(update={"dtype": "float16"}), baseline, allow_dtype=True)
    assert len(other.warnings) > 0
    for text in other.warnings:
        assert _HAN.search(warning(other, text).zh), text
    assert np.isfinite(other.error_ratio.value or 0.0)
