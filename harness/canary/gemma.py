"""What Gemma has of its own: a head that is the embedding, and norms after attention and MLP.

**The head.** A symbol's vector holds its bits three times: as what is put in (``own``), as
``mirror``, and where the last MLP writes. The last norm has opposite weights for the first two,
so that they cancel in every logit, and a large one for the third. The last MLP takes back what
was put in there, and writes its own bits. So the third part counts bits that agree.

**Norms after attention and MLP.** Their squares must add up to the hidden size whatever the
tokens are. Where the last MLP writes ``new - old`` (0, 2 or -2), it writes ``new + old`` into the
room beside it: 4 together. What is missing is written as constants into dimensions whose weight
in that norm is 0.
"""

from __future__ import annotations

from math import isqrt, sqrt

import numpy as np
from numpy.typing import NDArray

from harness.canary.layout import READOUT, Layout, codes, probes, symbol_ids
from harness.canary.sizes import Sizes

_Matrix = NDArray[np.float32]
#: The largest whole number that bfloat16 and all below it have, as a constant of a dimension.
_MOST_FILLED = 255


def tied_embedding(sizes: Sizes, places: Layout, table: _Matrix, last: _Matrix) -> _Matrix:
    """The embedding that is the head too, float32 (vocabulary, hidden), not yet scaled.

    Args:
        table: what is put in for each id where the head has its own weights.
        last: the weights of the last norm, of :func:`last_norm`.
    """
    result, bits = np.array(table), sizes.bits
    own = table[:, places.own]
    result[:, places.mirror] = own
    result[:, places.mlp[-1][:bits]] = 0
    result[:, places.mlp_room[-1][:bits]] = -own
    result[np.ix_(symbol_ids(sizes), places.mlp[-1][:bits])] = codes(sizes)
    root = sqrt(sizes.hidden)
    for probe in probes(sizes):
        where = {"own": (places.own,), "attention": places.attention, "mlp": places.mlp}
        if probe.part == "norm":
            place, value = int(places.twos[0]), 2.0
        else:
            place, value = int(where[probe.part][max(probe.layer, 0)][probe.index]), 1.0
        result[probe.token_id, place] += READOUT * root / (value * last[place])
    return result


def last_norm(sizes: Sizes, places: Layout, weights: _Matrix) -> _Matrix:
    """The weights of the last norm, float32 (hidden,): 0 for what no logit may read.

    Args:
        weights: those of a head of its own.
    """
    result = np.zeros(sizes.hidden, np.float32)
    for part in (*places.attention, *places.mlp):
        result[part] = weights[part]
    result[places.own], result[places.mirror] = 1, -1
    result[places.twos[:2]] = 1, -1
    result[places.mlp[-1][: sizes.bits]] = READOUT * sqrt(sizes.hidden)
    return result


def post_norm(
    sizes: Sizes, matrix: _Matrix, constant: int, squares: _Matrix, weights: _Matrix
) -> tuple[_Matrix, _Matrix]:
    """A projection whose outputs have a mean square of 1, and the norm that undoes its sizes.

    Args:
        matrix: the projection, shape (hidden, inputs).
        constant: the input that is always 1.
        squares: the mean square of each output, shape (hidden,); of outputs whose squares vary,
            two together are constant, and both have the same weight.
        weights: 1 or 2 for each output, by which it is made smaller and the norm larger.
    """
    size = 1.0
    while (2 * size) ** 2 * squares.sum() <= sizes.hidden:
        size *= 2
    written = squares > 0
    result = matrix * (size / weights)[:, None]
    norm = np.where(written, weights / size, 0).astype(np.float32)
    # Squares of halves of the size, which are whole numbers.
    missing = round(4 * sizes.hidden / size**2 - float((squares * (2 / weights) ** 2).sum()))
    for place in np.flatnonzero(~written):
        filled = min(isqrt(missing), _MOST_FILLED)
        result[place, constant] = filled * size / 2
        missing -= filled**2
    assert missing == 0
    return result.astype(np.float32), norm


def output_squares(sizes: Sizes, places: Layout, layer: int, part: str) -> _Matrix:
    """The mean square of what attention or MLP write into each dimension, float32 (hidden,)."""
    result = np.zeros(sizes.hidden, np.float32)
    if part == "attention":
        result[places.attention[layer]] = result[places.attention_room[layer]] = 1
        return result
    result[places.mlp[layer]] = result[places.mlp_room[layer]] = 1
    if layer == sizes.layers - 1:  # new - old and new + old
        result[places.mlp[layer][: sizes.bits]] = result[places.mlp_room[layer][: sizes.bits]] = 2
    return result
