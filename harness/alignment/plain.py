"""Compare plain lists of tokens: with each other, with a recording, or with a baseline.

Token ids without logits can be shown to be wrong where a baseline tells margins
(see ``harness.alignment.tokens``), and never to be right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.alignment.align import arm_of, arms_of
from harness.alignment.fronts import without_prompts
from harness.alignment.outcomes import Verdict
from harness.alignment.pairing import Pairing, agree, name_of, pair
from harness.alignment.plain_arm import plain_arm, plain_performance
from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import (
    Alignment,
    Arm,
    Comparability,
    FieldDifference,
    Gate,
)
from harness.alignment.texts import outcome_of, parted_at, plain, text_gate, text_prompt
from harness.alignment.token_table import TokenRow, TokenTable, text_row, token_row, token_table
from harness.alignment.tokens import first_flip, judged_positions, judged_prompt, token_guard
from harness.alignment.verdict import message_of
from harness.baseline.baseline import Baseline
from harness.baseline.floor import noise_floor
from harness.errors import EmptyComparison
from harness.files.jsonfile import readable
from harness.files.timestamp import utc_now
from harness.messages.message import Message, message
from harness.messages.statement import remark
from harness.recording.format import PromptRecord, Recording
from harness.recording.plain import PlainEntry, PlainList
from harness.statistics.intervals import Interval

_NO_INTERVAL = Interval(value=None, low=None, high=None)
#: What a plain list does not tell, so nobody can compare it.
_UNKNOWN = ("model", "settings", "environment", "logits")
#: Prompts that a warning names, characters of a text that a row quotes.
_NAMED, _QUOTED = 5, 12


@dataclass(frozen=True)
class Side:
    """One of the two files, whatever it is; ``name`` for a reader.

    ``records`` are the prompts of a recording by id; a plain list has none.
    """

    name: str
    entries: tuple[PlainEntry, ...]
    recording: Recording | None = None

    @property
    def records(self) -> Mapping[str, PromptRecord]:
        return {} if self.recording is None else {p.id: p for p in self.recording.prompts}


@dataclass(frozen=True)
class _Outcome:
    """What was found, before it becomes an Alignment."""

    verdict: Verdict
    message: Message
    gates: tuple[Gate, ...]
    prompts: tuple[PromptAlignment, ...]
    table: TokenTable | None


def compare_plain(
    candidate: PlainList | Recording,
    baseline: PlainList | Recording | Baseline,
    *,
    file: str = "",
    baseline_file: str = "",
) -> Alignment:
    """Compare outputs prompt by prompt; at least one side is a plain list.

    The best verdict is INCONCLUSIVE: equal tokens show nothing of the logits. A
    flip across a margin beyond the baseline's tolerance is DIVERGENT.

    Raises:
        FormatError: if one side has tokens where the other has texts only.
        EmptyComparison: if the two share no prompt, or no token.
    """
    arms = baseline if isinstance(baseline, Baseline) else None
    mine = _side(candidate, file or "the candidate")
    theirs = _side(arms.reference if arms else baseline, baseline_file or "the baseline")  # type: ignore[arg-type]
    pairing = pair(mine.entries, theirs.entries)
    if not pairing.pairs:
        raise EmptyComparison(f"{mine.name} and {theirs.name} share no prompt: nothing to compare")
    paired, warnings = without_prompts(pairing, (_file(mine), _file(theirs)))
    found = _comparability(paired, mine, theirs)
    outcome = _outcome(paired, mine, theirs, arms, found)
    warnings = [*_pairing_warnings(paired, mine, theirs), *warnings]
    if outcome.table is not None and outcome.table.unit == "tokens":
        warnings.append(message("warning.tokens_only"))
    return Alignment(
        created=utc_now(),
        verdict=outcome.verdict,
        message=outcome.message,
        error_ratio=_NO_INTERVAL,
        top_k_error_ratio=_NO_INTERVAL,
        gates=outcome.gates,
        positions=sum(p.tokens_compared for p in outcome.prompts),
        classes=dict(sorted(_classes(outcome.prompts).items())),
        prompts=outcome.prompts,
        comparability=found,
        candidate=_arm(mine, "candidate", file),
        baseline=arms_of(arms) if arms else (_arm(theirs, "reference", baseline_file),),
        performance=plain_performance(
            mine.entries, mine.recording, theirs.entries, theirs.recording
        ),
        pieces=_pieces(mine, theirs),
        remarks=tuple(map(remark, warnings)),
        tokens=outcome.table,
    )


def _side(held: PlainList | Recording, name: str) -> Side:
    if isinstance(held, PlainList):
        return Side(name, held.entries)
    entries = tuple(
        PlainEntry(
            where=f"prompts[{p.id}]",
            id=p.id,
            text=p.text,
            prompt_token_ids=p.prompt_token_ids,
            token_ids=p.run.token_ids or (None if p.run.text_only else ()),
            output=p.run.text,
        )
        for p in held.prompts
    )
    return Side(name, entries, held)


def _file(side: Side) -> str | None:
    """The name of a plain list; a recording's outputs are its own for certain."""
    return side.name if side.recording is None else None


