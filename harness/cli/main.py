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
    record,
    report,
    serve,
)
from harness.cli.ending import (
    crash,
    finish,
    open_standard_streams,
    refused_by_name,
    unwritten,
    unwritten_by,
)
from harness.cli.say import say
from harness.errors import HarnessError
from harness.process.signals import TERMINATED, Terminated, sigterm_as_interrupt
from harness.version import __version__


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM, handled here, because versions of the libraries below end differently."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
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
        "3 no judgement; 70 a defect, or output that could not be written; 141 nobody read it. "
        "Add --debug to any command for a traceback."
    ),
)
# `--help` lists them in this order.
app.command()(record.record)
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
    try:
        status = _status(arguments, debug=debug)
    except KeyboardInterrupt:  # the second one, while the first was told
        status = 130
    sys.exit(finish(status))


def _status(arguments: list[str], *, debug: bool) -> int:
    """Run the command and tell its error; its exit status."""
    try:
        with sigterm_as_interrupt():
            app(arguments)
    except SystemExit as ended:
        # Click ends with 1 where its output did not arrive.
        broken = unwritten_by(ended.__context__)
        own = ended.code if isinstance(ended.code, int) else 0
        return own if broken is None else unwritten(broken)
    except HarnessError as error:
        if debug:
            traceback.print_exc()
        else:
            say(f"harness: error: {error}", err=True)
        return error.exit_status
    except (KeyboardInterrupt, _Interrupted) as error:
        say(
            "harness: interrupted; repeat the command to continue: record and baseline make "
            "keep finished prompts",
            err=True,
        )
        return TERMINATED if isinstance(error.__cause__ or error, Terminated) else 130
    except BaseException as error:  # a panic in Rust, as of a tokenizer, is not an Exception
        refused = refused_by_name(error)
        if refused is not None and not debug:
            say(f"harness: error: {refused}", err=True)
            return HarnessError.exit_status
        broken = unwritten_by(error)
        return crash(error, debug=debug) if broken is None else unwritten(broken)
    return 0
