"""Broken evidence: recordings of a correct port that were changed, or that are not
what they say, beside the broken models.

Each entry edits the recording of a correct variation as a device with that fault would
have left it, and the command judges it by ``compare`` as anybody would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.alignment.align import compare
from harness.alignment.outcomes import exit_status
from harness.baseline.baseline import Baseline
from harness.errors import HarnessError
from harness.recording.format import (
    Difference,
    PromptRecord,
    Recording,
    Repeat,
    margins_of,
)
from harness.statistics.rows import RowStatistics, hashes

Rows = Callable[[PromptRecord, RowStatistics, RowStatistics], RowStatistics]
Choice = Callable[[PromptRecord, RowStatistics], NDArray[np.int64]]


@dataclass(frozen=True)
class Broken:
    """One kind of broken evidence in one severity.

    Attributes:
        kind, severity: its names in the table.
        make: the candidate and what it is held against.
        correct: nothing is wrong with it, so it must not fail.
    """

    kind: str
    severity: str
    make: Callable[[Recording, Baseline], tuple[Recording, Baseline]]
    correct: bool = False


@dataclass(frozen=True)
class Told:
    """How one entry was judged; ``gates`` are those that did not pass."""

    kind: str
    severity: str
    correct: bool
    verdict: str
    right: bool
    gates: tuple[str, ...]


def judge_broken(port: Recording, baseline: Baseline) -> list[Told]:
    """Every entry, judged.

    Args:
        port: of a correct variation, forced on the baseline's tokens.
    """
    return [_judged(entry, port, baseline) for entry in entries(port, baseline)]


def _judged(entry: Broken, port: Recording, baseline: Baseline) -> Told:
    candidate, against = entry.make(port, baseline)
    try:
        found = compare(candidate, against)
    except HarnessError as error:
        name = type(error).__name__
        return Told(entry.kind, entry.severity, entry.correct, name, not entry.correct, ())
    # What cannot be compared says nothing of either.
    status = exit_status(found.verdict)
    right = found.verdict != "NOT_COMPARABLE" and (status != 1 if entry.correct else status != 0)
    gates = tuple(g.name for g in found.gates if g.status == "FAIL")
    return Told(entry.kind, entry.severity, entry.correct, found.verdict, right, gates)


@dataclass(frozen=True)
class Vocabulary:
    """Its width, and an id that no arm lists among its likeliest, with as many after it
    as ``one_direction`` takes."""

    width: int
    unlisted: int


def _vocabulary(port: Recording, arms: Baseline) -> Vocabulary:
    listed = np.unique(
        np.concatenate(
            [
                p.run.rows.top_ids.ravel()
                for arm in (port, *(arm for _, arm in arms.arms()))
                for p in arm.prompts
            ]
        )
    )
    gaps = np.diff(listed)
    return Vocabulary(port.model.vocab_size, int(listed[int(np.argmax(gaps))]) + 1)


def entries(port: Recording, arms: Baseline) -> Iterator[Broken]:
    """All kinds; the correct ones guard against a rule that fails everything."""
    yield Broken("nothing", "as it is", lambda port, arms: (as_device(port), arms), correct=True)
    yield from _local()
    yield from _systematic(_vocabulary(port, arms))
    yield from _choices()
    yield from _conduct()


#: How many times, or by how much: of the index of a prompt and its positions.
Pattern = Callable[[int, NDArray[np.int64]], NDArray[np.float64]]


def _local() -> Iterator[Broken]:
    def row(times: float) -> Pattern:
        return lambda i, t: np.where((t == 20) & (i == 3), times, 1.0)

    def every(step: int, times: float) -> Pattern:
        return lambda _i, t: np.where(t % step == 5, times, 1.0)

    def first(prompts: int, times: float) -> Pattern:
        return lambda i, t: np.full(len(t), times if i < prompts else 1.0)

    for times in (24.0, 12.0, 8.0):
        yield _rows("one row", f"error × {times:g}", errors(row(times)))
    for step, times in ((16, 4.0), (8, 3.0), (24, 5.0)):
        yield _rows("every n-th row", f"every {step}th × {times:g}", errors(every(step, times)))
    for prompts, times in ((1, 3.0), (3, 2.5), (6, 2.0)):
        yield _rows("some prompts", f"{prompts} × {times:g}", errors(first(prompts, times)))
    places = {
        "the first": lambda _i, t: np.where(t == 0, 3.0, 1.0),
        "the last": lambda _i, t: np.where(t == len(t) - 1, 3.0, 1.0),
        "the 17th": lambda _i, t: np.where(t == 16, 3.0, 1.0),
    }
    for name, pattern in places.items():
        yield _rows("one place in every output", f"{name} × 3", errors(pattern))


def only(prompt: int) -> Pattern:
    """One prompt, whole."""
    return lambda i, t: np.full(len(t), 1.0 if i == prompt else 0.0)


#: Where logits are scaled up, and where down.
_SIGNS: dict[str, Pattern] = {
    "in the first half, up in the second": lambda _i, t: np.where(t < len(t) // 2, -1.0, 1.0),
    "in even rows, up in odd": lambda _i, t: np.where(t % 2 == 1, 1.0, -1.0),
    "in even prompts, up in odd": lambda i, t: np.full(len(t), 1.0 if i % 2 else -1.0),
    "in the middle third, up elsewhere": lambda _i, t: np.where(
        (t >= len(t) // 3) & (t < 2 * len(t) // 3), -1.0, 1.0
    ),
}


def _systematic(vocabulary: Vocabulary) -> Iterator[Broken]:
    for logits in (3.0, 1.5, -1.5):
        yield _rows(
            "one unlisted token", f"{logits:+g} logits everywhere", one_token(logits, vocabulary)
        )
    for name, sign in _SIGNS.items():
        yield _rows("logits scaled", f"1.5 % down {name}", scaled(0.015, sign))
    yield _rows("one prompt scaled", "by 3 %", scaled(0.03, only(4)))
    for share in (0.3, 0.15):
        yield _rows(
            "one direction", f"{share:g} of the squared error", one_direction(share, vocabulary)
        )
    for name in (
        "in even rows, up in odd",
        "in the first half, up in the second",
        "in even prompts, up in odd",
    ):
        yield _rows(
            "one direction", f"0.3, down {name}", one_direction(0.3, vocabulary, _SIGNS[name])
        )


def _choices() -> Iterator[Broken]:
    for temperature in (0.1, 0.05, 0.3):
        yield Broken("a sampler", f"T = {temperature:g}", _chosen(sampler(temperature)))
    for penalty in (1.01, 1.05):
        yield Broken("a repetition penalty", f"{penalty:g}", _chosen(penalized(penalty)))
    yield Broken("the second best", "at one position", _chosen(second_best))


def _conduct() -> Iterator[Broken]:
    yield Broken("an arm as the candidate", "the reference", lambda _, a: (a.reference, a))
    first = "control-eager"
    yield Broken("an arm as the candidate", first, lambda _, a: (a.controls[first], a))
    yield Broken("cut outputs that say length", "2 tokens", lambda p, a: (cut(as_device(p), 2), a))
    yield Broken("cut outputs that say length", "40", lambda p, a: (cut(as_device(p), 40), a))
    yield Broken("a repeat differs", "by NaN", lambda p, a: (repeated(as_device(p), None), a))
    yield Broken("a repeat differs", "by 9 logits", lambda p, a: (repeated(as_device(p), 9.0), a))
    yield Broken(
        "controls are copies", "in 9 rows of 10", lambda p, a: (as_device(p), copies(a, 0.9))
    )
    yield Broken(
        "controls are copies",
        "in 2 rows of 10",
        lambda p, a: (as_device(p), copies(a, 0.2)),
        correct=True,
    )


def _rows(kind: str, severity: str, edit: Rows) -> Broken:
    return Broken(kind, severity, lambda port, arms: (edited(port, arms, edit), arms))


def _chosen(choose: Choice) -> Callable[[Recording, Baseline], tuple[Recording, Baseline]]:
    return lambda port, arms: (as_device(port, choose), arms)


def greedy(_prompt: PromptRecord, rows: RowStatistics) -> NDArray[np.int64]:
    """The largest of each row."""
    return np.asarray(rows.top_ids[:, 0], np.int64)


def as_device(port: Recording, choose: Choice = greedy) -> Recording:
    """A forced recording as a device that chooses so leaves it: it ran free, and where
    it left the reference's tokens it was replayed on them."""
    prompts = []
    for prompt in port.prompts:
        forced = prompt.run.model_copy(update={"replay": "forced-decode"})
        tokens = tuple(int(i) for i in choose(prompt, forced.rows))
        free = forced.model_copy(update={"replay": "free", "stop": "length", "token_ids": tokens})
        same = tokens == forced.token_ids
        prompts.append(prompt.model_copy(update={"free": free, "forced": None if same else forced}))
    return port.model_copy(update={"prompts": tuple(prompts), "device": "npu"})


