"""Determinism and invariance: the candidate run again with one thing changed.

Each cell opens the device anew with one argument changed (a repeat needs none)
and holds the rows against the candidate's own. Where bits differ, the variation
is judged by itself against the baseline. The last cell runs a model whose every bit is
known in the candidate's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.alignment.align import compare
from harness.alignment.allow import STRICT, Allow
from harness.alignment.outcomes import ALIGNED, NO_JUDGEMENT, Status
from harness.alignment.result import Alignment, MatrixCell
from harness.baseline.baseline import Baseline
from harness.devices.base import Completion, Device, Opened, Request, ignore_token
from harness.devices.kinds import kind_of
from harness.devices.registry import Target
from harness.devices.spec import DeviceSpec
from harness.errors import DeviceError, HarnessError, UsageError
from harness.messages.message import Message, Value, message
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.format import Recording, Repeat
from harness.recording.recorder import Options, record
from harness.recording.repeats import repeat_of
from harness.session.canary import CELL, canary_cell
from harness.statistics.rows import NORMAL
from harness.suite.suite import Suite

#: Names of the cells, in the order of a report.
CELLS = ("repeat", "batch", "graph", "prefix_cache", "chunked_prefill", CELL)
#: How many prompts each cell runs: the longest, where caching and chunks show.
PROMPTS = 16
#: The batch that batch 1 is held against, and the tokens in a piece of a prompt.
BATCH = 8
PIECE = 16
#: vLLM-Ascend makes a block so long where prefixes are cached or prompts come in pieces.
ASCEND_BLOCK = 128

#: Why a device without an engine cannot run such a cell.
_LACKING = {
    "batch": "matrix.one_at_a_time",
    "graph": "matrix.no_graphs",
    "prefix_cache": "matrix.no_prefix",
    "chunked_prefill": "matrix.whole_prompts",
}


@dataclass(frozen=True)
class Variation:
    """One thing to change.

    ``warm`` runs everything once before, to fill the cache;
    ``why_not`` says why it cannot be changed.
    """

    name: str
    change: str
    batch_size: int = 1
    engine_args: Mapping[str, str] = field(default_factory=dict)
    warm: bool = False
    why_not: Message | None = None


@dataclass(frozen=True)
class MatrixPlan:
    """What the cells are compared with.

    ``spec`` is the candidate's device; ``open_target`` makes it with something changed, and
    ``canary`` runs the last cell on it.
    """

    candidate: Recording
    baseline: Baseline
    suite: Suite
    spec: DeviceSpec
    open_target: Callable[[DeviceSpec], Target]
    allow: Allow = STRICT
    canary: Callable[[DeviceSpec, str, Progress], MatrixCell] = canary_cell


class Warmed:
    """A device that runs every request once before the run that counts."""

    def __init__(self, device: Device) -> None:
        self.name = device.name
        self._device = device

    def open(self) -> Opened:
        return self._device.open()

    def generate(
        self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]:
        for _ in self._device.generate([replace(r, keep="nothing") for r in requests]):
            pass
        yield from self._device.generate(requests, on_token)

    def close(self) -> None:
        self._device.close()


def run_matrix(
    plan: MatrixPlan, alignment: Alignment, progress: Progress
) -> tuple[MatrixCell, ...]:
    """All cells; a cell that cannot run has the reason.

    Args:
        alignment: of the candidate, for its repeats.
    """
    cells = [repeat_cell(plan.candidate, alignment)]
    ids = longest_prompts(plan.candidate)
    for variation in variations(plan.candidate, ids):
        if variation.why_not is not None:
            cells.append(_not_run(variation, variation.why_not))
            continue
        progress.note(f"matrix: {variation.change}")
        try:
            cells.append(_run(plan, variation, ids, progress))
        except (DeviceError, UsageError) as error:
            cells.append(_not_run(variation, str(error), status="INCONCLUSIVE"))
    cells.append(plan.canary(plan.spec, plan.candidate.dtype, progress))
    return tuple(cells)


def longest_prompts(candidate: Recording) -> tuple[str, ...]:
    """Ids of the PROMPTS longest prompts."""
    ordered = sorted(candidate.prompts, key=lambda p: -len(p.prompt_token_ids))
    return tuple(p.id for p in ordered[:PROMPTS])


def variations(candidate: Recording, ids: Sequence[str]) -> Iterator[Variation]:
    """The changes, given the settings of the candidate's own run."""
    engine, device = candidate.engine, candidate.device
    batch = engine.batch_size or 1
    kind = kind_of(device)
    lacking = {} if kind.batching else _LACKING
    if kind.remote:
        lacking = dict.fromkeys(_LACKING, "matrix.not_started_here")
    other = BATCH if batch == 1 else 1
    eager, cached = bool(engine.enforce_eager), bool(engine.prefix_caching)
    lengths = [len(p.prompt_token_ids) for p in candidate.prompts if p.id in ids]
    block, short = _block(candidate)
    found = [
        Variation("batch", f"batch {batch} against {other}", batch_size=other),
        Variation(
            "graph",
            "eager against graph" if eager else "graph against eager",
            batch,
            {"enforce_eager": "false" if eager else "true"},
        ),
        Variation(
            "prefix_cache",
            f"prefix cache {'on' if cached else 'off'} against {'off' if cached else 'on'}",
            batch,
            {"enable_prefix_caching": "false" if cached else "true"},
            warm=not cached,
            why_not=short if max(lengths) <= block else None,
        ),
        Variation(
            "chunked_prefill",
            f"whole prompts against pieces of {max(PIECE, batch)} tokens",
            batch,
            {
                "enable_chunked_prefill": "true",
                "max_num_batched_tokens": str(max(PIECE, batch)),
            },
            why_not=message("matrix.short_for_a_piece") if max(lengths) <= PIECE else None,
        ),
    ]
    for variation in found:
        key = lacking.get(variation.name)
        yield (
            variation if key is None else replace(variation, why_not=message(key, device=device))
        )


