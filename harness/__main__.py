"""``python -m harness`` is the command ``harness``: the working directory is not code to it."""

import os
import sys


def _is_working_directory(place: str) -> bool:
    """Whether ``-m`` put it on the path, and the harness itself does not lie there."""
    here = os.path.realpath(place or ".") == os.path.realpath(".")
    return here and not os.path.exists(os.path.join("harness", "__main__.py"))


if sys.path and _is_working_directory(sys.path[0]):
    del sys.path[0]

from harness.cli.main import main  # noqa: E402 - not before the line above

if __name__ == "__main__":
    main()