def edited(port: Recording, arms: Baseline, edit: Rows) -> Recording:
    """The port with other rows, as a device leaves it."""
    assert arms.oracle is not None
    prompts = []
    for index, prompt in enumerate(port.prompts):
        told = prompt.model_copy(update={"text": str(index)})
        truth = arms.oracle.prompts[index].run.rows
        rows = edit(told, prompt.run.rows, truth)
        rows = replace(rows, digest=None if rows.digest is None else rows.digest ^ np.uint8(1))
        run = prompt.run.model_copy(update={"rows": rows, "margins": margins_of(rows)})
        prompts.append(prompt.model_copy(update={"free": None, "forced": run}))
    return as_device(port.model_copy(update={"prompts": tuple(prompts)}))


def errors(factor: Pattern) -> Rows:
    """The port's real error against the oracle, so many times as large."""

    def edit(prompt: PromptRecord, rows: RowStatistics, truth: RowStatistics) -> RowStatistics:
        assert rows.sketch is not None
        assert truth.sketch is not None
        times = factor(int(prompt.text), np.arange(len(rows)))
        sketch = truth.sketch + times[:, None] * (rows.sketch.astype(np.float64) - truth.sketch)
        match = rows.top_ids[:, :, None] == truth.top_ids[:, None, :]
        theirs = np.take_along_axis(truth.top_logits, match.argmax(axis=2), axis=1)
        moved = theirs + times[:, None] * (rows.top_logits.astype(np.float64) - theirs)
        logits = np.where(match.any(axis=2) & (times != 1.0)[:, None], moved, rows.top_logits)
        return replace(rows, sketch=sketch.astype(np.float32), **_ordered(rows, logits))

    return edit


