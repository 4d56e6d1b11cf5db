"""``python -m harness`` is the command ``harness``: the working directory is not code to it."""

import os
import sys


def _is_working_directory(place: str) -> bool:
    """Whether ``-m`` put it on the path, and the harness itself does not lie there."""
    here = os.path.realpath(place or ".") == os.path.realpath(".")
    return here and not os.path.exists(os.path.join("harness", "__main__.py"))


if sys.path and _is_working_directory(sys.path[0]):
    del sys.path[0]

try:
    from harness.cli.main import main
except KeyboardInterrupt:  # Ctrl-C while the command is still being imported
    sys.stderr.write("harness: interrupted\n")
    sys.exit(130)

if __name__ == "__main__":
    main()
