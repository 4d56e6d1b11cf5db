"""An alignment as a table: one row per judged position, for pandas and spreadsheets."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import jsonfile
from harness.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from harness.alignment.result import Alignment, PromptAlignment

#: Column by column: name, pandas dtype, meaning. docs/table.md is held against it.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("device", "string", "the candidate's device"),
    ("prompt", "string", "id of the prompt in its suite"),
    ("position", "Int64", "index of the generated token, from 0"),
    ("class", "string", "point-guard class; missing where it cannot be told"),
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

#: Spreadsheets run a cell that begins like this, and pieces are a model's output.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_frame(alignment: Alignment) -> pd.DataFrame:
    """One row per judged position, in the order of the suite.

    Returns:
        The columns of ``COLUMNS`` with nullable dtypes: what is not known is
        missing, never NaN or 0.
    """
    import pandas as pd

    rows = [_rows(alignment, prompt) for prompt in alignment.prompts]
    return pd.DataFrame(
        {
            name: pd.array([value for part in rows for value in part[name]], dtype=dtype)
            for name, dtype, _ in COLUMNS
        }
    )


def _rows(alignment: Alignment, prompt: PromptAlignment) -> dict[str, list[Any]]:
    at = prompt.positions
    n = len(at.class_)
    pairs = list(zip(at.reference_token, at.candidate_token, strict=True))
    return {
        "device": [alignment.candidate.device] * n,
        "prompt": [prompt.id] * n,
        "position": list(range(n)),
        "class": list(at.class_),
        "reference_token": at.reference_token,
        "reference_piece": [alignment.piece(i) for i in at.reference_token],
        "candidate_token": at.candidate_token,
        "candidate_piece": [alignment.piece(i) for i in at.candidate_token],
        "flip": [a != b for a, b in pairs],
        "margin": at.margin,
        "shift": at.shift,
        "tolerance": at.tolerance,
        "error": at.error,
        "reference_error": at.reference_error,
        "bit_equal": at.bit_equal,
    }


def check_table_path(path: Path) -> None:
    """See that a table can be written there, before hours of other work.

    Raises:
        UsageError: if the suffix is neither .csv nor .parquet.
        MissingDependency: if .parquet is asked for without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise UsageError(f"{path}: a table is .csv or .parquet; end its name in one of them")
    if suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingDependency(
                "pyarrow",
                f"the table {path}",
                "pip install 'accelerator-parity-harness[parquet]', or name a .csv",
            ) from error


def write_table(alignment: Alignment, path: Path) -> None:
    """Write the table whole or not at all; the format is that of the suffix.

    Floats are written so that they come back exactly. In .csv, texts that a
    spreadsheet would run as a formula begin with an apostrophe, and lone
    surrogates are spelled as ``\\uXXXX``.

    Raises:
        UsageError, MissingDependency: as of ``check_table_path``.
        HarnessError: if the file cannot be written.
    """
    check_table_path(path)
    frame = to_frame(alignment)
    texts = [name for name, dtype, _ in COLUMNS if dtype == "string"]
    if path.suffix.lower() == ".csv":
        for name in texts:
            frame[name] = frame[name].map(_harmless, na_action="ignore")
        data = frame.to_csv(index=False, lineterminator="\n").encode("utf-8", "backslashreplace")
    else:
        for name in texts:
            frame[name] = frame[name].map(_encodable, na_action="ignore")
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        data = buffer.getvalue()
    jsonfile.write_bytes(path, data)


def _harmless(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
