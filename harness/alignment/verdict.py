"""The verdict: from gates to one word and one message."""

from __future__ import annotations

from collections.abc import Sequence

from harness.alignment.gates.stops import STOPS
from harness.alignment.outcomes import VERDICTS, PointClass, Verdict
from harness.alignment.prompt_result import Finding
from harness.alignment.result import Comparability, Gate, span
from harness.messages.message import Message, message
from harness.statistics.intervals import Interval

#: Gates that must pass to show a port right, beside an error ratio: over
#: the whole vocabulary, or the second for a server that tells the likeliest
#: tokens only.
NEEDED = ("point_guard", "coverage")
RATIOS = ("error_ratio", "top_k_error_ratio")
_SHOWN_FIELDS = 4


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
        whole_rows: the device gave whole rows, so their error must be known,
            not only that of the likeliest tokens.
    """
    status = {gate.name: gate.status for gate in gates}
    finite = status.get("nonfinite") == "PASS"
    held_together = status.get(STOPS) not in ("FAIL", "INCONCLUSIVE")
    repeats = status.get("determinism") not in ("FAIL", "WARN")
    if not has_oracle:
        sound = finite and held_together and repeats
        return "BIT_EXACT" if bit_equal and tokens_equal and sound else "INCONCLUSIVE"
    if status.get("determinism") == "FAIL":
        return "NON_DETERMINISTIC"
    if "FAIL" in status.values():
        wrong = {"DIVERGENT", "NONFINITE"}.intersection(c for c in classes if c is not None)
        divergent = wrong or "FAIL" in (status.get("nonfinite"), status.get("greedy"))
        return "DIVERGENT" if divergent else "DRIFT"
    if bit_equal and tokens_equal and held_together and repeats:
        return "BIT_EXACT"
    held = {name for name, outcome in status.items() if outcome in ("PASS", "WARN")}
    shown = held.issuperset(NEEDED) and RATIOS[0 if whole_rows else 1] in held
    if "INCONCLUSIVE" in status.values() or not shown:
        return "INCONCLUSIVE"
    return "TOKEN_EXACT" if tokens_equal else "EQUIVALENT"


def prompt_verdict(
    classes: Sequence[PointClass | None],
    *,
    bit_equal: bool,
    complete: bool,
    found: Sequence[Finding] = (),
) -> Verdict:
    """The same words for one prompt, by its positions and by what was found in it:
    the error ratio is judged over prompts, not within one.

    Args:
        found: what speaks against this prompt beside its positions.
    """
    by_positions = _by_positions(classes, bit_equal=bit_equal, complete=complete)
    return max((by_positions, *(finding.verdict for finding in found)), key=VERDICTS.index)


def _by_positions(
    classes: Sequence[PointClass | None], *, bit_equal: bool, complete: bool
) -> Verdict:
    if bit_equal and complete and set(classes) <= {"EXACT"}:
        return "BIT_EXACT"
    if "DIVERGENT" in classes or "NONFINITE" in classes:
        return "DIVERGENT"
    if "SILENT_DRIFT" in classes:
        return "DRIFT"
    if not complete or None in classes:
        return "INCONCLUSIVE"
    return "EQUIVALENT" if {"TIE", "NEAR_TIE", "REROUTED"}.intersection(classes) else "TOKEN_EXACT"


def message_of(
    verdict: Verdict,
    comparability: Comparability,
    ratio: Interval,
    gates: Sequence[Gate],
    flips: int,
    positions: int,
    *,
    top_k: bool = False,
) -> Message:
    """The verdict with the figures that carry it.

    ``top_k`` says that ``ratio`` is the error among the likeliest tokens.
    """
    meaning = message(f"meaning.{_meant(verdict, gates)}")
    if verdict == "NOT_COMPARABLE":
        return _refused(meaning, [d.field for d in comparability.differences])
    if verdict == "BIT_EXACT":
        return message("verdict.equal", meaning=meaning, positions=positions)
    parts = [message("part.flips", flips=flips, positions=positions)]
    telling = _telling(verdict, gates)
    if ratio.value is not None:
        carrier = "top_k_error_ratio" if top_k else "error_ratio"
        key, values = f"part.error{'.top_k' if top_k else ''}", {"ratio": span(ratio, "times")}
        if telling is not None and telling.name == carrier:
            # The gate's figures are here already; add what they mean.
            status = message(f"status.{telling.status}")
            parts.insert(0, message(f"{key}.limit", **values, status=status, limit=telling.limit))
            telling = None
        else:
            parts.insert(0, message(key, **values))
    if telling is not None:
        said = telling.message or telling.sentence
        parts.append(message("part.gate", gate=telling.name, sentence=said))
    return message("verdict.found", meaning=meaning, parts=tuple(parts))


def _meant(verdict: Verdict, gates: Sequence[Gate]) -> str:
    """Which meaning a verdict has: that of its word, or that of the gate that made it."""
    failed = {gate.name for gate in gates if gate.status == "FAIL"}
    if "nonfinite" in failed:
        return "nonfinite"
    return "stops" if failed == {STOPS} else verdict


def _refused(meaning: Message, names: Sequence[str]) -> Message:
    more, fields = len(names) - _SHOWN_FIELDS, tuple(names[:_SHOWN_FIELDS])
    if more > 0:
        return message("verdict.refused.more", meaning=meaning, fields=fields, more=more)
    return message("verdict.refused", meaning=meaning, fields=fields)


def _telling(verdict: Verdict, gates: Sequence[Gate]) -> Gate | None:
    """The gate that decided the verdict; None if all passed."""
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
