"""What the page of one recording shows: texts, times and totals, and no judgement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from harness.alignment.figures import figures
from harness.recording.format import PromptRecord, Recording
from harness.report.language import Language, say
from harness.report.text import NONE, number, seconds, size, visible
from harness.report.views.environment import moment

#: Prompts that a page shows: more would make it slow to open.
MOST_PROMPTS = 1000


@dataclass(frozen=True)
class PromptLine:
    """One prompt: what was asked, what came, and how long it took."""

    id: str
    text: str
    output: str
    tokens: str
    stop: str
    seconds: str
    rate: str


@dataclass(frozen=True)
class RecordingView:
    """A recording, ready for a template. ``left_out`` counts prompts that are not shown."""

    title: str
    made: str
    figures: tuple[tuple[str, str, str], ...]
    totals: tuple[tuple[str, str], ...]
    prompts: tuple[PromptLine, ...]
    left_out: int
    where: tuple[tuple[str, str], ...]


def recording_view(recording: Recording, language: Language) -> RecordingView:
    """Every table of a recording, in one language."""
    lines = [_line(prompt, language) for prompt in recording.prompts[:MOST_PROMPTS]]
    facts: Mapping[str, object] = {
        **recording.engine.model_dump(exclude_none=True),
        **recording.environment,
    }
    totals = tuple(_totals(recording, language))
    name = f"{recording.device}, {recording.model.name}, {recording.suite.name}, {recording.dtype}"
    return RecordingView(
        title=name,
        made=moment(recording.created),
        figures=tuple(_figures(totals, language)),
        totals=totals,
        prompts=tuple(lines),
        left_out=len(recording.prompts) - len(lines),
        where=tuple((visible(str(key)), visible(str(value))) for key, value in facts.items()),
    )


def _figures(
    totals: Iterable[tuple[str, str]], language: Language
) -> Iterator[tuple[str, str, str]]:
    """The totals that a reader looks for first: name, value, what it is of."""
    known = dict(totals)
    for key in ("prompts", "tok_s", "e2e_s", "load_s"):
        name = say(language, f"recording.total.{key}")
        if name in known:
            yield name, known[name], ""


def _line(prompt: PromptRecord, language: Language) -> PromptLine:
    run = prompt.run
    took = run.timings.e2e_s
    timed = run.replay != "forced-prefill"
    return PromptLine(
        id=prompt.id,
        text=prompt.text,
        output=run.text,
        tokens=number(len(run.token_ids)),
        stop=run.stop,
        seconds=seconds(took) if timed else say(language, "recording.prefill"),
        rate=number(len(run.token_ids) / took) if timed and took > 0 else NONE,
    )


def _totals(recording: Recording, language: Language) -> Iterator[tuple[str, str]]:
    """The figures that are known, by name."""
    found = figures(recording)
    runs = [prompt.run for prompt in recording.prompts]
    times = [run.timings.e2e_s for run in runs if run.replay != "forced-prefill"]
    load = recording.load
    shown: dict[str, str] = {
        "prompts": number(len(runs)),
        "tokens": number(sum(len(run.token_ids) for run in runs)),
        "tok_s": number(found.total_tok_s),
        "decode_tok_s": number(found.decode_tok_s),
        "ttft_s": seconds(found.ttft_s),
        "e2e_s": seconds(fmean(times) if times else None),
        "load_s": seconds(load.load_s),
        "weights_bytes": size(load.weights_bytes),
        "peak_device_bytes": size(load.peak_device_bytes),
        "peak_rss_bytes": size(load.peak_rss_bytes),
    }
    for key, value in shown.items():
        if value != NONE:
            yield say(language, f"recording.total.{key}"), value
