"""Gates of how the run went: finite rows, coverage, repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.alignment.evidence import Evidence
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate
from harness.devices.kinds import backend_of
from harness.messages.message import Message, Value, message

#: Variables that make a device repeat its bits, by torch's backend.
_REPEATABLE = {
    "npu": "HCCL_DETERMINISTIC=true LCCL_DETERMINISTIC=1 ATB_MATMUL_SHUFFLE_K_ENABLE=0 "
    "ATB_LLM_LCOC_ENABLE=0 CLOSE_MATMUL_K_SHIFT=1",
    "cuda": "CUBLAS_WORKSPACE_CONFIG=:4096:8",
}


def not_run(name: str, why: Message) -> Gate:
    """A gate without data, and the reason."""
    return Gate(name=name, status="NOT_RUN", value=None, limit=None, message=why)


def unmeasured(name: str, why: Message | None) -> Gate:
    """A gate that needs the arms' errors, without them.

    Args:
        why: the reason, where the errors cannot be told; without one there are no
            controls.
    """
    return not_run(
        name,
        message("gate.counts.missing") if why is None else message("gate.unmeasured", reason=why),
    )


def nonfinite_gate(evidence: Evidence) -> Gate:
    """FAIL on any row of the candidate with NaN or infinite logits, whether it
    was judged or lies beyond another token; INCONCLUSIVE where only the
    reference has them, because nothing then judges the candidate."""
    rows = int(evidence.positions.sum())
    candidate = int(evidence.nonfinite.sum())
    beyond = int(evidence.unjudged_nonfinite.sum())
    reference = int(evidence.reference_nonfinite.sum())
    if candidate:
        first = int(np.argmax(evidence.first_nonfinite >= 0))
        outcome = message(
            "gate.nonfinite.fail",
            broken=candidate,
            rows=rows,
            position=int(evidence.first_nonfinite[first]),
            prompt=evidence.ids[first],
        )
    elif beyond:
        prompt = evidence.ids[int(np.argmax(evidence.unjudged_nonfinite > 0))]
        outcome = message("gate.nonfinite.beyond", broken=beyond, rows=rows, prompt=prompt)
    elif reference:
        outcome = message("gate.nonfinite.reference", broken=reference, rows=rows)
    else:
        outcome = message("gate.nonfinite.pass", rows=rows)
    return Gate(
        name="nonfinite",
        status="FAIL" if candidate or beyond else "INCONCLUSIVE" if reference else "PASS",
        value=float(candidate + beyond),
        limit=0.0,
        message=outcome,
    )


def coverage_gate(
    judged: int, expected: int, prompts_not_run: int, diverged: int, ended: int = 0
) -> Gate:
    """INCONCLUSIVE while positions of the baseline were not judged.

    Args:
        judged, expected: positions.
        prompts_not_run: prompts of the baseline that the candidate left out.
        diverged: prompts that were run, but judged to their divergence only.
        ended: prompts whose free run ended elsewhere without another token,
            which no logit explains.
    """
    complete = judged == expected and not ended
    if complete:
        outcome = message("gate.coverage.pass", expected=expected)
    else:
        reasons = tuple(
            message(f"coverage.{why}", prompts=count)
            for why, count in (
                ("not_run", prompts_not_run),
                ("diverged", diverged),
                ("ended", ended),
            )
            if count
        )
        outcome = message("gate.coverage.open", judged=judged, expected=expected, reasons=reasons)
    return Gate(
        name="coverage",
        status="PASS" if complete else "INCONCLUSIVE",
        value=judged / expected,
        limit=1.0,
        message=outcome,
    )


def determinism_gate(
    rows: int,
    equal: int,
    shifts: Sequence[float | None],
    tolerances: Sequence[float | None],
    device: str = "",
    causes: Sequence[str | None] = (),
) -> Gate:
    """Repeats: bit-equal PASS, within the tolerance WARN, beyond it FAIL.

    Args:
        rows, equal: rows that were computed twice, and those of them that
            gave the same bits.
        shifts: of the others, in logits; None where no noise explains one.
        tolerances: of the others, in logits; None where no tolerance is
            known, which can only warn.
        device: whose variables for repeatable kernels the warning names.
        causes: of the others, ``Difference.cause``: why no noise explains one.
    """
    left = _left(rows, equal, shifts, causes)
    status, outcome = left or _repeated(rows, equal, shifts, tolerances, device)
    return Gate(
        name="determinism",
        status=status,
        value=(rows - equal) / rows if rows else None,
        limit=0.0,
        message=outcome,
    )


def _left(
    rows: int, equal: int, shifts: Sequence[float | None], causes: Sequence[str | None]
) -> tuple[Status, Message] | None:
    """FAIL where a repeat chose another token or ended elsewhere; None where none did."""
    counts = {cause: causes.count(cause) for cause in ("token", "ended") if cause in causes}
    if not counts:
        return None
    broken = sum(d is None for d in shifts) - sum(counts.values())
    counts |= {"broken": broken} if broken else {}
    reasons = tuple(message(f"determinism.{why}", count=count) for why, count in counts.items())
    different: dict[str, Value] = {"different": rows - equal, "rows": rows}
    return "FAIL", message("gate.determinism.left", **different, reasons=reasons)


def _repeated(
    rows: int,
    equal: int,
    shifts: Sequence[float | None],
    tolerances: Sequence[float | None],
    device: str,
) -> tuple[Status, Message]:
    if not rows:
        return "NOT_RUN", message("gate.determinism.missing")
    if equal == rows:
        return "PASS", message("gate.determinism.pass", rows=rows)
    counts: dict[str, Value] = {"different": rows - equal, "rows": rows}
    unexplained = sum(d is None for d in shifts)
    if unexplained:
        return "FAIL", message("gate.determinism.broken", **counts, unexplained=unexplained)
    beyond = [
        abs(d)
        for d, tau in zip(shifts, tolerances, strict=True)
        if d is not None and tau is not None and abs(d) > tau
    ]
    if beyond:
        return "FAIL", message("gate.determinism.beyond", **counts, shift=max(beyond))
    judged = message("determinism.unknown" if None in tolerances else "determinism.within")
    variables = _REPEATABLE.get(backend_of(device) or "")
    if variables is None:
        return "WARN", message("gate.determinism.warn", **counts, judged=judged)
    return "WARN", message("gate.determinism.mend", **counts, judged=judged, variables=variables)
