"""Whether a run ended as it says: its stop, its length, eos ids and limits against its tokens.

A device is asked for ``max_new_tokens`` tokens, or fewer where one of the eos ids ends
the run. A recording that says one thing and holds another is of a broken port, or was
changed; no comparison of its rows can see that where the baseline follows its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from harness.devices.base import Stop
from harness.messages.message import Message, message
from harness.model.settings import GenerationSettings
from harness.recording.format import PromptRecord, Recording, Run

#: What does not hold together.
Fault = Literal[
    "short",  # it stopped for length before the limit
    "long",  # it holds more tokens than the limit
    "ignored",  # it stopped at an eos id, which it was to ignore
    "unfinished",  # it stopped at an eos id, and its last token is another
    "unnamed",  # it stopped at an eos id before the limit, and no eos id is recorded
    "passed",  # it went on behind an eos id
    "broken_off",  # it ended neither at an eos id nor for length
    "misplaced",  # its stop is one of the other kind of replay
    "finite",  # it stopped for a row without a finite logit, and the row has one
    "cut",  # it followed tokens that no whole run chose
]
FAULTS: tuple[Fault, ...] = get_args(Fault)

#: Faults that something else than a broken engine explains, on every device.
_OPEN: frozenset[Fault] = frozenset({"unnamed", "broken_off", "cut"})
_NORMAL: frozenset[Stop] = frozenset({"eos", "length", "nonfinite"})


@dataclass(frozen=True)
class Ending:
    """What does not hold together in one prompt of a recording.

    Attributes:
        tokens: how many the run holds.
        limit: how many were asked for.
        stop: the word that the run ended with, as the server wrote it.
        proven: nothing but a broken engine (or a changed file) explains it. A
            server may have a shorter context or eos ids of its own, and leave
            the last eos id out: there it is not proven.
    """

    prompt: str
    fault: Fault
    tokens: int
    limit: int
    stop: str
    proven: bool


def endings_of(recording: Recording) -> tuple[Ending, ...]:
    """What does not hold together, the first finding of each prompt."""
    found = (_of_prompt(prompt, recording.settings) for prompt in recording.prompts)
    return tuple(ending for ending in found if ending is not None)


def ending_message(alike: Sequence[Ending]) -> Message:
    """What does not hold together in these prompts, all of one fault."""
    first = alike[0]
    return message(
        f"stops.{first.fault}",
        runs=len(alike),
        prompt=first.prompt,
        tokens=first.tokens,
        limit=first.limit,
        stop=first.stop,
    )


def _of_prompt(prompt: PromptRecord, settings: GenerationSettings) -> Ending | None:
    for run in (prompt.free, prompt.forced):
        if run is None:
            continue
        # The context that a replay follows is another recording's, unless it stands alone.
        alone = prompt.free is None
        # What nothing else explains comes first.
        faults = sorted(_faults(run, settings, alone=alone), key=_OPEN.__contains__)
        fault = faults[0] if faults else None
        if fault is not None:
            return Ending(
                prompt=prompt.id,
                fault=fault,
                tokens=len(run.token_ids),
                limit=settings.max_new_tokens,
                stop=run.finish or run.stop,
                proven=fault not in _OPEN and run.rows.whole and not run.text_only,
            )
    return None


def _faults(run: Run, settings: GenerationSettings, *, alone: bool) -> Iterator[Fault]:
    if (run.stop == "forced") != (run.replay != "free"):
        yield "misplaced"
    if run.replay != "free":
        if alone and _is_cut(run, settings):
            yield "cut"
        return
    if run.stop not in _NORMAL:
        yield "broken_off"
    if settings.ignore_eos and run.stop == "eos":
        yield "ignored"
    if run.text_only:
        return
    yield from _of_tokens(run, settings)


def _of_tokens(run: Run, settings: GenerationSettings) -> Iterator[Fault]:
    """Those of a free run whose tokens are known."""
    tokens, limit, stops = run.token_ids, settings.max_new_tokens, settings.stop_token_ids
    if len(tokens) > limit:
        yield "long"
    if any(token in stops for token in tokens[:-1]):
        yield "passed"
    if run.stop == "length" and len(tokens) < limit:
        yield "short"
    if run.stop == "nonfinite" and not (len(tokens) and run.rows.top_ids[-1, 0] < 0):
        yield "finite"
    if run.stop == "eos" and (not tokens or (stops and tokens[-1] not in stops)):
        yield "unfinished"
    if run.stop == "eos" and not stops and len(tokens) < limit:
        yield "unnamed"


def _is_cut(run: Run, settings: GenerationSettings) -> bool:
    """Whether the tokens that a replay followed are not those of a whole run: fewer
    than the limit and no eos id at the end, more than the limit, or an eos id within."""
    tokens, stops = run.token_ids, settings.stop_token_ids
    ended = bool(tokens) and tokens[-1] in stops
    if any(token in stops for token in tokens[:-1]) or len(tokens) > settings.max_new_tokens:
        return True
    return len(tokens) < settings.max_new_tokens and not ended
