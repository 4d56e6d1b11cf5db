"""The catalogue as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from benchmarks.catalogue.broken import Told
from benchmarks.catalogue.entries import Entry
from benchmarks.catalogue.judging import SIZES, Judged
from harness.alignment.gates.bias import BIAS_LIMIT, SLOPE_LIMIT
from harness.baseline.controls import ERROR_RATIO_LIMIT
from harness.baseline.scales import PLACE_LIMIT, PROMPT_LIMIT

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
#: The lines of ``benchmarks.diagnosis``, beside the result of the default model.
DIAGNOSIS = "diagnosis.jsonl"
#: What counts as detected.
DETECTED = 0.95


@dataclass(frozen=True)
class Diagnosed:
    """What the first stage of a diagnosis says of an entry, with 32 prompts.

    Attributes:
        told: whether anything is beyond chance.
        rank: of the true cause among all; None where there is no such cause.
    """

    told: bool
    rank: int | None


def diagnosed_in(file: Path) -> dict[str, Diagnosed]:
    """The lines of ``benchmarks.diagnosis`` by the entry's key; none without the file."""
    if not file.exists():
        return {}
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {line["recording"]: Diagnosed(line["told_now"], line["rank"]) for line in lines}


def write(
    judged: Sequence[Judged],
    broken: Sequence[Told],
    facts: dict[str, object],
    page: Path | None,
    result: Path,
) -> None:
    """Put all figures into ``result``, and the tables between the marks of ``page``, if there
    is one."""
    result.parent.mkdir(parents=True, exist_ok=True)
    found = {
        **facts,
        "entries": [asdict(j) for j in judged],
        "evidence": [asdict(told) for told in broken],
    }
    result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if page is not None:
        write_page(page, result, result.parent / DIAGNOSIS)


def write_page(page: Path, result: Path, diagnosis: Path) -> None:
    """Put the tables of the results between the marks of the page."""
    judged, broken, missing = read(result)
    text = page.read_text(encoding="utf-8") if page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    absent = f"**Not recorded, so not in these tables:** {_listed(missing)}.\n\n" if missing else ""
    shown = [*tables(judged, diagnosed_in(diagnosis)), *evidence_table(broken)]
    body = absent + "\n".join(shown)
    page.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def read(result: Path) -> tuple[list[Judged], list[Told], list[str]]:
    """What ``write`` has put there: entries, evidence, and the keys of missing entries."""
    found = json.loads(result.read_text(encoding="utf-8"))
    by_size = ("failed", "undecided", "unequal", "not_close")
    judged = [
        Judged(**{**entry, **{k: {int(n): v for n, v in entry[k].items()} for k in by_size}})
        for entry in found["entries"]
    ]
    told = [Told(**{**entry, "gates": tuple(entry["gates"])}) for entry in found["evidence"]]
    return judged, told, found.get("missing", [])


def tables(
    judged: Sequence[Judged], diagnosed: Mapping[str, Diagnosed] | None = None
) -> Iterable[str]:
    known = diagnosed or {}
    correct = [j for j in judged if j.correct]
    faults = [j for j in judged if not j.correct]
    yield from _summary(correct, [j for j in faults if j.must])
    yield from _gates(correct, faults)
    yield from _correct(correct, known)
    yield from _smallest(faults)
    yield from _faults(faults, known)


def _of(j: Judged, diagnosed: Mapping[str, Diagnosed]) -> Diagnosed | None:
    return diagnosed.get(Entry(j.family, j.severity, correct=j.correct).key)


def _told(found: Diagnosed | None) -> str:
    return "–" if found is None else "told" if found.told else "not told"


