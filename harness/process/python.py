"""Python processes of the harness's own, in which the working directory is not code.

``python -m`` and ``python -c`` put it first on the path of imports, where any
checkout, checkpoint or shared folder could lay a ``torch.py``. The standard
library alone: the doctor uses it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

#: The first lines of a program for ``python -c``. Nothing is imported before
#: them but what is built in.
WITHOUT_WORKING_DIRECTORY = """\
import sys
if sys.path and sys.path[0] == "":
    del sys.path[0]
"""
_RUN_MODULE = (
    WITHOUT_WORKING_DIRECTORY
    + """\
from runpy import run_module
run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
)
#: The same for what a process starts itself, from Python 3.11 on.
SAFE = {"PYTHONSAFEPATH": "1"}


def module_command(python: str, module: str, *arguments: str) -> list[str]:
    """``python -m module`` without the working directory on its path."""
    return [python, "-c", _RUN_MODULE, module, *arguments]


def program_command(python: Sequence[str], source: str, *arguments: str) -> list[str]:
    """``python -c source`` without the working directory on its path.

    The source is a program of its own, which may begin with imports from ``__future__``.
    """
    program = f"{WITHOUT_WORKING_DIRECTORY}exec(compile({source!r}, '<string>', 'exec'))\n"
    return [*python, "-c", program, *arguments]


def with_this_harness(env: Mapping[str, str]) -> dict[str, str]:
    """An environment whose Python finds this harness, where it runs from a checkout."""
    root = Path(__file__).resolve().parents[2]
    if root.name in ("site-packages", "dist-packages"):
        return dict(env)
    path = [str(root), *filter(None, [env.get("PYTHONPATH")])]
    return {**env, "PYTHONPATH": os.pathsep.join(path)}


def safe_environment(env: Mapping[str, str]) -> dict[str, str]:
    """An environment whose Python processes do not look into the working directory."""
    return {**SAFE, **env}
