"""An alignment as a file of one row per judged position, for spreadsheets and pandas."""

from __future__ import annotations

import io
from pathlib import Path

from harness.alignment.frame import COLUMNS
from harness.alignment.result import Alignment
from harness.errors import MissingDependency, UsageError
from harness.files.atomic import write_bytes

#: Spreadsheets run a cell that begins like this, and pieces are a model's output.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def check_table_path(path: Path) -> None:
    """Check that a table can be written there, before hours of other work.

    Raises:
        UsageError: if the suffix is neither .csv nor .parquet.
        MissingDependency: if .parquet is asked for without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise UsageError(f"{path}: a table must be .csv or .parquet")
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
    frame = alignment.to_frame()
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
    write_bytes(path, data)


def _harmless(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
