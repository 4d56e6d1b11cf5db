"""Traces: a sketch of each module's output at each position.

Places are named as in Transformers' Llama on every engine, so that the traces of
two engines can be compared::

    model.embed_tokens
    model.layers.N.input_layernorm
    model.layers.N.self_attn.qkv_proj      q, k and v side by side, before RoPE
    model.layers.N.self_attn.heads         input of o_proj
    model.layers.N.self_attn
    model.layers.N.post_attention_layernorm
    model.layers.N.mlp.gate_up_proj        gate and up side by side
    model.layers.N.mlp.act                 input of down_proj
    model.layers.N.mlp
    model.layers.N                         the hidden state after the layer
    model.norm
    lm_head

No torch: the engines' workers and a reviewer's laptop compute the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.statistics.rows import RowStatistics, concatenate, hashes, row_statistics

EMBEDDING, NORM, HEAD = "model.embed_tokens", "model.norm", "lm_head"
#: Places within a decoder layer, in the order of execution; empty for the layer itself.
IN_LAYER = (
    "input_layernorm",
    "self_attn.qkv_proj",
    "self_attn.heads",
    "self_attn",
    "post_attention_layernorm",
    "mlp.gate_up_proj",
    "mlp.act",
    "mlp",
    "",
)
_PREFIX = "model.layers."
#: Positions whose sketches are computed at a time.
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Trace:
    """One pass of a model over ``token_ids``, seen from inside.

    Attributes:
        sketches: for each place but the head, float32 (positions, 64): the
            count-sketch (see ``rows``) of the output as it is, not centred. NaN
            in a row that is not finite.
        digests: for each of those, BLAKE2b-128 of the whole output as
            little-endian float32, -0 as +0.
        head: statistics of the logits of every position.
    """

    prompt_id: str
    token_ids: tuple[int, ...]
    sketches: Mapping[str, NDArray[np.float32]]
    digests: Mapping[str, bytes]
    head: RowStatistics


def layer_place(layer: int, within: str) -> str:
    """The name of a place within a decoder layer; ``within`` is one of IN_LAYER."""
    return f"{_PREFIX}{layer}.{within}" if within else f"{_PREFIX}{layer}"


def layer_of(place: str) -> int | None:
    """The decoder layer that a place belongs to; None outside of them."""
    number = place.removeprefix(_PREFIX).partition(".")[0] if place.startswith(_PREFIX) else ""
    return int(number) if number.isdecimal() else None


def role_of(place: str) -> str:
    """A place's name within its layer; the whole name outside the layers."""
    layer = layer_of(place)
    return place if layer is None else place.removeprefix(f"{_PREFIX}{layer}")


def order_of(place: str) -> tuple[int, int]:
    """A key that sorts places in the order of execution."""
    layer = layer_of(place)
    if layer is None:
        return {EMBEDDING: (-1, 0), NORM: (10**9, 0), HEAD: (10**9, 1)}[place]
    within = role_of(place).removeprefix(".")
    return layer, IN_LAYER.index(within)


def sketch_rows(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Count-sketch of each row as it is: float32 (n, width) to float32 (n, 64).

    The hash is that of the row statistics. A row that is not finite gives NaN.
    """
    signs = _sign_matrix(block.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        parts = [
            (block[i : i + _CHUNK].astype(np.float64) @ signs).astype(np.float32)
            for i in range(0, len(block), _CHUNK)
        ]
    sketch = np.concatenate(parts)
    sketch[~np.isfinite(sketch).all(axis=1)] = np.nan
    return sketch


def digest_of(block: NDArray[np.float32]) -> bytes:
    """BLAKE2b-128 of a block as little-endian float32, -0 written as +0."""
    plain = np.ascontiguousarray(block + np.float32(0.0)).astype("<f4", copy=False)
    return hashlib.blake2b(plain.data, digest_size=16).digest()


@lru_cache(maxsize=8)
def _sign_matrix(width: int) -> NDArray[np.float64]:
    bucket, sign = hashes(width)
    matrix = np.zeros((width, 64))
    matrix[np.arange(width), bucket] = sign
    matrix.setflags(write=False)
    return matrix


def head_statistics(rows: NDArray[np.float32]) -> RowStatistics:
    """Statistics of the logits of every position, shape (positions, vocabulary)."""
    return concatenate([row_statistics(rows[i : i + 32]) for i in range(0, len(rows), 32)])


def write_trace(
    sketches: Mapping[str, NDArray[np.float32]],
    digests: Mapping[str, bytes],
    head: RowStatistics | None,
    path: Path,
) -> None:
    """Write a trace, or what one stage of a pipeline saw of it, for the process that asked.

    Args:
        sketches, digests: as in :class:`Trace`.
        head: None in a stage that has no logits.
    """
    arrays: dict[str, Any] = {f"sketch/{place}": sketch for place, sketch in sketches.items()}
    arrays |= {f"digest/{p}": np.frombuffer(d, np.uint8) for p, d in digests.items()}
    known = {} if head is None else vars(head)
    arrays |= {f"head/{name}": array for name, array in known.items() if array is not None}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def read_trace(paths: Sequence[Path], prompt_id: str, token_ids: tuple[int, ...]) -> Trace:
    """Read a trace from the files that ``write_trace`` wrote, one for each stage of the model."""
    named: dict[str, Any] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as found:
            named |= {key: found[key] for key in found.files}
    return Trace(
        prompt_id=prompt_id,
        token_ids=token_ids,
        sketches=_below(named, "sketch/"),
        digests={place: d.tobytes() for place, d in _below(named, "digest/").items()},
        head=RowStatistics(**_below(named, "head/")),
    )


def _below(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): a for key, a in named.items() if key.startswith(prefix)}
