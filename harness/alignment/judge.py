"""From evidence to gates and a verdict: a step that may be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.alignment.evidence import Evidence
from harness.alignment.gates import gates_of
from harness.alignment.gates.guard import failing_positions
from harness.alignment.outcomes import Verdict
from harness.alignment.result import Gate
from harness.alignment.verdict import verdict_of
from harness.baseline.scales import Scales
from harness.messages.message import Message


@dataclass(frozen=True)
class Judgement:
    """A verdict and the gates that decided it."""

    verdict: Verdict
    gates: tuple[Gate, ...]


def judge(
    evidence: Evidence,
    *,
    has_oracle: bool = True,
    why_no_ratio: Message | None = None,
    missing_prompts: int = 0,
    missing: int = 0,
    more: Sequence[Gate] = (),
    scales: Scales | None = None,
) -> Judgement:
    """Gates and verdict of these prompts as a whole suite; a few milliseconds.

    Args:
        has_oracle: whether the baseline has one.
        why_no_ratio: the reason, where the errors cannot be told.
        missing_prompts, missing: prompts of the baseline that were not run,
            and their positions.
        more: gates that no evidence of a prompt decides (determinism).
        scales: the baseline's, where prompts of it are left out; those of
            these prompts by default.
    """
    scales = evidence.scales() if scales is None else scales
    gates = (
        *gates_of(
            evidence,
            scales,
            why_no_ratio=why_no_ratio,
            missing_prompts=missing_prompts,
            missing=missing,
        ),
        *more,
    )
    covered = not missing and bool((evidence.positions == evidence.expected).all())
    verdict = verdict_of(
        gates,
        list(failing_positions(evidence, scales.kappa)),
        bit_equal=covered and bool(evidence.bit_equal.all()),
        tokens_equal=bool(evidence.same_tokens.all()),
        has_oracle=has_oracle,
        whole_rows=bool(evidence.whole.any()),
    )
    return Judgement(verdict, gates)
