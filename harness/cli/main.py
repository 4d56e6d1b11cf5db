"""The command ``harness``."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from harness.cli import (
    baseline,
    bench,
    bench_load,
    canary,
    checkpoint,
    diagnose,
    doctor,
    judge,
    locate,
    merge,
    record,
    report,
    serve,
)
from harness.cli.ending import (
    crash,
    finish,
    interrupted,
    open_standard_streams,
    refused_by_name,
    unwritten,
    unwritten_by,
)
from harness.cli.say import say
from harness.errors import HarnessError
from harness.process import signals
from harness.version import __version__


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM: the libraries below would tell it in words of their own."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            with signals.working(), signals.nothing_lost():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error
        except SystemExit as error:  # of a library: a command's own end is typer.Exit
            raise RuntimeError(f"a library ended the program ({error.code})") from error


app = typer.Typer(
    name="harness",
    cls=_Commands,
    help="Prove that a language model ported to a new accelerator still computes the same.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit status: 0 aligned; 1 not aligned; 2 wrong usage or unreadable input; "
        "3 no judgement; 70 a defect, or output that could not be written; 130 Ctrl-C; "
        "141 nobody read it; 143 SIGTERM. "
        "Add --debug to any command for a traceback."
    ),
)
# `--help` lists them in this order.
app.command()(record.record)
app.command()(merge.merge)
app.command()(judge.compare)
app.command()(judge.verify)
app.command()(report.report)
app.add_typer(baseline.app, name="baseline")
app.command()(diagnose.diagnose)
app.command()(locate.locate)
app.command()(canary.canary)
app.command()(bench.bench)
app.command()(bench_load.bench_load)
app.command()(serve.serve)
app.add_typer(checkpoint.app, name="checkpoint")
app.command()(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version  # handled by its callback


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command; every error of the harness is one line on stderr."""
    open_standard_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        # Model output may hold characters that the terminal's encoding lacks.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with signals.handling():
        sys.exit(finish(_status(arguments, debug=debug)))


def _status(arguments: list[str], *, debug: bool) -> int:
    """Run the command and tell its error; its exit status."""
    try:
        app(arguments)
    except BaseException as error:  # a panic in Rust, as of a tokenizer, is not an Exception
        stopped = isinstance(error, KeyboardInterrupt | _Interrupted)
        # What a library made of a signal is not an error of its own.
        if stopped or signals.received() is not None:
            return interrupted()
        return _status_of(error, debug=debug)
    return 0


def _status_of(error: BaseException, *, debug: bool) -> int:
    """Tell how the command ended; its exit status."""
    if isinstance(error, SystemExit):
        # Click ends with 1 where its output did not arrive.
        broken = unwritten_by(error.__context__)
        own = error.code if isinstance(error.code, int) else 0
        return own if broken is None else unwritten(broken)
    if isinstance(error, HarnessError):
        if debug:
            traceback.print_exception(error)
        else:
            say(f"harness: error: {error}", err=True)
        return error.exit_status
    refused = refused_by_name(error)
    if refused is not None and not debug:
        say(f"harness: error: {refused}", err=True)
        return HarnessError.exit_status
    broken = unwritten_by(error)
    return crash(error, debug=debug) if broken is None else unwritten(broken)
