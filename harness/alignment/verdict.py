"""From gates to one word, and to one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from harness.alignment.outcomes import PointClass, Verdict
from harness.alignment.result import Comparability, Gate
from harness.statistics.intervals import Interval

#: Gates without which nothing is shown to be right, beside an error ratio: over
#: the whole vocabulary, or the second for a server that tells the likeliest
#: tokens only.
NEEDED = ("point_guard", "coverage")
RATIOS = ("error_ratio", "top_k_error_ratio")
_SHOWN_FIELDS = 4

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
    whole_rows: bool = True,
) -> Verdict:
    """The verdict ladder for comparable recordings.

    Args:
        bit_equal: every judged row has the reference's digest, and all
            positions were judged.
        tokens_equal: the candidate chose the reference's token everywhere.
        has_oracle: without one, only BIT_EXACT or INCONCLUSIVE is possible.
        whole_rows: the device told whole rows, so that their error must be
            known, not that of the likeliest tokens alone.
    """
    status = {gate.name: gate.status for gate in gates}
    finite = status.get("nonfinite") == "PASS"
    if not has_oracle:
        return "BIT_EXACT" if bit_equal and tokens_equal and finite else "INCONCLUSIVE"
    if status.get("determinism") == "FAIL":
        return "NON_DETERMINISTIC"
    if "FAIL" in status.values():
        wrong = {"DIVERGENT", "NONFINITE"}.intersection(c for c in classes if c is not None)
        return "DIVERGENT" if wrong or status.get("nonfinite") == "FAIL" else "DRIFT"
    if bit_equal and tokens_equal:
        return "BIT_EXACT"
    held = {name for name, outcome in status.items() if outcome == "PASS"}
    shown = held.issuperset(NEEDED) and RATIOS[0 if whole_rows else 1] in held
    if "INCONCLUSIVE" in status.values() or not shown:
        return "INCONCLUSIVE"
    return "TOKEN_EXACT" if tokens_equal else "EQUIVALENT"


def prompt_verdict(
    classes: Sequence[PointClass | None], *, bit_equal: bool, complete: bool
) -> Verdict:
    """The same words for one prompt, by its positions alone: the error ratio
    is judged over prompts, not within one."""
    if bit_equal and complete and set(classes) <= {"EXACT"}:
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
    where: str = "",
) -> str:
    """The verdict in one plain sentence with the figures that carry it.

    ``where`` says that ``ratio`` is the error among the likeliest tokens.
    """
    meaning = _MEANING[verdict]
    if any(g.name == "nonfinite" and g.status == "FAIL" for g in gates):
        meaning = "Logits that are NaN or infinite decide nothing"
    if verdict == "NOT_COMPARABLE":
        return f"{meaning}: {_fields([d.field for d in comparability.differences])}."
    if verdict == "BIT_EXACT":
        return f"{meaning}, at all {positions} positions."
    parts = [f"{flips} of {positions} tokens differ"]
    if ratio.value is not None:
        span = "" if ratio.low is None else f" (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"
        parts.insert(0, f"error{where} {ratio.value:.2f} times the reference's{span}")
    telling = _telling(verdict, gates)
    carrier = "top_k_error_ratio" if where else "error_ratio"
    if telling is not None and telling.name == carrier and ratio.value is not None:
        # Its figures stand here already; what is missing is what they mean.
        limit = f"{telling.status} at the limit of {telling.threshold:g}"
        parts[0] = f"{parts[0]}, {limit}"
    elif telling is not None:
        parts.append(f"{telling.name}: {telling.sentence.rstrip('.')}")
    return f"{meaning}: {'; '.join(parts)}."


def _telling(verdict: Verdict, gates: Sequence[Gate]) -> Gate | None:
    """The gate that made the verdict, None where all of them held."""
    if verdict == "NON_DETERMINISTIC":
        return next((g for g in gates if g.name == "determinism"), None)
    broken = next((g for g in gates if g.name == "nonfinite" and g.status == "FAIL"), None)
    if broken is not None:
        return broken
    needed = [g for g in gates if g.status != "NOT_RUN" or g.name in (*NEEDED, "error_ratio")]
    for status in ("FAIL", "INCONCLUSIVE", "NOT_RUN"):
        for gate in needed:
            if gate.status == status:
                return gate
    return None


def _fields(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_FIELDS])
    more = len(names) - _SHOWN_FIELDS
    if more > 0:
        return f"{shown} and {more} more fields differ"
    return f"{shown} differ{'s' if len(names) == 1 else ''}"
