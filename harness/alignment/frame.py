"""Judged positions as a data frame, one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.alignment.prompt_result import PromptAlignment

if TYPE_CHECKING:
    import pandas as pd

#: Column by column: name, pandas dtype, meaning. docs/formats.md is held against it.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("device", "string", "the candidate's device"),
    ("prompt", "string", "id of the prompt in its suite"),
    ("position", "Int64", "index of the generated token, from 0"),
    ("class", "string", "point-guard class; missing where it is not known"),
    ("reference_token", "Int64", "id that the reference chose"),
    ("reference_piece", "string", "its text"),
    ("candidate_token", "Int64", "id that the candidate chose after the same context"),
    ("candidate_piece", "string", "its text"),
    ("flip", "boolean", "whether the two ids differ"),
    ("margin", "Float64", "the reference's lead of its token over the rival, logits"),
    ("shift", "Float64", "how the candidate changed that lead, logits"),
    ("tolerance", "Float64", "the largest shift that is noise, logits"),
    ("error", "Float64", "the candidate's rms logit error against the oracle"),
    ("reference_error", "Float64", "the reference's own, beside it"),
    ("bit_equal", "boolean", "whether all logits of the row equal the reference's bit for bit"),
)


def frame_of(
    device: str, prompts: Sequence[PromptAlignment], piece: Callable[[int], str]
) -> pd.DataFrame:
    """One row per judged position, in the order of the suite.

    Args:
        device: the candidate's, for its column.
        piece: the text of a token id.

    Returns:
        The columns of ``COLUMNS`` with nullable dtypes: a figure that is not known is
        missing, never NaN or 0.
    """
    import pandas as pd

    rows = [_rows(device, prompt, piece) for prompt in prompts]
    return pd.DataFrame(
        {
            name: pd.array([value for part in rows for value in part[name]], dtype=dtype)
            for name, dtype, _ in COLUMNS
        }
    )


def _rows(
    device: str, prompt: PromptAlignment, piece: Callable[[int], str]
) -> dict[str, list[Any]]:
    at = prompt.positions
    n = len(at.class_)
    pairs = list(zip(at.reference_token, at.candidate_token, strict=True))
    return {
        "device": [device] * n,
        "prompt": [prompt.id] * n,
        "position": list(range(n)),
        "class": list(at.class_),
        "reference_token": at.reference_token,
        "reference_piece": [piece(i) for i in at.reference_token],
        "candidate_token": at.candidate_token,
        "candidate_piece": [piece(i) for i in at.candidate_token],
        "flip": [a != b for a, b in pairs],
        "margin": at.margin,
        "shift": at.shift,
        "tolerance": at.tolerance,
        "error": at.error,
        "reference_error": at.reference_error,
        "bit_equal": at.bit_equal,
    }
