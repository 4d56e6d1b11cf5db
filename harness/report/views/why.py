"""What stands right under a verdict: the first token that fails, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.alignment.outcomes import ALIGNED, FAILING
from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import Alignment
from harness.report.characters import GOES_ON, whole_characters
from harness.report.language import Said, said
from harness.report.text import number, shortened

#: Tokens and characters of the text before the one that fails, and characters of one token.
_BEFORE, _SHOWN, _MOST = 12, 60, 40


@dataclass(frozen=True)
class Token:
    """A token that fails: ``key`` names the message, which takes the other fields."""

    key: str
    id: str
    n: int
    before: str
    candidate: str
    reference: str
    shift: str
    tolerance: str


@dataclass(frozen=True)
class Why:
    """``token`` is the first that fails, None where none does; ``place`` where ``locate``
    found that the error begins; ``next`` what to do, with ``command`` where one does it."""

    token: Token | None
    place: Said | None
    next: Said | None
    command: str | None


def why(alignment: Alignment) -> Why:
    """What a reader of a bad verdict asks first; empty for a good one."""
    verdict = alignment.verdict
    located = alignment.locate
    place = None
    if located is not None:
        where = located.module
        place = said("why.place.none") if where is None else said("why.place", module=where)
    if verdict in ALIGNED:
        return Why(None, place, None, None)
    bad = next(_failing(alignment), None)
    key, command = _next(alignment)
    return Why(
        None if bad is None else _token(alignment, *bad), place, said(f"why.next.{key}"), command
    )


def _failing(alignment: Alignment) -> Iterator[tuple[PromptAlignment, int]]:
    """Every prompt with a failing position, and its first one."""
    for prompt in alignment.prompts:
        first = next((n for n, c in enumerate(prompt.positions.class_) if c in FAILING), None)
        if first is not None:
            yield prompt, first


def _token(alignment: Alignment, prompt: PromptAlignment, n: int) -> Token:
    at = prompt.positions
    before = prompt.context_token_ids[max(0, n - _BEFORE) : n]
    pieces = [alignment.piece(token) for token in before]
    text = prompt.text * (n < _BEFORE) + "".join(
        p for p in whole_characters(pieces, prompt.context_text) if p != GOES_ON
    )
    mine, theirs = (_named(alignment, side[n]) for side in (at.candidate_token, at.reference_token))
    return Token(
        key=f"why.token.{at.class_[n]}",
        id=prompt.id,
        n=n,
        before="…" * (n > _BEFORE or len(text) > _SHOWN) + text[-_SHOWN:].replace("\n", "↵"),
        candidate=mine,
        reference=theirs,
        shift=number(at.shift[n]),
        tolerance=number(at.tolerance[n]),
    )


def _named(alignment: Alignment, token: int) -> str:
    return shortened(alignment.piece(token), _MOST)


def _next(alignment: Alignment) -> tuple[str, str | None]:
    """Key of what to do next, and the command that does it."""
    verdict = alignment.verdict
    if verdict not in ("DRIFT", "DIVERGENT"):
        return verdict, None
    # What is not finite has no direction that could be explained.
    finite = not alignment.classes.get("NONFINITE")
    if alignment.diagnosis is None and finite and _diagnosable(alignment):
        return "diagnose", _diagnose(alignment)
    if alignment.locate is None and alignment.candidate.device != "tokens":
        return "locate", _locate(alignment)
    return "look", None


def _diagnosable(alignment: Alignment) -> bool:
    """A diagnosis asks sketches of whole rows, and the oracle."""
    roles = {arm.role for arm in alignment.baseline}
    return "oracle" in roles and bool(alignment.candidate.file) and alignment.tokens is None


def _diagnose(alignment: Alignment) -> str:
    folder = PurePosixPath(alignment.baseline[0].file).parent.as_posix()
    files = [alignment.candidate.file, folder]
    return shlex.join(["harness", "diagnose", *files, "--model", _model(alignment)])


def _locate(alignment: Alignment) -> str:
    arm = alignment.candidate
    options = ["--device", arm.device, "--model", _model(alignment), "--suite", arm.suite.name]
    return shlex.join(["harness", "locate", *options])


def _model(alignment: Alignment) -> str:
    """The model as the command that made the alignment names it, which may be a path."""
    for line in alignment.reproduce:
        try:
            words = shlex.split(line)
        except ValueError:  # a quotation that never ends
            continue
        for word, after in zip(words, [*words[1:], ""], strict=True):
            if word == "--model":
                return after
            if word.startswith("--model="):
                return word.removeprefix("--model=")
    return alignment.candidate.model.name
