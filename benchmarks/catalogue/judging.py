"""How each recording is judged: in full, on subsets of prompts, and by the two
rules that ports are usually held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue.entries import Entry
from harness.alignment.align import evidence_of
from harness.alignment.evidence import Evidence
from harness.alignment.judge import judge
from harness.alignment.outcomes import ALIGNED
from harness.alignment.result import Gate
from harness.baseline.baseline import Baseline
from harness.baseline.floor import NoiseFloor, noise_floor
from harness.recording.format import PromptRecord, Recording

#: Prompts in a subset.
SIZES = (4, 8, 16, 32)
#: Positions of the rule "equal tokens", as the first Ascend port held it.
EQUAL_TOKENS = 48
#: vLLM's ``check_logprobs_close``: how many likely tokens are looked at.
CLOSE_TOP = 5


@dataclass(frozen=True)
class Judged:
    """One entry's line of the table.

    ``failed``, ``undecided``, ``unequal`` and ``not_close`` are shares of the
    subsets of each size: a failing verdict, INCONCLUSIVE, and what the two
    other rules refuse. ``by_gate`` counts, at 32 prompts, how often each gate
    failed. ``figures`` are the values of the gates over all prompts, ``largest``
    their largest magnitudes over the subsets of 8.
    """

    family: str
    severity: str
    correct: bool
    must: bool
    verdict: str
    tokens_changed: int
    positions: int
    equal_tokens: bool
    close: bool
    figures: dict[str, float | None]
    gates: dict[str, str]
    failed: dict[int, float] = field(default_factory=dict)
    undecided: dict[int, float] = field(default_factory=dict)
    unequal: dict[int, float] = field(default_factory=dict)
    not_close: dict[int, float] = field(default_factory=dict)
    by_gate: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)


class Judges:
    """Holds recordings against one baseline, always on the same subsets."""

    def __init__(self, baseline: Baseline, draws: int) -> None:
        self.baseline = baseline
        self.floor: NoiseFloor | None = noise_floor(baseline)
        count = len(baseline.reference.prompts)
        random = np.random.default_rng(1)
        # Without repetition: a prompt drawn twice is not two independent ones.
        self.subsets = {
            size: [np.sort(random.permutation(count)[:size]) for _ in range(draws)]
            for size in SIZES
        }

    def judge(self, entry: Entry, recording: Recording) -> Judged:
        """Everything that the table says of one recording."""
        evidence = evidence_of(recording, self.baseline, self.floor)
        whole = judge(evidence)
        equal, close = _other_rules(recording, self.baseline.reference)
        found = Judged(
            family=entry.family,
            severity=entry.severity,
            correct=entry.correct,
            must=entry.must,
            verdict=whole.verdict,
            tokens_changed=int(evidence.flips.sum()),
            positions=int(evidence.positions.sum()),
            equal_tokens=bool(equal.all()),
            close=bool(close.all()),
            figures={gate.name: gate.value for gate in whole.gates},
            gates={gate.name: gate.status for gate in whole.gates},
        )
        for size, subsets in self.subsets.items():
            self._resample(found, evidence, size, subsets)
            found.unequal[size] = _share([not equal[s].all() for s in subsets])
            found.not_close[size] = _share([not close[s].all() for s in subsets])
        return found

    def _resample(
        self, found: Judged, evidence: Evidence, size: int, subsets: Sequence[NDArray[np.int64]]
    ) -> None:
        judgements = [judge(evidence.take(subset)) for subset in subsets]
        verdicts = [j.verdict for j in judgements]
        found.undecided[size] = _share([v == "INCONCLUSIVE" for v in verdicts])
        found.failed[size] = _share([v != "INCONCLUSIVE" and v not in ALIGNED for v in verdicts])
        if size == SIZES[0]:
            for index, gate in enumerate(judgements[0].gates):
                values = [j.gates[index].value for j in judgements]
                found.largest[gate.name] = max((abs(v) for v in values if v is not None), default=0)
        if size == SIZES[-1]:
            for index, gate in enumerate(judgements[0].gates):
                found.by_gate[gate.name] = _share([_failed(j.gates[index]) for j in judgements])


def _failed(gate: Gate) -> bool:
    return gate.status == "FAIL"


def _share(hits: Sequence[bool]) -> float:
    return float(np.mean(hits))


def _other_rules(
    recording: Recording, reference: Recording
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each prompt, bool (prompts,): whether its first tokens are equal, and
    whether vLLM's rule holds. Both look no further than the first other token."""
    pairs = [(p, reference.prompt(p.id)) for p in recording.prompts]
    firsts = [_first_mismatch(p, r) for p, r in pairs if r is not None]
    equal = [first is None or first >= EQUAL_TOKENS for first in firsts]
    close = [
        first is None or _is_close(p, r, first)
        for (p, r), first in zip(pairs, firsts, strict=True)
        if r is not None
    ]
    return np.array(equal), np.array(close)


def _first_mismatch(prompt: PromptRecord, reference: PromptRecord) -> int | None:
    """Where a free run would leave the reference's tokens: up to there its
    context is the forced one."""
    mine, theirs = prompt.run.choices(), reference.run.token_ids
    return next((t for t, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)


def _is_close(prompt: PromptRecord, reference: PromptRecord, first: int) -> bool:
    """Each one's token among the other's likeliest, at the first other token."""
    mine, theirs = prompt.run.choices()[first], reference.run.token_ids[first]
    return bool(
        theirs in prompt.run.rows.top_ids[first, :CLOSE_TOP]
        and mine in reference.run.rows.top_ids[first, :CLOSE_TOP]
    )
