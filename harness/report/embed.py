"""The alignment within its page: what the script reads, and the reader downloads.

It is the JSON file of the alignment, deflated (RFC 1951) and in base64; a
browser inflates it with ``DecompressionStream("deflate-raw")``. Where all
prompts fit it is the whole file, byte for byte; else it holds the worst of them
and says so in its warnings.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import dataclass

from harness.alignment.result import alignment_bytes
from harness.messages.message import message
from harness.messages.statement import remark
from harness.report.text import shortened, visible
from harness.report.views.alignment import AlignmentView
from harness.report.views.prompt import MOST_PIECE


@dataclass(frozen=True)
class Embedded:
    """The embedded file and what the page needs beside it.

    Attributes:
        data: base64 of deflated JSON. Builds of zlib differ in its bytes,
            never in what it inflates to.
        odd: JSON of the token texts that the page must escape, by token id.
        name: of the download.
        kept: prompts in ``data``.
        prompts: prompts of the alignment.
    """

    data: str
    odd: str
    name: str
    kept: int
    prompts: int


def embed(view: AlignmentView) -> Embedded:
    """The alignment of a view, with the prompts that the page shows in detail."""
    source = view.source
    if len(view.embedded) < len(source.prompts):
        note = remark(message("warning.part", kept=len(view.embedded), all=len(source.prompts)))
        kept = tuple(source.prompts[n] for n in view.embedded)
        source = source.model_copy(update={"prompts": kept}).with_remarks(note)
    data = base64.b64encode(_deflated(alignment_bytes(source))).decode("ascii")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", source.candidate.name)[:60].strip(".-")
    return Embedded(
        data=data,
        odd=_odd(source.pieces),
        name=f"{plain or 'candidate'}.alignment.json",
        kept=len(view.embedded),
        prompts=len(view.source.prompts),
    )


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def _odd(pieces: dict[str, str]) -> str:
    """The texts that a page must spell out, as JSON that no markup can end."""
    found = {}
    for token_id, text in pieces.items():
        shown = visible(shortened(text, MOST_PIECE))
        if shown != text:
            found[token_id] = shown
    return json.dumps(found, separators=(",", ":")).replace("<", "\\u003c")
