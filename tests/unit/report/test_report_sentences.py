"""Chinese for what the judgement says, from the same figures."""

from __future__ import annotations

import re
from typing import Any

import pytest
from factories import fake_baseline, fake_suite
from report_alignments import alignment, prompt

from harness.alignment.align import compare
from harness.alignment.gates import GATES
from harness.alignment.outcomes import VERDICTS
from harness.alignment.result import Alignment, Gate
from harness.devices.facts import EngineFacts
from harness.devices.fake import FakeDevice, fake_subject
from harness.recording.context import Context
from harness.recording.recorder import Options, record
from harness.report.language import Said
from harness.report.messages import gates_zh
from harness.report.sentences import gate_base, gate_sentence, judged_sentence, verdict_sentence
from harness.session.matrix import variations

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
            assert _HAN.search(judged_sentence(found, text).zh), text
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
    assert judged_sentence(alignment(), "Something else.").zh == "Something else."


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
    zh = judged_sentence(alignment(), "dtype differs and was allowed: float16 against bfloat16.").zh
    assert zh == "dtype 不同，已获许可：float16，基线为 bfloat16。"


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (
            "In float16, whose noise is lower, the error is 1.18 times the reference's "
            "(95 % interval 1.09 to 1.28), not shown to exceed 1.16. "
            "In float32, whose noise is lower, the computation differs: "
            "error 882.36 times the reference's over the whole vocabulary; "
            "error 843.23 times the reference's among the likeliest tokens.",
            "在噪声更低的 float16 下，误差为参考的 1.18 倍（95 % 区间 1.09 至 1.28），"
            "没有超过 1.16 的迹象。在噪声更低的 float32 下，计算结果不同："
            "整个词表上的误差为参考的 882.36 倍；最可能词元上的误差为参考的 843.23 倍。",
        ),
        ("Not applicable in float16: the run itself is in float16.",
         "float16 不适用：本次运行本身就使用 float16。"),
        ("The same bits in all 414 rows.", "全部 414 行逐位相同。"),
        (
            "122 of 414 rows have other bits, by up to 0.375 logits; "
            "judged by itself: EQUIVALENT, error 0.65 times the reference's.",
            "414 行中有 122 行的位不同，最多相差 0.375 logit；"
            "单独判定：EQUIVALENT，误差为参考的 0.65 倍。",
        ),
        ("Not run: hf-cpu runs one request at a time.", "未运行：hf-cpu 一次只运行一个请求。"),
    ],
)  # fmt: skip
def test_what_matrix_and_magnifier_say_is_said_in_chinese(english: str, chinese: str) -> None:
    assert judged_sentence(alignment(), english) == Said(english, chinese)


@pytest.mark.parametrize("device", ["hf-cpu", "server", "vllm-cpu"])
def test_chinese_follows_why_a_cell_was_not_run(device: str) -> None:
    """The reasons are the matrix's own, so one that is worded anew there fails here."""
    candidate = record(FakeDevice(), fake_subject(), fake_suite(prompts=2, tokens=2), Options())
    shaped = candidate.model_copy(update={"device": device, "engine": EngineFacts(block_size=128)})
    reasons = [v.why_not for v in variations(shaped, ["p0", "p1"]) if v.why_not is not None]
    assert len(reasons) == (2 if device == "vllm-cpu" else 4)
    for reason in reasons:
        zh = judged_sentence(alignment(), f"Not run: {reason}.").zh
        assert not re.search(r"[a-z]+ [a-z]+ [a-z]+", zh), zh
