"""What can be checked of a checkpoint whose family is not known: what needs no family."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.checkpoint.family import Fields
from harness.checkpoint.findings import CheckpointIssue, Field
from harness.checkpoint.layout import Shapes

#: The usual ends of the names of embeddings and heads.
_EMBEDDINGS = (
    *("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight"),
    *("tok_embeddings.weight", "embeddings.weight", "word_embedding.weight"),
)
_HEADS = ("lm_head.weight", "embed_out.weight", "output_layer.weight", "output.weight")
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
#: Rows that a class may have beyond vocab_size.
_PADDING = 256
_ROWS = ("vocab_size", "padded_vocab_size")
#: Stacks that are not the language model's.
_BESIDE = re.compile(
    r"vis(ion|ual)|image|img|audio|speech|mtp|nextn|talker|code2wav|tower|project|connector|"
    r"resampler|qformer|sam_|clip|siglip|encoder|expert|adapter|projector|depth|predict"
)
_NUMBERED = re.compile(r"([^\d]*?)\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Plain:
    """The parts of a language model that every architecture has.

    Attributes:
        stack: the key before the layers' numbers; "" where it cannot be told.
        numbers: of the layers that are there.
        embedding, head: their keys, or "".
        rows: of the embeddings; None without.
    """

    stack: str
    numbers: frozenset[int]
    embedding: str
    head: str
    rows: int | None


def plain_parts(shapes: Shapes) -> Plain:
    """Find the longest stack, the embeddings and the head by their usual names."""
    stacks: dict[str, dict[int, int]] = {}
    for name in shapes:
        match = _NUMBERED.fullmatch(name)
        if match and len(match[2]) < 6 and not _BESIDE.search(match[1]):
            own = stacks.setdefault(match[1], {})
            own[int(match[2])] = own.get(int(match[2]), 0) + 1
    stack = max(stacks, key=lambda s: sum(stacks[s].values()), default="")
    embedding = _one(shapes, _EMBEDDINGS)
    shape = shapes.get(embedding)
    return Plain(
        stack,
        frozenset(stacks.get(stack, ())),
        embedding,
        _one(shapes, _HEADS),
        shape[0] if shape is not None and len(shape) == 2 and shape[0] else None,
    )


def may_be_head(parts: Plain, shapes: Shapes) -> bool:
    """Whether a tensor under an unusual name has the rows of the embeddings, or their columns."""
    return any(
        shape is not None and len(shape) == 2 and parts.rows in shape and name != parts.embedding
        for name, shape in shapes.items()
    )


def _one(shapes: Shapes, ends: tuple[str, ...]) -> str:
    """The key with one of these ends, the shortest; "" without, or in an encoder."""
    found = [
        name
        for name in shapes
        if any(name == end or name.endswith("." + end) for end in ends)
        and not _BESIDE.search(name)
        and not any(part.isdecimal() for part in name.split("."))
    ]
    return min(found, key=len, default="")


def compare_plain(parts: Plain, fields: Fields) -> Iterator[Field]:
    """The number of layers and the rows of the embeddings beside config.json."""
    values = fields.values
    counts = {key: values[key] for key in _COUNTS if type(values.get(key)) is int}
    if counts and parts.numbers and not _is_shared(values):
        name, stated = next(iter(counts.items()))
        there = max(parts.numbers) + 1
        extra = [values.get(k) for k in ("num_nextn_predict_layers", "num_mtp_layers")]
        # A class may count its stack under another name, as num_blocks.
        others = [v for k, v in values.items() if re.search(r"layer|block|depth", k)]
        same = there in (stated, *(stated + e for e in extra if type(e) is int), *others)
        yield Field(name, stated, stated if same else there, "equal" if same else "wrong")
    rows = {key: values[key] for key in _ROWS if type(values.get(key)) is int}
    if rows and parts.rows is not None:
        name, stated = next(iter(rows.items()))
        others = [v for k, v in values.items() if "vocab" in k]
        same = parts.rows in (*rows.values(), *others)
        # Some classes have rows of their own behind the vocabulary, or round it up.
        padded = stated < parts.rows <= stated + _PADDING
        note = "rows beyond the vocabulary" if padded and not same else ""
        yield Field(name, stated, parts.rows, "equal" if same or padded else "wrong", note)


def _is_shared(values: Mapping[str, Any]) -> bool:
    """Whether layers share weights, so that the tensors' numbers do not count them."""
    groups = ("num_hidden_groups", "num_inner_groups", "num_repeats", "num_loops")
    return any(type(values.get(key)) is int for key in groups)


def gaps(parts: Plain) -> Iterator[CheckpointIssue]:
    """Layers that are missing between others."""
    if not parts.numbers:
        return
    last = max(parts.numbers)
    missing = [n for n in range(min(last, len(parts.numbers) + 64)) if n not in parts.numbers]
    if missing:
        yield CheckpointIssue(
            "error",
            f"layer {missing[0]} of {parts.stack} is missing, layer {last} is there"
            + (f"; so are {len(missing) - 1} more" if missing[1:] else ""),
            "download the checkpoint again",
            "shapes",
        )
