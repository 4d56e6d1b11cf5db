"""From gates to one word, and to one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from harness.alignment.result import Comparability, Gate, Interval, PointClass, Verdict

_MEANING: dict[Verdict, str] = {
    "BIT_EXACT": "Every logit is bit-equal to the reference's",
    "TOKEN_EXACT": "The same tokens, and the error stays within the reference's own noise",
    "EQUIVALENT": "Tokens differ only where the reference's own noise decides them",
    "INCONCLUSIVE": "Nothing was shown to be wrong, and not enough to be right",
    "DRIFT": "The computation differs by more than the reference's own noise",
    "DIVERGENT": "Tokens differ where the reference's own noise cannot explain it",
    "NON_DETERMINISTIC": "The device does not repeat its own results",
    "NOT_COMPARABLE": "The two were not asked the same thing",
}


def verdict_of(
    gates: Sequence[Gate],
    classes: Sequence[PointClass | None],
    *,
    bit_equal: bool,
    tokens_equal: bool,
    has_oracle: bool,
) -> Verdict:
    """The verdict ladder for comparable recordings.

    Args:
        bit_equal: every judged row has the reference's digest, and all
            positions were judged.
        tokens_equal: the candidate chose the reference's token everywhere.
        has_oracle: without one, only BIT_EXACT or INCONCLUSIVE is possible.
    """
    status = {gate.name: gate.status for gate in gates}
    finite = status.get("nonfinite") == "PASS"
    if not has_oracle:
        return "BIT_EXACT" if bit_equal and tokens_equal and finite else "INCONCLUSIVE"
    if status.get("determinism") == "FAIL":
        return "NON_DETERMINISTIC"
    if "FAIL" in status.values():
        wrong = {"DIVERGENT", "NONFINITE"}.intersection(c for c in classes if c is not None)
        return "DIVERGENT" if wrong else "DRIFT"
    if bit_equal and tokens_equal:
        return "BIT_EXACT"
    judged = {"error_ratio", "point_guard", "coverage"}
    if "INCONCLUSIVE" in status.values() or any(status.get(g) != "PASS" for g in judged):
        return "INCONCLUSIVE"
    return "TOKEN_EXACT" if tokens_equal else "EQUIVALENT"


def prompt_verdict(
    classes: Sequence[PointClass | None], *, bit_equal: bool, complete: bool
) -> Verdict:
    """The same words for one prompt, by its positions alone: the error ratio
    is judged over prompts, not within one."""
    if bit_equal and complete:
        return "BIT_EXACT"
    if "DIVERGENT" in classes or "NONFINITE" in classes:
        return "DIVERGENT"
    if "SILENT-DRIFT" in classes:
        return "DRIFT"
    if not complete or None in classes:
        return "INCONCLUSIVE"
    return "EQUIVALENT" if {"TIE", "NEAR-TIE"}.intersection(classes) else "TOKEN_EXACT"


def sentence_of(
    verdict: Verdict,
    comparability: Comparability,
    ratio: Interval,
    gates: Sequence[Gate],
    flips: int,
    positions: int,
) -> str:
    """The verdict in one plain sentence with the figures that carry it."""
    meaning = _MEANING[verdict]
    if verdict == "NOT_COMPARABLE":
        fields = ", ".join(d.field for d in comparability.differences)
        return f"{meaning}: {fields} differ{'' if ',' in fields else 's'}."
    if verdict == "BIT_EXACT":
        return f"{meaning}, at all {positions} positions."
    parts = [f"{flips} of {positions} tokens differ"]
    if ratio.value is not None:
        span = "" if ratio.low is None else f" (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"
        parts.insert(0, f"error {ratio.value:.2f} times the reference's{span}")
    order = {"FAIL": 0, "INCONCLUSIVE": 1}
    telling = sorted((g for g in gates if g.status in order), key=lambda g: order[g.status])
    if telling:
        parts.append(f"{telling[0].name}: {telling[0].sentence.rstrip('.')}")
    elif ratio.value is None:
        parts.append("no oracle to measure its error against")
    return f"{meaning}: {'; '.join(parts)}."