def one_token(logits: float, vocabulary: Vocabulary) -> Rows:
    """One id that is never among the likeliest, so much too high."""

    def edit(_: PromptRecord, rows: RowStatistics, _truth: RowStatistics) -> RowStatistics:
        assert rows.sketch is not None
        change = np.zeros(vocabulary.width)
        change[vocabulary.unlisted] = logits
        return replace(rows, sketch=(rows.sketch + _sketched(change)).astype(np.float32))

    return edit


def always(_index: int, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same sign everywhere."""
    return np.ones(len(positions))


def one_direction(share: float, vocabulary: Vocabulary, sign: Pattern = always) -> Rows:
    """The same error at every position, up or down: a share of the port's squared error,
    in ids that are never among the likeliest."""
    change = np.zeros(vocabulary.width)
    change[vocabulary.unlisted : vocabulary.unlisted + _IDS] = np.random.default_rng(
        5
    ).standard_normal(_IDS)
    moved = _sketched(change)
    moved /= np.sqrt(float(moved @ moved))

    def edit(prompt: PromptRecord, rows: RowStatistics, truth: RowStatistics) -> RowStatistics:
        assert rows.sketch is not None
        assert truth.sketch is not None
        size = float(np.mean(np.sum((rows.sketch.astype(np.float64) - truth.sketch) ** 2, axis=1)))
        way = sign(int(prompt.text), np.arange(len(rows)))[:, None]
        return replace(
            rows, sketch=(rows.sketch + np.sqrt(share * size) * way * moved).astype(np.float32)
        )

    return edit


def scaled(by: float, sign: Pattern) -> Rows:
    """Logits that are a share too large or too small, row by row."""

    def edit(prompt: PromptRecord, rows: RowStatistics, _truth: RowStatistics) -> RowStatistics:
        assert rows.sketch is not None
        factor = (1.0 + by * sign(int(prompt.text), np.arange(len(rows))))[:, None]
        listed = _ordered(rows, rows.top_logits * factor)
        return replace(rows, sketch=(rows.sketch * factor).astype(np.float32), **listed)

    return edit


def sampler(temperature: float) -> Choice:
    """Draws from the softmax of the likeliest at a temperature."""
    random = np.random.default_rng(11)

    def choose(_: PromptRecord, rows: RowStatistics) -> NDArray[np.int64]:
        scores = rows.top_logits.astype(np.float64) / temperature
        drawn = np.argmax(scores + random.gumbel(size=scores.shape), axis=1)
        return np.asarray(np.take_along_axis(rows.top_ids, drawn[:, None], 1)[:, 0], np.int64)

    return choose


def penalized(penalty: float) -> Choice:
    """The largest after tokens that were seen are divided by a penalty."""

    def choose(prompt: PromptRecord, rows: RowStatistics) -> NDArray[np.int64]:
        tokens = [*prompt.prompt_token_ids, *prompt.run.token_ids]
        chosen = []
        for t in range(len(rows)):
            seen = set(tokens[: len(prompt.prompt_token_ids) + t])
            known = np.array([int(i) in seen for i in rows.top_ids[t]])
            logits = rows.top_logits[t].astype(np.float64)
            lower = np.where(logits > 0, logits / penalty, logits * penalty)
            chosen.append(int(rows.top_ids[t, int(np.argmax(np.where(known, lower, logits)))]))
        return np.array(chosen, np.int64)

    return choose


def second_best(prompt: PromptRecord, rows: RowStatistics) -> NDArray[np.int64]:
    """The second best once, in the middle of the first prompt whose choice is clear."""
    tokens = greedy(prompt, rows)
    gaps = rows.top_logits[:, 0] - rows.top_logits[:, 1]
    at = int(np.argmax(gaps))
    tokens[at] = rows.top_ids[at, 1]
    return tokens


def cut(port: Recording, count: int) -> Recording:
    """A recording whose free runs ended early and say that they did not."""
    prompts = []
    for prompt in port.prompts:
        assert prompt.free is not None
        free = prompt.free
        short = free.model_copy(
            update={
                "token_ids": free.token_ids[:count],
                "margins": free.margins[:count],
                "rows": free.rows[:count],
            }
        )
        prompts.append(prompt.model_copy(update={"free": short, "forced": None}))
    return port.model_copy(update={"prompts": tuple(prompts)})


def repeated(port: Recording, shift: float | None) -> Recording:
    """A recording one of whose prompts came out otherwise when it was run again."""
    prompt = port.prompts[0]
    rows = len(prompt.run.rows)
    again = Repeat(
        prompt_id=prompt.id,
        rows_compared=rows,
        rows_equal=rows - 1,
        differences=(Difference(position=3, shift=shift),),
    )
    return port.model_copy(update={"repeats": (again,)})


def copies(arms: Baseline, share: float) -> Baseline:
    """The baseline with controls of which so many rows are the reference's."""
    made: dict[str, Recording] = {}
    for seed, (name, control) in enumerate(arms.controls.items()):
        random = np.random.default_rng(seed)
        prompts = []
        for prompt, base in zip(control.prompts, arms.reference.prompts, strict=True):
            own, theirs = prompt.run.rows, base.run.rows
            taken = random.random(len(own)) < share
            columns: dict[str, Any] = {}
            for field in RowStatistics.__dataclass_fields__:
                mine, other = getattr(own, field), getattr(theirs, field)
                if isinstance(mine, np.ndarray) and isinstance(other, np.ndarray):
                    where = taken.reshape(-1, *[1] * (mine.ndim - 1))
                    columns[field] = np.where(where, other, mine)
            rows = replace(own, **columns)
            run = prompt.run.model_copy(update={"rows": rows, "margins": margins_of(rows)})
            prompts.append(prompt.model_copy(update={"forced": run}))
        made[name] = control.model_copy(update={"prompts": tuple(prompts)})
    return replace(arms, controls=made)


#: How many ids a systematic error is spread over.
_IDS = 16


def _sketched(change: NDArray[np.float64]) -> NDArray[np.float64]:
    bucket, sign = hashes(len(change))
    counted = np.bincount(bucket, weights=(change - change.mean()) * sign, minlength=64)
    return np.asarray(counted, np.float64)


def _ordered(rows: RowStatistics, logits: NDArray[np.floating]) -> dict[str, Any]:
    """The likeliest, as other logits order them, in bfloat16 again."""
    bits = np.ascontiguousarray(logits, np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)).view(np.float32)
    order = np.argsort(-rounded, axis=1, kind="stable")
    return {
        "top_ids": np.take_along_axis(rows.top_ids, order, 1),
        "top_logits": np.take_along_axis(rounded, order, 1),
    }
