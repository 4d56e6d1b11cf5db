"""What a suite could have told, as it stands in an alignment."""

from __future__ import annotations

from harness.files.strict_model import StrictModel


class Power(StrictModel):
    """The smallest faults that would have been told with 95 %; None where nothing of
    the kind is judged.

    ``uniform`` is an error at every row, ``prompt`` one of a single prompt, ``row``
    one of a single row, all three as times the reference's own; ``shift`` the margin
    shift at a position of median noise, ``token`` the error of one token's logit at
    every position, both in logits; ``scale`` a share of the logits; ``systematic`` a
    share of the reference's mean squared error.
    """

    uniform: float | None
    prompt: float | None
    row: float | None
    shift: float | None
    token: float | None
    scale: float | None
    systematic: float | None
