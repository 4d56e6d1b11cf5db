"""``python -m harness`` is the command ``harness``: the working directory is not code to it."""

import os
import sys
from typing import NoReturn


def _is_working_directory(place: str) -> bool:
    """Whether ``-m`` put it on the path, and the harness itself does not lie there."""
    here = os.path.realpath(place or ".") == os.path.realpath(".")
    return here and not os.path.exists(os.path.join("harness", "__main__.py"))


if sys.path and _is_working_directory(sys.path[0]):
    del sys.path[0]


def main() -> NoReturn:
    """The command in a process of its own, whose signals are handled from its first import on."""
    from harness.process import signals

    signals.install()
    from harness.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
