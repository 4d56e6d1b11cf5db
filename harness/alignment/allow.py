"""What may differ between a candidate and its baseline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Allow:
    """Differences that a comparison shows and does not refuse.

    Attributes:
        weights: checkpoints may differ in weights, config and quantizer (quantization).
        dtype: declared dtypes may differ.
    """

    weights: bool = False
    dtype: bool = False

    def options(self) -> list[str]:
        """As options of the command and of pytest."""
        return ["--allow-weights"] * self.weights + ["--allow-dtype"] * self.dtype


#: Nothing may differ.
STRICT = Allow()
