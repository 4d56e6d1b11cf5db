"""Chinese for what the judgement says, from the same figures."""

from __future__ import annotations

import re
from typing import Any

import pytest
from factories import fake_baseline, fake_suite
from report_alignments import alignment, prompt

from harness.alignment.align import compare
from harness.alignment.gates import GATES
from harness.alignment.result import VERDICTS, Alignment, Gate
from harness.recorder import Context, Options, record
from harness.report.messages import gates_zh
from harness.report.sentences import gate_base, gate_sentence, verdict_sentence, warning
from harness.testing import FakeDevice, fake_subject

_HAN = re.compile("[\u4e00-\u9fff]")


def outcomes(few: bool) -> list[Alignment]:
    """Real alignments of fakes: correct ones, broken ones, without controls, of few prompts."""
    suite = fake_suite(prompts=3 if few else 18, tokens=6)
    baseline = fake_baseline(suite)
    options = Options(context=Context.of(baseline.reference), repeats=2)
    faults = ("none", "scale", "nan", "unsteady")
    made = [record(FakeDevice(seed=9, fault=f), fake_subject(), suite, options) for f in faults]
    return [*(compare(m, baseline) for m in made), compare(made[0], baseline.reference)]


@pytest.mark.parametrize("few", [False, True], ids=["many", "few"])
def test_what_real_comparisons_say_is_said_in_chinese(few: bool) -> None:
    seen = set()
    for found in outcomes(few):
        for gate in found.gates:
            said = gate_sentence(found, gate)
            assert said.en == gate.sentence
            assert _HAN.search(said.zh), (gate.name, gate.status)
            assert "{" not in said.zh
            seen.add((gate.name, gate.status))
        for text in found.warnings:
            assert _HAN.search(warning(found, text).zh), text
    assert {name for name, _ in seen} == {*GATES, "determinism"}
    assert len(seen) > 24


def test_every_gate_has_a_sentence_for_passing_and_failing() -> None:
    for name in (*GATES, "determinism"):
        base, _ = gate_base(name)
        assert "PASS" in gates_zh.GATES[base]
        assert {"FAIL", "INCONCLUSIVE"} & set(gates_zh.GATES[base])


def test_figures_stand_in_the_chinese_sentence() -> None:
    gate = Gate(name="error_ratio", status="PASS", value=1.25, low=1.125, high=1.375,
                threshold=1.5, sentence="x")  # fmt: skip
    zh = gate_sentence(alignment(), gate).zh
    assert zh == "整个词表上的误差为参考的 1.25 倍（95 % 区间 1.125 至 1.375），不超过 1.5。"


def test_a_gate_of_one_path_says_which() -> None:
    assert gate_base("error_ratio.prefill") == ("error_ratio", "prefill")
    assert gate_base("slope_decode") == ("slope", "decode")
    assert gate_base("point_guard") == ("point_guard", "")
    gate = Gate(name="slope_decode", status="FAIL", value=0.01, low=0.008, high=0.012,
                threshold=0.003, sentence="The slope is off.")  # fmt: skip
    assert gate_sentence(alignment(), gate).zh.startswith("decode：logit 的缩放偏差为 0.01")


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


def test_a_gate_that_is_shown_and_not_gated_says_so() -> None:
    gate = Gate(name="error_ratio_decode", status="NOT_RUN", value=1.1, threshold=1.5, sentence="x")
    assert "仅供查看，不作判据" in gate_sentence(alignment(), gate).zh


def test_what_was_allowed_to_differ_is_said_in_chinese() -> None:
    zh = warning(alignment(), "dtype differs and was allowed: float16 against bfloat16.").zh
    assert zh == "dtype 不同，已获许可：float16，基线为 bfloat16。"