def _block(candidate: Recording) -> tuple[int, Message]:
    """Tokens in a block while prefixes are cached, and what helps where no prompt is longer."""
    engine, kind = candidate.engine, kind_of(candidate.device)
    block = engine.block_size or 0
    if (kind.family, kind.backend) != ("vllm", "npu"):
        return block, message("matrix.short_for_a_block", block=block)
    # In the candidate's own run another size may be in force.
    own = engine.prefix_caching or engine.facts.get("chunked_prefill")
    block = block if own and block else ASCEND_BLOCK
    return block, message("matrix.short_for_ascend", block=block)


def _run(
    plan: MatrixPlan, variation: Variation, ids: Sequence[str], progress: Progress
) -> MatrixCell:
    args = {**plan.spec.engine_args, **variation.engine_args}
    spec = replace(plan.spec, batch_size=variation.batch_size, engine_args=args)
    target = plan.open_target(spec)
    device: Device = Warmed(target.device) if variation.warm else target.device
    options = Options(
        context=Context.of(plan.baseline.reference),
        prompt_ids=frozenset(ids),
        detail=plan.candidate.detail or NORMAL,
    )
    made = record(device, target.subject, plan.suite, options, progress=progress)
    return judged_cell(variation, made, plan)


def judged_cell(variation: Variation, made: Recording, plan: MatrixPlan) -> MatrixCell:
    """The variation's rows beside the candidate's own, and its own verdict."""
    repeats = [_beside(plan.candidate, made, plan.baseline, p.id) for p in made.prompts]
    rows, equal, shift = _totals(repeats)
    if equal == rows:
        return MatrixCell(
            name=variation.name,
            change=variation.change,
            status="PASS",
            rows=rows,
            rows_equal=equal,
            shift=None,
            verdict=None,
            error_ratio=None,
            message=message("matrix.same_bits", rows=rows),
        )
    judged = compare(
        made,
        only(plan.baseline, [p.id for p in made.prompts]),
        allow=plan.allow,
    )
    status: Status = "FAIL"
    if judged.verdict in ALIGNED:
        status = "PASS"
    elif judged.verdict in NO_JUDGEMENT:
        status = "WARN"
    ratio = judged.error_ratio
    values: dict[str, Value] = {
        "different": rows - equal,
        "rows": rows,
        "shift": shift,
        "verdict": judged.verdict,
    }
    outcome = message("matrix.other_bits", **values)
    if ratio.value is not None:
        outcome = message(
            "matrix.other_bits.ratio", **values, ratio=message("times.point", value=ratio.value)
        )
    return MatrixCell(
        name=variation.name,
        change=variation.change,
        status=status,
        rows=rows,
        rows_equal=equal,
        shift=shift,
        verdict=judged.verdict,
        error_ratio=ratio,
        message=outcome,
    )


def repeat_cell(candidate: Recording, alignment: Alignment) -> MatrixCell:
    """The determinism gate of the run as a cell."""
    rows, equal, shift = _totals(candidate.repeats)
    gate = next((g for g in alignment.gates if g.name == "determinism"), None)
    return MatrixCell(
        name="repeat",
        change="first run against second",
        status="NOT_RUN" if gate is None else gate.status,
        rows=rows,
        rows_equal=equal,
        shift=None if equal == rows else shift,
        verdict="NON_DETERMINISTIC" if gate is not None and gate.status == "FAIL" else None,
        error_ratio=None,
        message=message("matrix.unjudged") if gate is None else gate.message,
    )


def only(baseline: Baseline, ids: Sequence[str]) -> Baseline:
    """The baseline with these prompts alone, so that the others are not missed."""

    def part(arm: Recording) -> Recording:
        kept = tuple(p for p in arm.prompts if p.id in ids)
        return arm.model_copy(update={"prompts": kept})

    return replace(
        baseline,
        reference=part(baseline.reference),
        oracle=None if baseline.oracle is None else part(baseline.oracle),
        controls={name: part(arm) for name, arm in baseline.controls.items()},
    )


def _beside(candidate: Recording, made: Recording, baseline: Baseline, prompt_id: str) -> Repeat:
    """The same prompt in both, as far as both follow the baseline's tokens."""
    mine, other = candidate.prompt(prompt_id), made.prompt(prompt_id)
    context = baseline.reference.prompt(prompt_id)
    if mine is None or other is None or context is None:
        raise HarnessError(f"prompt {prompt_id} is not in every recording")
    tokens = context.run.token_ids
    return repeat_of(prompt_id, mine.on(tokens), other.on(tokens))


def _totals(repeats: Sequence[Repeat]) -> tuple[int, int, float]:
    shifts = [abs(d.shift) for r in repeats for d in r.differences if d.shift is not None]
    rows = sum(r.rows_compared for r in repeats)
    return rows, sum(r.rows_equal for r in repeats), max(shifts, default=0.0)


def _not_run(variation: Variation, why: Message | str, *, status: Status = "NOT_RUN") -> MatrixCell:
    return MatrixCell(
        name=variation.name,
        change=variation.change,
        status=status,
        rows=0,
        rows_equal=0,
        shift=None,
        verdict=None,
        error_ratio=None,
        message=message("matrix.not_run", reason=why),
    )