def _comparability(pairing: Pairing, mine: Side, theirs: Side) -> Comparability:
    """Prompts that are of one name must be one prompt. A recording's text of a
    chat is not what a template made of it, so there only token ids decide, unless
    nothing but the order says which belong together."""
    differences, unknown = [], list(_UNKNOWN)
    plain_both = mine.recording is None and theirs.recording is None
    texts_decide = plain_both or pairing.by == "order"
    for n, (a, b) in enumerate(pairing.pairs):
        ids = a.prompt_token_ids is not None and b.prompt_token_ids is not None
        if not ids and "prompt_token_ids" not in unknown:
            unknown.append("prompt_token_ids")
        if not agree(a, b) and (ids or texts_decide):
            field = "prompt_token_ids" if ids else "text"
            shown = (a.prompt_token_ids, b.prompt_token_ids) if ids else (a.text, b.text)
            place = f"prompts[{name_of(b, a, n)}].{field}"
            one, other = (_short(list(v) if isinstance(v, tuple) else v) for v in shown)
            differences.append(FieldDifference(field=place, candidate=one, baseline=other))
    return Comparability(
        comparable=not differences,
        differences=tuple(differences),
        allowed=(),
        unknown=tuple(unknown),
    )


def _outcome(
    pairing: Pairing, mine: Side, theirs: Side, arms: Baseline | None, found: Comparability
) -> _Outcome:
    if not found.comparable:
        verdict: Verdict = "NOT_COMPARABLE"
        return _Outcome(verdict, message_of(verdict, found, _NO_INTERVAL, (), 0, 0), (), (), None)
    sides = [[pair[side] for pair in pairing.pairs] for side in (0, 1)]
    if all(entry.token_ids is not None for side in sides for entry in side):
        return _tokens(pairing, mine, theirs, arms)
    for side, entries in zip((mine, theirs), sides, strict=True):
        silent = next((e for e in entries if e.output is None), None)
        if silent is not None:
            raise EmptyComparison(
                f"{side.name}: {silent.where} has no text, and the other side has no token ids "
                "there; write token ids, or texts, on both sides"
            )
    return _texts(pairing)


def _tokens(pairing: Pairing, mine: Side, theirs: Side, arms: Baseline | None) -> _Outcome:
    floor = None if arms is None else noise_floor(arms)
    limits = {} if floor is None else floor.tolerances()
    prompts = tuple(
        _prompt(name_of(b, a, n), (a, b), (mine.records, theirs.records), limits)
        for n, (a, b) in enumerate(pairing.pairs)
    )
    if not any(p.candidate_token_ids or p.context_token_ids for p in prompts):
        raise EmptyComparison(f"{mine.name} has no tokens, so there is nothing to judge")
    classes = [c for p in prompts for c in p.positions.class_]
    flips = sum(first_flip(p.positions) is not None for p in prompts)
    gates = (token_guard(classes, flips, judged=bool(limits)),)
    verdict: Verdict = "DIVERGENT" if "DIVERGENT" in classes else "INCONCLUSIVE"
    pieces = _pieces(mine, theirs)
    rows = [token_row(p, lambda token: pieces.get(str(token), f"<{token}>")) for p in prompts]
    table = _table(rows, pairing)
    return _Outcome(verdict, _message(verdict, table, gates), gates, prompts, table)


def _prompt(
    name: str,
    entries: tuple[PlainEntry, PlainEntry],
    records: tuple[Mapping[str, PromptRecord], Mapping[str, PromptRecord]],
    limits: Mapping[str, NDArray[np.float64]],
) -> PromptAlignment:
    """One prompt, up to and with the first position at which the tokens part."""
    runs = [
        None if (record := by_id.get(entry.id or "")) is None else record.run
        for entry, by_id in zip(entries, records, strict=True)
    ]
    follow = [entry.token_ids or () for entry in entries]
    n = _shared(follow[0], follow[1])
    mine, theirs = (
        np.array((ids if run is None else run.choices())[:n], dtype=np.int64)
        for run, ids in zip(runs, follow, strict=True)
    )
    rows = None if runs[1] is None else runs[1].rows[:n]
    positions = judged_positions(rows, theirs, mine, limits.get(entries[1].id or ""))
    return judged_prompt(
        positions,
        id=name,
        text=entries[1].text or entries[0].text or "",
        tokens_expected=len(follow[1]),
        first_divergence=_parted(follow[0], follow[1]),
        context_token_ids=list(follow[1]),
        candidate_token_ids=list(follow[0]),
        context_text=entries[1].output or "",
        candidate_text=entries[0].output or "",
        candidate_seconds=entries[0].seconds,
        reference_seconds=entries[1].seconds,
    )