def _summary(correct: Sequence[Judged], must: Sequence[Judged]) -> Iterable[str]:
    largest = SIZES[-1]
    yield "### Error rates\n"
    yield "| rule | " + " | ".join(f"false alarms, {s} prompts" for s in SIZES) + " |"
    yield "|---|" + "---|" * len(SIZES)
    rules: list[tuple[str, Callable[[Judged, int], float]]] = [
        ("the verdict fails", lambda j, s: j.failed[s]),
        ("the verdict is INCONCLUSIVE", lambda j, s: j.undecided[s]),
        ("first 48 tokens not equal", lambda j, s: j.unequal[s]),
        ("`check_logprobs_close` fails", lambda j, s: j.not_close[s]),
    ]
    for name, rate in rules:
        yield (
            f"| {name} | "
            + " | ".join(f"{_mean([rate(j, s) for j in correct]):.1%}" for s in SIZES)
            + " |"
        )
    wrong = [j for j in correct if j.verdict in ("DRIFT", "DIVERGENT")]
    yield f"\nOver all prompts {len(wrong)} of {len(correct)} correct variations fail. Of the"
    always = [j for j in must if j.failed[largest] == 1.0]
    yield f"{len(must)} faults that {largest} prompts must always tell, {len(always)} always are.\n"


#: Gates with a limit that was chosen, or None where the arms set it, and the form of
#: their values.
_LIMITED: dict[str, tuple[float | None, str]] = {
    "error_ratio": (ERROR_RATIO_LIMIT, ".3f"),
    "error_ratio_prefill": (ERROR_RATIO_LIMIT, ".3f"),
    "error_ratio_decode": (ERROR_RATIO_LIMIT, ".3f"),
    "top_k_error_ratio": (ERROR_RATIO_LIMIT, ".3f"),
    "prompt_guard": (PROMPT_LIMIT, ".3f"),
    "row_guard": (None, ".3f"),
    "place_guard": (PLACE_LIMIT, ".3f"),
    "point_guard": (0, ".0f"),
    "exceedance": (1, ".3f"),
    "flip_calibration": (1, ".3f"),
    "bias": (BIAS_LIMIT, ".4f"),
    "bucket": (None, ".3f"),
    "direction": (None, ".3f"),
    "slope": (SLOPE_LIMIT, ".5f"),
    "row_slope": (ERROR_RATIO_LIMIT, ".3f"),
}


def _gates(correct: Sequence[Judged], faults: Sequence[Judged]) -> Iterable[str]:
    yield "### What each gate is worth\n"
    yield (
        f"| gate | limit | largest over correct variations, 36 prompts | on subsets of {SIZES[0]} "
        "| faults and severities told at 32 | told by no other gate |"
    )
    yield "|---|---|---|---|---|---|"
    told = [{n for n, rate in j.by_gate.items() if rate >= DETECTED} for j in faults]
    for name, (limit, form) in _LIMITED.items():
        whole = max((abs(j.figures.get(name) or 0.0) for j in correct), default=0.0)
        small = max((j.largest.get(name, 0.0) for j in correct), default=0.0)
        alone = [j for j, names in zip(faults, told, strict=True) if names == {name}]
        which = ", ".join(f"{j.family} {j.severity}" for j in alone) or "–"
        yield (
            f"| `{name}` | {_limit(limit)} | {whole:{form}} | {small:{form}} "
            f"| {sum(name in names for names in told)} of {len(faults)} | {which} |"
        )
    yield ""


def _limit(limit: float | None) -> str:
    return "by the arms" if limit is None else f"{limit:g}"


def _correct(judged: Sequence[Judged], diagnosed: Mapping[str, Diagnosed]) -> Iterable[str]:
    yield "### Correct variations\n"
    yield (
        "| variation | error ratio | top-k | slope | tokens changed | verdict | "
        + " | ".join(f"fails at {s}" for s in SIZES)
        + f" | INCONCLUSIVE at {' / '.join(map(str, SIZES))} | equal tokens | close "
        "| `systematic` |"
    )
    yield "|---|---|---|---|---|---|" + "---|" * (len(SIZES) + 4)
    for j in judged:
        undecided = " / ".join(f"{j.undecided[s]:.0%}" for s in SIZES)
        yield (
            f"| {j.family} | {_figures(j)} | {j.tokens_changed} | `{j.verdict}` | "
            + " | ".join(f"{j.failed[s]:.1%}" for s in SIZES)
            + f" | {undecided} | {_passes(j.equal_tokens)} | {_passes(j.close)} "
            + f"| {_told(_of(j, diagnosed))} |"
        )
    yield ""


