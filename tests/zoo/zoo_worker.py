"""A process that runs one command of the harness after another: its imports are paid once.

It reads a line of JSON for each, ``{"cwd", "argv"}``, and answers with ``{"status", "said"}``.
Where ``argv`` begins with ``make``, the zoo's own maker is run.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

from zoo_make import make_all

from harness.cli.main import main as harness


def run(argv: list[str]) -> int:
    """The status that a command ends with."""
    try:
        if argv[0] == "make":
            sys.stdout.write(make_all(argv[1], Path()) + "\n")
        else:
            harness(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # whatever it is, it is a fact of this command
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        asked = json.loads(line)
        os.chdir(asked["cwd"])
        with tempfile.TemporaryFile() as file:
            # Of the descriptors, so that what engines' processes print is there too.
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            status = run(asked["argv"])
            sys.stdout.flush()
            sys.stderr.flush()
            file.seek(0)
            said = file.read().decode("utf-8", "replace")
        gc.collect()
        answers.write(json.dumps({"status": status, "said": said}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
