"""The page of one recording that nothing has judged: what a first run is worth keeping for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.files.atomic import write_bytes
from harness.recording.format import Recording
from harness.report.html import page
from harness.report.language import Language
from harness.report.views.recording import recording_view


def render_recording(
    recording: Recording, path: Path, language: Language = "en", judging: Sequence[str] = ()
) -> None:
    """Write the page: texts, times of each prompt, totals, and that nothing was judged.

    Args:
        judging: the commands that judge it, for the reader.

    Raises:
        UsageError: for another suffix than .html.
        HarnessError: if the file cannot be written.
    """
    if path.suffix.lower() != ".html":
        raise UsageError(f"{path}: the page of a recording is .html; end its name in it")

    def values(language: Language) -> dict[str, Any]:
        return {"r": recording_view(recording, language), "judging": list(judging)}

    text = page("recording.html.j2", language, values)
    write_bytes(path, text.encode("utf-8"))
