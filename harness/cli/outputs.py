"""Check the files of an outcome; print it, then write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.say import say

if TYPE_CHECKING:
    from harness.messages.tables import Language


@dataclass(frozen=True)
class BenchFiles:
    """The files for the samples of a bench and its reports; ``lang`` None is the locale's."""

    out: Path
    reports: tuple[Path, ...]
    lang: str | None = None

    @property
    def language(self) -> Language:
        """Of the reports and of the lines that are printed."""
        from harness.report.language import language_of

        return language_of(self.lang)

    def check(self) -> None:
        """Check that every file can be written, before hours of work.

        Raises:
            UsageError: naming the first that cannot be written, or that holds something else.
        """
        from harness.bench.result import check_replaces_bench
        from harness.files.outputs import check_outputs
        from harness.report.bench import check_bench_report
        from harness.report.language import language_of

        language_of(self.lang)
        for path in self.reports:
            check_bench_report(path)
        check_outputs([self.out, *self.reports])
        check_replaces_bench(self.out)


def tell_and_write(
    lines: Iterable[str],
    writers: Mapping[Path, Callable[[Path], None]],
    *,
    also: Sequence[Path] = (),
) -> None:
    """Print an outcome, then write its files and name them.

    Args:
        writers: what writes each file.
        also: files that were written before, to be named first.

    Raises:
        HarnessError: if a file cannot be written; the outcome is printed before.
    """
    try:
        for line in lines:
            say(line)
    finally:  # `| head -1` closes the pipe; the files must still be written
        for path, write in writers.items():
            write(path)
    for path in (*also, *writers):
        say(f"written: {path}")
