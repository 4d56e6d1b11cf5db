"""Every error that the harness raises on purpose, as one tree.

    HarnessError                  a one-line message: what, where, how to mend it
    ├── UsageError                an option or argument makes no sense
    ├── MissingDependency         a package or a driver is missing; names the install command
    ├── SuiteError                a prompts/ file is wrong; names file and line
    ├── ModelError                a checkpoint cannot be found, converted or read
    │   └── UnloadedWeights       its weights are not those of the model; names them
    ├── DeviceError               a device cannot open, or failed while generating
    ├── FormatError               a JSON file is unreadable, has another schema, or is not strict
    │   └── ChecksumError         its content was changed after writing; names file and field
    ├── BaselineError             a baseline is missing, incomplete or refused
    └── EmptyComparison           there is nothing to compare; never a pass

The command turns each into one line on stderr and the exit status that the
class carries; a traceback is printed with ``--debug`` only.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Text on one line, with an escape for each character that a terminal may obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def log_line(text: str) -> str:
    """Text on one line that neither a terminal nor a CI's log obeys.

    GitHub takes ``::error::`` at the beginning of a line, Azure and GitHub ``##[error]`` and
    ``##vso[...]`` anywhere in it, for commands.
    """
    text = printable(text).replace("##[", "#\\x23[").replace("##vso[", "#\\x23vso[")
    start = len(text) - len(text.lstrip())
    return f"{text[:start]}\\x3a{text[start + 1 :]}" if text.startswith("::", start) else text


def log_json(text: str) -> str:
    """JSON over lines, with an escape for each character that :func:`log_line` replaces."""
    text = "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)
    return text.replace("##[", "#\\u0023[").replace("##vso[", "#\\u0023vso[")


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = (units[i : i + 2] for i in range(0, len(units), 2))
    return "".join(f"\\u{int.from_bytes(pair, 'big'):04x}" for pair in pairs)


class HarnessError(Exception):
    """Base of all errors that the user can mend.

    ``exit_status`` is what the ``harness`` command ends with. The message
    stays one line without control characters, also where it quotes a file or
    a path: see :func:`printable`.
    """

    exit_status = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class UsageError(HarnessError):
    """An option or argument makes no sense."""


class MissingDependency(HarnessError):
    """A package, driver or runtime is missing."""

    def __init__(self, what: str, needed_for: str, remedy: str) -> None:
        self.what = what
        self.needed_for = needed_for
        self.remedy = remedy
        super().__init__(f"{needed_for} needs {what}, which is not usable here: {remedy}")


class SuiteError(HarnessError):
    """A suite file is wrong."""

    def __init__(self, path: str, line: int | None, problem: str) -> None:
        self.path = path
        self.line = line
        self.problem = problem
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {problem}")


class ModelError(HarnessError):
    """A checkpoint cannot be found, converted or read."""


class UnloadedWeights(ModelError):
    """An engine did not take a checkpoint's weights as they are."""

    def __init__(self, model: str, problem: str) -> None:
        self.model = model
        self.problem = problem
        super().__init__(f"the weights of {model!r} are not the model's: {problem}")


class DeviceError(HarnessError):
    """A device cannot open, or failed while generating."""


class FormatError(HarnessError):
    """A file of the harness is unreadable or invalid."""

    def __init__(self, path: str, field: str | None, problem: str) -> None:
        self.path = path
        self.field = field
        self.problem = problem
        where = path if field is None else f"{path}: {field}"
        super().__init__(f"{where}: {problem}")


class ChecksumError(FormatError):
    """The content of a file was changed after it was written."""


class BaselineError(HarnessError):
    """A baseline is missing, incomplete, or may not be written."""


class EmptyComparison(HarnessError):
    """Two recordings share no position. Never a pass."""

    exit_status = 3
