"""The files that a judgement is written to: checked first, written last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.alignment.origin import origin
from harness.alignment.result import Alignment, save_alignment
from harness.alignment.table import check_table_path, write_table
from harness.errors import UsageError
from harness.files.outputs import check_outputs, refuse_inputs
from harness.report.language import Language, language_of
from harness.report.render import SUFFIXES, kind_of, render
from harness.report.step_summary import append_step_summary


@dataclass(frozen=True)
class Outputs:
    """Where an alignment goes.

    Attributes:
        json: the alignment itself.
        reports: .html, .md or .json.
        table: one row per position, .csv or .parquet.
        lang: the language of the reports, as ``--lang`` has it.
    """

    json: Path | None = None
    reports: tuple[Path, ...] = ()
    table: Path | None = None
    lang: str | None = None

    @property
    def language(self) -> Language:
        """The language of the reports.

        Raises:
            UsageError: if there is no such language.
        """
        return language_of(self.lang)

    def check_kinds(self) -> None:
        """Check that each file has a suffix that can be written, and the language exists.

        Raises:
            UsageError: naming the first that has not.
            MissingDependency: if .parquet is asked for without pyarrow.
        """
        language_of(self.lang)
        for path in self.reports:
            if kind_of(path) not in SUFFIXES:
                raise UsageError(f"--report {path}: the suffix must be .html, .md or .json")
        if self.table is not None:
            check_table_path(self.table)

    def refuse(self, inputs: Iterable[Path | None]) -> None:
        """Check that no file takes the place of an input, or lies in a folder that is one.

        Raises:
            UsageError: naming the output and the input.
        """
        refuse_inputs(self._files(), inputs)

    def check(self, inputs: Iterable[Path | None] = ()) -> None:
        """Check that every file can be written, before the work starts.

        Raises:
            UsageError: naming the first that cannot.
            MissingDependency: if .parquet is asked for without pyarrow.
        """
        self.check_kinds()
        check_outputs(self._files(), inputs)

    def writers(self, alignment: Alignment) -> dict[Path, Callable[[Path], None]]:
        """What writes each file."""
        alignment = _with_origin(alignment)
        writers: dict[Path, Callable[[Path], None]] = {}
        if self.json is not None:
            writers[self.json] = partial(save_alignment, alignment)
        for path in self.reports:
            writers[path] = partial(render, [alignment], language=self.language)
        if self.table is not None:
            writers[self.table] = partial(write_table, alignment)
        return writers

    def write(self, alignment: Alignment) -> None:
        """Write every file, and the summary of a CI step.

        Raises:
            HarnessError: if a file cannot be written.
        """
        for path, write in self.writers(alignment).items():
            write(path)
        self.summarize(alignment)

    def summarize(self, alignment: Alignment) -> None:
        """Add the report to the summary of a CI step, where there is one."""
        append_step_summary([_with_origin(alignment)], self.language)

    def _files(self) -> list[Path]:
        return [path for path in (self.json, *self.reports, self.table) if path is not None]


def _with_origin(alignment: Alignment) -> Alignment:
    """With the run of CI that this is; one that it has already stays."""
    if alignment.origin is not None:
        return alignment
    return alignment.model_copy(update={"origin": origin()})


#: No file at all.
NOWHERE = Outputs()
