"""Outputs that begin with their own prompts, as Transformers' ``generate`` returns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.alignment.pairing import Pairing
from harness.messages.message import Message, message
from harness.recording.plain import PlainEntry

#: A prompt of fewer tokens may well be what a model goes on with.
_TELLING = 4


def without_prompts(
    pairing: Pairing, files: tuple[str | None, str | None]
) -> tuple[Pairing, list[Message]]:
    """The same pairs with prompts cut off that stand in front of outputs, and what is
    to be said of it. One side's prompt ids serve both.

    Args:
        files: names of the two; None for one that is left as it is.
    """
    said: list[Message] = []
    sides: list[tuple[PlainEntry, ...]] = []
    for side, file in enumerate(files):
        entries = tuple(pair[side] for pair in pairing.pairs)
        if file is None:
            sides.append(entries)
            continue
        prompts = [pair[side].prompt_token_ids or pair[1 - side].prompt_token_ids
                   for pair in pairing.pairs]  # fmt: skip
        cut, warning = cut_fronts(entries, prompts, file)
        sides.append(cut)
        said += [] if warning is None else [warning]
    return replace(pairing, pairs=tuple(zip(*sides, strict=True))), said


def cut_fronts(
    entries: Sequence[PlainEntry], prompts: Sequence[Sequence[int] | None], file: str
) -> tuple[tuple[PlainEntry, ...], Message | None]:
    """The entries without prompts in front of their outputs, and the warning.

    Where all outputs begin with their prompts these are cut off. Where only some
    do they stay, since a model may repeat a prompt.

    Args:
        prompts: the prompts' token ids, None where nobody knows them.
    """
    known = [(n, tuple(p)) for n, p in enumerate(prompts) if p and entries[n].token_ids is not None]
    front = [n for n, p in known if _begins(entries[n].token_ids, p)]
    whole = len(front) == len(entries) and sum(len(p) for _, p in known) >= _TELLING
    entries = tuple(entries)
    if whole:
        cut = tuple(replace(e, token_ids=(e.token_ids or ())[len(prompts[n] or ()) :],
                            output=_cut_text(e)) for n, e in enumerate(entries))  # fmt: skip
        return cut, message("warning.plain.front", file=file)
    some = [n for n, p in known if n in front and len(p) >= _TELLING]
    if some:
        return entries, message(
            "warning.plain.some_front", file=file, count=len(some), all=len(entries)
        )
    texts = [e for e in entries if e.output is not None and e.text]
    if len(texts) == len(entries) and all((e.output or "").startswith(e.text or "") for e in texts):
        if all(e.token_ids is None for e in entries):
            return tuple(replace(e, output=_cut_text(e)) for e in entries), message(
                "warning.plain.front", file=file
            )
        if not known:
            return entries, message("warning.plain.text_front", file=file)
    return entries, None


def _begins(output: Sequence[int] | None, prompt: tuple[int, ...]) -> bool:
    return output is not None and tuple(output[: len(prompt)]) == prompt


def _cut_text(entry: PlainEntry) -> str | None:
    if entry.output is None or not entry.text:
        return entry.output
    return entry.output.removeprefix(entry.text)