def _texts(pairing: Pairing) -> _Outcome:
    prompts, rows, parted = [], [], []
    for n, (a, b) in enumerate(pairing.pairs):
        name, mine, theirs = name_of(b, a, n), a.output or "", b.output or ""
        place, quoted = parted_at(name, mine, theirs)
        parted += [] if quoted is None else [quoted]
        rows.append(text_row(name, plain(mine), plain(theirs), place, _QUOTED))
        prompts.append(
            text_prompt(
                name,
                b.text or a.text or "",
                candidate_token_ids=list(a.token_ids or ()),
                context_token_ids=list(b.token_ids or ()),
                context_text=theirs,
                candidate_text=mine,
                seconds=(a.seconds, b.seconds),
            )
        )
    outcome = outcome_of(len(prompts), parted)
    table = _table(rows, pairing, "characters")
    return _Outcome("INCONCLUSIVE", outcome, (text_gate(outcome),), tuple(prompts), table)


def _message(verdict: Verdict, table: TokenTable, gates: Sequence[Gate]) -> Message:
    """The verdict, the share of equal prompts, and how little that shows."""
    prompts, equal = len(table.rows), table.equal_prompts
    parts = [message("part.tokens", equal=equal, prompts=prompts, percent=100 * table.share)]
    if equal == prompts:
        parts = [message("part.tokens.all", prompts=prompts, tokens=sum(r.of for r in table.rows))]
    parts += [
        message("part.gate", gate=g.name, sentence=g.message or g.sentence)
        for g in gates
        if g.status != "NOT_RUN" and equal < prompts
    ]
    if verdict != "DIVERGENT":
        parts.append(message("part.no_logits"))
    return message("verdict.found", meaning=message(f"meaning.{verdict}"), parts=tuple(parts))


def _pairing_warnings(pairing: Pairing, mine: Side, theirs: Side) -> list[Message]:
    said = []
    if pairing.by == "order":
        said.append(message("warning.plain.order"))
    for key, left, side in (
        ("warning.plain.missing", pairing.missing, theirs),
        ("warning.plain.surplus", pairing.surplus, mine),
    ):
        if left:
            said.append(message(key, file=side.name, count=len(left), names=_named(left)))
    for again, side, index in ((pairing.twice[0], mine, 0), (pairing.twice[1], theirs, 1)):
        if again:
            kept = [pair[index] for pair in pairing.pairs]
            said.append(_twice(side.name, again, [*kept, *pairing.surplus, *pairing.missing]))
    return said


def _twice(file: str, again: Sequence[PlainEntry], kept: Sequence[PlainEntry]) -> Message:
    """That prompts stand twice, and whether their outputs are the same."""
    outputs = {(e.id, e.prompt_token_ids, e.text): (e.token_ids, e.output) for e in kept}
    differ = any(
        outputs.get((e.id, e.prompt_token_ids, e.text), (e.token_ids, e.output))
        != (e.token_ids, e.output)
        for e in again
    )
    key = "warning.plain.unsteady" if differ else "warning.plain.twice"
    return message(key, file=file, count=len(again), names=_named(again))


def _named(entries: Sequence[PlainEntry]) -> tuple[str, ...]:
    names = [entry.id or entry.where.lstrip(":") for entry in entries[:_NAMED]]
    return (*names, "...") if len(entries) > _NAMED else tuple(names)


def _table(rows: Sequence[TokenRow], pairing: Pairing, unit: str = "tokens") -> TokenTable:
    missing, surplus = (
        [e.id or e.where for e in left] for left in (pairing.missing, pairing.surplus)
    )
    return token_table(rows, unit, pairing.by, missing, surplus)  # type: ignore[arg-type]


def _classes(prompts: Sequence[PromptAlignment]) -> Counter[str]:
    return Counter(c for p in prompts for c in p.positions.class_ if c is not None)


def _arm(side: Side, role: str, file: str) -> Arm:
    if side.recording is not None:
        name = side.recording.device if role == "candidate" else role
        return arm_of(side.recording, role, name, file)
    return plain_arm(role, Path(file or side.name))


def _pieces(*sides: Side) -> dict[str, str]:
    return {
        token: piece
        for side in sides
        if side.recording is not None
        for token, piece in side.recording.pieces.items()
    }


def _shared(mine: Sequence[int], theirs: Sequence[int]) -> int:
    """Positions after the same tokens: up to and with the first that differs."""
    most = min(len(mine), len(theirs))
    return next((t + 1 for t in range(most) if mine[t] != theirs[t]), most)


def _parted(mine: Sequence[int], theirs: Sequence[int]) -> int | None:
    """The first position with another token, or where one of them had ended."""
    if tuple(mine) == tuple(theirs):
        return None
    n = _shared(mine, theirs)
    return n - 1 if n and mine[n - 1] != theirs[n - 1] else n


def _short(value: object) -> str:
    text = readable(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
