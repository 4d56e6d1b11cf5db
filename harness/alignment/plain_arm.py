"""What is known of the tool that wrote a plain list: its outputs and, perhaps, its time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.alignment.figures import figures
from harness.alignment.result import Arm, Figures, Performance
from harness.devices.facts import EngineFacts, LoadFigures
from harness.model.facts import ModelFacts
from harness.recording.format import Recording, SuiteFacts
from harness.recording.plain import PlainEntry

_NOT_TOLD = "not told"
_FIGURES = Figures.measured()


def plain_arm(role: str, file: Path) -> Arm:
    """The arm of a plain list, which tells nothing of its model, settings or host."""
    return Arm.model_validate(
        {
            "role": role,
            "name": file.stem if role == "candidate" else role,
            "file": file.as_posix(),
            "device": "tokens",
            "dtype": _NOT_TOLD,
            "replay": "free",
            "created": _NOT_TOLD,
            "model": ModelFacts(
                name=_NOT_TOLD,
                weights=None,
                parameters=None,
                weight_bytes=None,
                config=None,
                tokenizer=None,
                template=None,
                vocab_size=0,
            ),
            "suite": SuiteFacts(name=_NOT_TOLD, digest=""),
            "settings": None,
            "overridden": {},
            "engine": EngineFacts(),
            "environment": {},
            "load": LoadFigures(),
        }
    )


def plain_performance(
    mine: Sequence[PlainEntry],
    candidate: Recording | None,
    theirs: Sequence[PlainEntry],
    reference: Recording | None,
) -> Performance:
    """Tokens per second, where every entry of a list says its seconds."""
    one = plain_figures(mine) if candidate is None else figures(candidate)
    other = plain_figures(theirs) if reference is None else figures(reference)
    ratio = {}
    for name in _FIGURES:
        a, b = getattr(one, name), getattr(other, name)
        ratio[name] = a / b if a is not None and b else None
    return Performance(candidate=one, reference=other, ratio=ratio)


def plain_figures(entries: Sequence[PlainEntry]) -> Figures:
    """Figures of a plain list: output tokens over the requests' time, and no other."""
    seconds = sum(entry.seconds or 0.0 for entry in entries)
    told = seconds > 0 and all(entry.seconds is not None for entry in entries)
    tokens = sum(len(entry.token_ids or ()) for entry in entries)
    nothing: dict[str, float | None] = dict.fromkeys(_FIGURES)
    if told:
        nothing["mean_e2e_s"] = seconds / len(entries)
    if told and tokens:
        nothing["total_tok_s"] = tokens / seconds
    requests = len(entries) if told else 0
    return Figures(**nothing, samples=requests, gaps=0, output_tokens=tokens or None)