def _faults(judged: Sequence[Judged], diagnosed: Mapping[str, Diagnosed]) -> Iterable[str]:
    yield "### Every fault\n"
    yield from _diagnoses([found for j in judged if (found := _of(j, diagnosed)) is not None])
    yield (
        "| fault | severity | error ratio | top-k | slope | tokens changed | verdict | "
        + " | ".join(f"at {s}" for s in SIZES)
        + " | gates that tell it | close at 32 | `systematic` | rank of the true cause |"
    )
    yield "|---|---|---|---|---|---|---|" + "---|" * (len(SIZES) + 4)
    for j in judged:
        gates = ", ".join(n for n, rate in j.by_gate.items() if rate >= DETECTED) or "none"
        severity = f"**{j.severity}**" if j.must else j.severity
        found = _of(j, diagnosed)
        rank = "–" if found is None or found.rank is None else f"{found.rank:,}"
        yield (
            f"| {j.family} | {severity} | {_figures(j)} | {j.tokens_changed} | `{j.verdict}` | "
            + " | ".join(f"{j.failed[s]:.0%}" for s in SIZES)
            + f" | {gates} | {j.not_close[SIZES[-1]]:.0%} | {_told(found)} | {rank} |"
        )
    yield ""


def _diagnoses(found: Sequence[Diagnosed]) -> Iterable[str]:
    """What the last two columns come to."""
    told = [each for each in found if each.told]
    first = [each for each in told if each.rank == 1]
    if found:
        yield (
            f"The last two columns are of the [diagnosis](diagnosis.md) with {SIZES[-1]} prompts: "
            f"{len(told)} of the {len(found)} faults that it was run on are told, {len(first)} "
            "with a cause of the true kind first. – was not run, or has no such cause.\n"
        )


def evidence_table(broken: Sequence[Told]) -> Iterable[str]:
    """Broken evidence, and whether it was told."""
    yield "### Broken evidence\n"
    yield "| evidence | severity | verdict | gates that fail |"
    yield "|---|---|---|---|"
    for told in broken:
        mark = "" if told.right else "**wrong:** "
        kind = f"{told.kind} (correct)" if told.correct else told.kind
        gates = ", ".join(told.gates) or "–"
        yield f"| {kind} | {told.severity} | {mark}`{told.verdict}` | {gates} |"
    yield ""


def _smallest(judged: Sequence[Judged]) -> Iterable[str]:
    largest = SIZES[-1]
    yield f"### Smallest severity detected in 95 % of subsets of {largest} prompts\n"
    yield "| fault | the verdict | `check_logprobs_close` | slightest tried |"
    yield "|---|---|---|---|"
    for family, group in groupby(judged, key=lambda j: j.family):
        members = list(group)
        mine = _slightest(members, lambda j: j.failed[largest])
        close = _slightest(members, lambda j: j.not_close[largest])
        yield f"| {family} | {mine} | {close} | {members[-1].severity} |"
    yield ""


def _slightest(members: Sequence[Judged], rate: Callable[[Judged], float]) -> str:
    """The last of the family, worst first, before the first that is missed."""
    found = "none"
    for member in members:
        if rate(member) < DETECTED:
            break
        found = member.severity
    return found


def _figures(j: Judged) -> str:
    ratio, top, slope = (j.figures.get(n) for n in ("error_ratio", "top_k_error_ratio", "slope"))
    return f"{_number(ratio, '.2f')} | {_number(top, '.2f')} | {_number(slope, '+.4f')}"


def _listed(keys: object) -> str:
    assert isinstance(keys, list)
    return ", ".join(f"`{key}`" for key in keys)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _passes(held: bool) -> str:
    return "pass" if held else "fail"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
