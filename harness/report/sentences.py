"""The judgement's sentences in both languages.

English is the alignment's own; Chinese is put together here from the same
figures. A gate, status or warning that is not known stays in English.
"""

from __future__ import annotations

import re

from harness.alignment.outcomes import ALIGNED, FAILING
from harness.alignment.result import Alignment, Gate
from harness.alignment.verdict import NEEDED
from harness.report.language import Said
from harness.report.messages import gates_zh
from harness.report.text import number, percent

_SHOWN_FIELDS = 4


def verdict_sentence(alignment: Alignment) -> Said:
    """The verdict in one sentence, with the figures that carry it."""
    return Said(alignment.sentence, _chinese_verdict(alignment))


def gate_sentence(alignment: Alignment, gate: Gate) -> Said:
    """A gate's outcome."""
    return Said(gate.sentence, _chinese_gate(alignment, gate) or gate.sentence)


def judged_sentence(alignment: Alignment, text: str) -> Said:
    """A warning, or what a cell of the matrix or the magnifier says; any of them
    may be a gate's sentence."""
    for gate in alignment.gates:
        if gate.sentence == text:
            return gate_sentence(alignment, gate)
    for pattern, chinese in gates_zh.WARNINGS:
        found = re.fullmatch(pattern, text)
        if found is not None:
            return Said(text, chinese.format(*found.groups()))
    # Sentences that stand beside others, with parts that may be unknown.
    translated = text
    for pattern, chinese in gates_zh.PARTS:
        translated = re.sub(pattern, chinese, translated)
    if translated != text:
        translated = re.sub(r"[.。](?:\s+|$)", "。", translated).replace("; ", "；")
    return Said(text, translated)


def gate_base(name: str) -> tuple[str, str]:
    """A gate's name without the path it is of, and that path: ``prefill``,
    ``decode`` or nothing."""
    found = re.fullmatch(r"(.+?)[ ._/:-](prefill|decode)", name)
    return (found[1], found[2]) if found else (name, "")


def flip_count(alignment: Alignment) -> int:
    """Positions where candidate and reference choose different tokens."""
    return sum(
        a != b
        for p in alignment.prompts
        for a, b in zip(p.positions.reference_token, p.positions.candidate_token, strict=False)
    )


def beyond_count(alignment: Alignment) -> int | None:
    """Positions that fail the point guard; None where nothing could be judged."""
    classes = [c for p in alignment.prompts for c in p.positions.class_]
    if not any(c is not None for c in classes):
        return None
    return sum(c in FAILING for c in classes)


def _chinese_verdict(alignment: Alignment) -> str:
    meaning = gates_zh.VERDICTS.get(alignment.verdict, alignment.verdict)
    if alignment.verdict == "NOT_COMPARABLE":
        return f"{meaning}：{_fields(alignment)}。"
    if alignment.verdict == "BIT_EXACT":
        return f"{meaning}，共 {alignment.positions} 个位置。"
    parts = []
    ratio = alignment.error_ratio
    if ratio.value is not None:
        ends = "" if ratio.low is None else f"（95 % 区间 {ratio.low:.2f} 至 {ratio.high:.2f}）"
        parts.append(f"误差为参考的 {ratio.value:.2f} 倍{ends}")
    parts.append(f"{alignment.positions} 个位置中有 {flip_count(alignment)} 个选择不同的词元")
    telling = _telling(alignment)
    if telling is not None:
        sentence = gate_sentence(alignment, telling).zh.rstrip("。.")
        parts.append(f"{telling.name}：{sentence}")
    return f"{meaning}：{'；'.join(parts)}。"


def _telling(alignment: Alignment) -> Gate | None:
    """The gate that made the verdict, None where all of them held."""
    if alignment.verdict in ALIGNED:
        return None
    needed = (*NEEDED, "error_ratio")
    asked = [g for g in alignment.gates if g.status != "NOT_RUN" or g.name in needed]
    for status in ("FAIL", "INCONCLUSIVE", "NOT_RUN"):
        for gate in asked:
            if gate.status == status:
                return gate
    return None


def _fields(alignment: Alignment) -> str:
    names = [d.field for d in alignment.comparability.differences]
    more = len(names) - _SHOWN_FIELDS
    return f"{'、'.join(names[:_SHOWN_FIELDS])}{f' 等 {len(names)} 个字段' if more > 0 else ''}不同"


def _chinese_gate(alignment: Alignment, gate: Gate) -> str | None:
    base, path = gate_base(gate.name)
    known = gates_zh.GATES.get(base, {})
    text = known.get(_kind(gate), known.get(gate.status))
    if text is None:
        return None
    expected = sum(p.tokens_expected for p in alignment.prompts)
    values = {
        "found": _found(base, gate),
        "threshold": number(gate.threshold),
        "failing": beyond_count(alignment) or 0,
        "failing_rows": int(gate.value or 0),
        "flips": flip_count(alignment),
        "positions": alignment.positions,
        "judged": alignment.positions,
        "expected": expected,
        "rate": percent(gate.value),
    }
    return gates_zh.PATHS.get(path, "") + text.format(**values)


def _kind(gate: Gate) -> str:
    """The status, told apart where a sentence must be another."""
    if gate.status == "NOT_RUN" and gate.value is not None:
        return "SHOWN"
    return "POINT" if gate.status == "INCONCLUSIVE" and gate.low is None else gate.status


def _found(base: str, gate: Gate) -> str:
    times = " 倍" if base in ("error_ratio", "top_k_error_ratio") else ""
    if gate.low is None or gate.high is None:
        return f"{number(gate.value)}{times}"
    ends = f"（95 % 区间 {number(gate.low)} 至 {number(gate.high)}）"
    return f"{number(gate.value)}{times}{ends}"
