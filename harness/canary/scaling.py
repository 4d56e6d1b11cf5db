"""RoPE's frequencies for longer contexts, as Llama 3 and YaRN scale them.

Both leave the high frequencies as they are, divide the low ones by a factor, and go over from
the one to the other between. What is high and what is low depends on how many turns a plane
makes within the original context.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log, pi
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RopeScaling = Literal["llama3", "yarn"]
_Frequencies = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """How frequencies are scaled.

    Attributes:
        factor: what the low frequencies are divided by.
        original: positions of the original context.
        few, many: turns within it, at which a frequency is low, and high.
    """

    kind: RopeScaling
    factor: float
    original: float
    few: float
    many: float

    def entries(self) -> dict[str, str | float]:
        """Its entries in config.json."""
        names = {
            "llama3": ("low_freq_factor", "high_freq_factor"), "yarn": ("beta_slow", "beta_fast"),
        }[self.kind]  # fmt: skip
        return {
            "rope_type": self.kind,
            "factor": self.factor,
            names[0]: self.few,
            names[1]: self.many,
            "original_max_position_embeddings": int(self.original),
        }


def scaled(plain: _Frequencies, base: float, how: Scaling) -> _Frequencies:
    """The frequencies after scaling, radians a position, float64, shape of ``plain``.

    Args:
        plain: the frequencies of ``base``.
    """
    kept = _kept_by_turns(plain, how) if how.kind == "llama3" else _kept_by_plane(plain, base, how)
    return np.asarray(kept * plain + (1 - kept) * plain / how.factor)


def _kept_by_turns(plain: _Frequencies, how: Scaling) -> _Frequencies:
    """Llama 3: in between by the number of turns."""
    turns = how.original * plain / (2 * pi)
    return np.clip((turns - how.few) / max(how.many - how.few, 1e-9), 0, 1)


def _kept_by_plane(plain: _Frequencies, base: float, how: Scaling) -> _Frequencies:
    """YaRN: in between by the number of the plane."""
    size = 2 * len(plain)
    low, high = (
        size * log(how.original / (turns * 2 * pi)) / (2 * log(base))
        for turns in (how.many, how.few)
    )
    first, last = max(floor(low), 0), min(ceil(high), size - 1)
    step = 0.001 if first == last else last - first
    return 1 - np.clip((np.arange(len(plain)) - first) / step, 0, 1)
