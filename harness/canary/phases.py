"""Queries and keys that meet at one distance only.

RoPE turns plane p of a vector by ``frequency[p]`` radians a position. The key is A in
the first planes, the query the same turned back by d positions. Their product at a
distance of D positions is ``A² Σ cos(frequency[p] (D - d))``: largest at D = d.

LongRoPE divides each frequency by a factor. Those of the long table are twice those of the
short one, and uneven: so a head that looks d back under the short table looks 2d back under
the long one, and nowhere exactly under none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.canary.scaling import scaled
from harness.canary.sizes import KEY_STEP, STRETCH, Sizes, Table
from harness.errors import UsageError

#: How much the score at the right distance is above every other, in nats: what is left
#: of another position is exp(-70), which no dtype keeps beside 1.
GAP = 70.0
#: float16 ends at 65,504, and engines multiply before they scale.
_LARGEST = 60_000.0
#: YaRN makes cosines and sines larger by up to this, each engine in its own way.
_YARN_LARGER = 1.25
#: The least gap over the score. bfloat16 keeps eight bits of a score (0.004 of it), and
#: an fp8 cache moves it by about as much.
_LEAST_SHARE = 0.06
_CHUNK = 1 << 14


#: Tensors by their names in a checkpoint.
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Planes:
    """Which planes of a head carry the score.

    Attributes:
        frequencies: radians a position, float64, shape (head_dim / 2,); with LongRoPE those
            of the short table.
        count: the first planes that are used.
        amplitude: of query and key in each.
        share: the gap between the best and the second score, over the best.
    """

    frequencies: NDArray[np.float64]
    count: int
    amplitude: float
    share: float


def planes(sizes: Sizes, layer: int) -> Planes:
    """Those of a layer: as many as leave the gap a safe share of the score: each is one more
    that is seen.

    Raises:
        UsageError: if no number of planes tells neighbours apart within the context.
    """
    half = sizes.head_dim // 2
    frequencies = nominal_frequencies(sizes, layer)
    reach = sizes.window_of(layer) or sizes.context
    second = _next_best(frequencies, reach)
    if sizes.original_context is not None:
        frequencies = frequencies / factors(sizes, "short")
        both = [_next_best(f, sizes.context) for f in (frequencies, frequencies / STRETCH)]
        second = np.maximum(*both)
    gap = np.arange(1, half + 1) - second
    shares = gap / np.arange(1, half + 1)
    root = float(np.sqrt(sizes.score_size))
    largest = GAP * root / np.maximum(shares, 1e-9)
    allowed = _LARGEST / (_YARN_LARGER**2 if sizes.rope_scaling == "yarn" else 1)
    fits = np.flatnonzero((shares >= _LEAST_SHARE) & (largest <= allowed))
    if not len(fits):
        raise UsageError(
            f"canary: {half} RoPE planes of base {sizes.theta_of(layer):g} do not tell "
            f"{reach} positions apart; take a larger head_dim or a shorter context"
        )
    best = int(fits[-1])
    amplitude = float(np.sqrt(GAP * root / gap[best]))
    return Planes(frequencies, best + 1, amplitude, float(shares[best]))


def plain_frequencies(sizes: Sizes, layer: int) -> NDArray[np.float64]:
    """Radians a position without factors, shape (head_dim / 2,)."""
    half = sizes.head_dim // 2
    return np.asarray(sizes.theta_of(layer) ** (-np.arange(half) / half))


def nominal_frequencies(sizes: Sizes, layer: int) -> NDArray[np.float64]:
    """The same, scaled where the canary's RoPE is; without LongRoPE's factors."""
    plain = plain_frequencies(sizes, layer)
    how = sizes.scaling
    return plain if how is None else scaled(plain, sizes.theta_of(layer), how)


def factors(sizes: Sizes, table: Table) -> NDArray[np.float64]:
    """What LongRoPE divides each frequency by, shape (head_dim / 2,): 1, 1.25 and 1.5 in turns
    in the long table, half of it in the short one."""
    long = 1 + np.arange(sizes.head_dim // 2) % 3 / 4
    return long if table == "long" else long / STRETCH


def _next_best(frequencies: NDArray[np.float64], context: int) -> NDArray[np.float64]:
    """The largest sum of cosines at any other distance, for each number of planes."""
    best = np.full(len(frequencies), -np.inf)
    for start in range(1, context + 1, _CHUNK):
        distances = np.arange(start, min(start + _CHUNK, context + 1))
        sums = np.cos(np.outer(distances, frequencies)).cumsum(axis=1)
        best = np.maximum(best, sums.max(axis=0))
    return best


def query(sizes: Sizes, found: Planes, head: int, distance: int) -> NDArray[np.float64]:
    """The query of a head that looks ``distance`` positions back, shape (head_dim,)."""
    return _turned(sizes, found, KEY_STEP * (head // sizes.group) - distance)


def key(sizes: Sizes, found: Planes, kv_head: int) -> NDArray[np.float64]:
    """The key of a KV head, shape (head_dim,); each has a phase of its own, so that
    exchanged keys are seen."""
    return _turned(sizes, found, KEY_STEP * kv_head)


def stored(sizes: Sizes, vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """A query or key as the checkpoint holds it, which has planes side by side where RoPE pairs
    neighbours."""
    if not sizes.interleaved:
        return vector
    return np.stack(np.split(vector, 2), axis=1).ravel()


def _turned(sizes: Sizes, found: Planes, positions: int) -> NDArray[np.float64]:
    vector = np.zeros(sizes.head_dim)
    angles = found.frequencies[: found.count] * positions
    vector[: found.count] = found.amplitude * np.cos(angles)
    half = sizes.head_dim // 2
    vector[half : half + found.count] = found.amplitude * np.sin(angles)
    return vector
