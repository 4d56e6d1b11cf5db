"""The summary of a GitHub Actions step: Markdown at the end of a file that the runner names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.alignment.result import Alignment
from harness.errors import HarnessError
from harness.report.language import Language
from harness.report.markdown import COMMENT_LIMIT, to_markdown

#: What the runner takes of one step, in bytes; it drops a larger summary whole.
STEP_LIMIT = 1 << 20
#: Bytes that a UTF-16 code unit takes in UTF-8, at most.
_BYTES_PER_UNIT = 3


def append_step_summary(
    alignments: Sequence[Alignment],
    language: Language = "en",
    environment: Mapping[str, str] | None = None,
) -> Path | None:
    """Add the report to the file that ``GITHUB_STEP_SUMMARY`` names.

    Returns:
        The file; None where the variable is not set, or the file has no room
        left for even the verdict.

    Raises:
        HarnessError: if the file cannot be written.
    """
    name = (os.environ if environment is None else environment).get("GITHUB_STEP_SUMMARY")
    if not name:
        return None
    path = Path(name)
    try:
        used = path.stat().st_size if path.exists() else 0
        limit = min(COMMENT_LIMIT, (STEP_LIMIT - used) // _BYTES_PER_UNIT - 1)
        try:
            text = to_markdown(alignments, limit, language)
        except ValueError:
            return None
        with path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(f"\n{text}" if used else text)
    except OSError as error:
        raise HarnessError(
            f"GITHUB_STEP_SUMMARY={name}: cannot be written ({error.strerror or error}); "
            "unset it or make it writable"
        ) from error
    return path
