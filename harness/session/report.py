"""Last stage: write the reports, and say what to do next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.report.language import say
from harness.session.bench import Benched
from harness.session.judge import Judged


@dataclass(frozen=True)
class Reported:
    """Every report of a run, the HTML in ``reports/`` first, the bench's last."""

    judged: Judged
    files: tuple[Path, ...]

    def closing_lines(self) -> list[str]:
        """The reports to read, and how to approve."""
        prepared = self.judged.recorded.prepared
        folder, lines = prepared.folder.as_posix(), []
        if prepared.made:
            lines.append(f"baseline made: {folder}; approve it by committing it")
        elif self.judged.recorded.stale:
            lines.append(
                f"stale baseline: {folder}; nothing was run. If the change is meant, make it again "
                f"with: {prepared.run.options.remaking_command()}"
            )
        options = prepared.run.options
        recorded = self.judged.recorded
        if options.shard is not None and not recorded.stale and not prepared.run.is_selection:
            merging = options.merging_command(prepared.recording_file)
            lines.append(f"shard {options.shard}; when all have run, judge the whole: {merging}")
        language = options.outputs.language
        said = [say(language, "terminal.report", path=path.as_posix()) for path in self.files]
        return lines + said


def write_reports(judged: Judged, benched: Benched | None) -> Reported:
    """Write the alignment and its reports, and the summary of a CI step.

    Raises:
        HarnessError: if a file cannot be written.
    """
    prepared = judged.recorded.prepared
    options = prepared.run.options
    asked, folder = options.outputs, options.report_dir
    stem = prepared.recording_file.stem
    reports = (folder / f"{stem}.html", *asked.reports)
    outputs = replace(asked, json=folder / f"{stem}.alignment.json", reports=reports)
    outputs.write(judged.alignment)
    return Reported(judged, reports if benched is None else (*reports, benched.report))
