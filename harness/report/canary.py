"""The outcome of a canary: terminal lines and a page with a picture of its probes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from harness.canary.result import (
    Canary,
    CanaryProbe,
    CanarySoak,
    CanaryStage,
    save_canary,
)
from harness.errors import UsageError, printable
from harness.files.atomic import write_bytes
from harness.messages.statement import told
from harness.report.html import page
from harness.report.language import Language, say


def check_canary_report(path: Path) -> None:
    """See that an outcome can be written in this format.

    Raises:
        UsageError: if the suffix is neither .html nor .json.
    """
    if path.suffix.lower() not in {".html", ".json"}:
        raise UsageError(f"{path}: a canary's report is .html or .json; end its name in one")


def write_canary(canary: Canary, path: Path, language: Language = "en") -> None:
    """Write the page, or the JSON.

    Raises:
        UsageError: for another suffix than .html and .json.
        HarnessError: if the file cannot be written.
    """
    check_canary_report(path)
    if path.suffix.lower() == ".json":
        save_canary(canary, path)
        return
    write_bytes(path, to_html(canary, language).encode("utf-8"))


def to_html(canary: Canary, language: Language = "en") -> str:
    """One self-contained page of both languages, which opens in the given one."""
    return page("canary.html.j2", language, partial(_values, canary))


def _values(canary: Canary, language: Language) -> dict[str, Any]:
    """What the template shows, in one language."""
    places = [_places(f.stage, f.also, language) for f in canary.findings]
    told_of = [told(f, language) for f in canary.findings]
    return {
        "canary": canary,
        "sentence": told(canary, language),
        "findings": list(zip(told_of, places, strict=True)),
        "stages": [(stage, _stage_name(stage, language)) for stage in canary.stages],
        "remarks": list(_remarks(canary, language)),
        "lines": list(_lines(canary, language)),
        "sizes": canary.sizes.model_dump().items(),
    }


def canary_lines(canary: Canary, language: Language = "en") -> Iterator[str]:
    """The outcome in a few lines, for a terminal: one for each finding."""
    head = f"{canary.outcome}: {canary.device} {canary.dtype}: {told(canary, language)}"
    yield f"{head} ({canary.seconds:.1f} s)"
    for finding in canary.findings:
        places = _places(finding.stage, finding.also, language)
        yield f"  {printable(told(finding, language))} ({places})"
    for stage in canary.stages:
        yield f"  {_stage_line(stage, language)}"
    for line in _remarks(canary, language):
        yield f"  {line}"


def _stage_name(stage: CanaryStage, language: Language) -> str:
    stress = _stress(stage, language)
    name = say(language, f"canary.stage.{stage.name}")
    return f"{name} ({', '.join(stress)})" if stress else name


def _stage_line(stage: CanaryStage, language: Language) -> str:
    t = partial(say, language)
    figures = [f"{t('canary.longest')} {stage.longest}"]
    if stage.rows:
        figures.append(f"{t('canary.exact_rows')} {stage.exact}/{stage.rows}")
    if stage.tokens:
        figures.append(f"{t('canary.right_tokens')} {stage.right}/{stage.tokens}")
    figures += _stress(stage, language)
    return f"{t(f'canary.stage.{stage.name}')}: {', '.join(figures)}, {stage.seconds:.1f} s"


def _stress(stage: CanaryStage, language: Language) -> list[str]:
    """What a stage did with the engine, beside asking it."""
    found = []
    if stage.table is not None:
        found.append(say(language, f"canary.table.{stage.table}"))
    if stage.dropped:
        found.append(say(language, "canary.dropped", count=stage.dropped))
    if stage.preemptions:
        found.append(say(language, "canary.preemptions", count=stage.preemptions))
    return found


def _remarks(canary: Canary, language: Language) -> Iterator[str]:
    """What is said below the stages: whether a cache ran full, and what a soak gave."""
    if any(s.name == "aborted" for s in canary.stages):
        counts = [s.preemptions for s in canary.stages]
        if all(count is None for count in counts):
            yield say(language, "canary.preemptions.uncounted", device=canary.device)
        elif not any(counts):
            yield say(language, "canary.preemptions.none")
    if canary.soak is not None:
        yield _soak_line(canary.soak, language)


def _soak_line(soak: CanarySoak, language: Language) -> str:
    if soak.first_wrong is None:
        return say(language, "canary.soak.right", rounds=soak.rounds, seconds=soak.seconds)
    return say(
        language, "canary.soak.wrong", first=soak.first_wrong, after=soak.first_wrong_s,
        wrong=soak.wrong_rounds, rounds=soak.rounds,
    )  # fmt: skip


def _places(stage: str, also: tuple[str, ...], language: Language) -> str:
    first = say(language, "canary.first_in", stage=say(language, f"canary.stage.{stage}"))
    if not also:
        return first
    names = tuple(say(language, f"canary.stage.{name}") for name in also)
    return f"{first}; {say(language, 'canary.also', stages=names)}"


@dataclass(frozen=True)
class Square:
    """One probe in the picture."""

    label: str
    right: bool
    text: str


def _lines(canary: Canary, language: Language) -> Iterator[tuple[str, list[Square]]]:
    """The picture, line by line: a name and the squares of its probes."""
    rows = sum(s.rows for s in canary.stages)
    if not rows:
        return
    columns = zip(*(s.wrong for s in canary.stages if s.wrong), strict=True)
    wrong = [sum(column) for column in columns]
    pairs = list(zip(canary.probes, wrong, strict=True))
    for (part, layer), group in groupby(pairs, key=lambda pair: (pair[0].part, pair[0].layer)):
        key = {"own": "input"}.get(part, part)
        name = say(language, f"canary.line.{key}", layer=layer)
        yield name, [_square(probe, count, rows, language) for probe, count in group]


def _square(probe: CanaryProbe, wrong: int, rows: int, language: Language) -> Square:
    key = "canary.probe.wrong" if wrong else "canary.probe.right"
    text = str(probe.distance) if probe.part == "attention" else str(probe.index)
    return Square(say(language, key, name=probe.name, wrong=wrong, rows=rows), not wrong, text)
