"""The pages' commands, run as printed, page by page, in a copy of the checkout.

In the README's environment the blocks marked ``run``; where vLLM is installed those marked
``run: vllm``. Real commands, and the embedded model.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import ROOT, Block, blocks, commands, pages

from harness.model.model import Model

#: A page is tried for so long, under the load of other work as well.
LIMIT_S = 2400
MARKER = "run: vllm" if importlib.util.find_spec("vllm") else "run"
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", ".nox", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "*.partial"
)


def _to_run(path: Path) -> list[Block]:
    found = blocks(path.read_text("utf-8"), str(path.relative_to(ROOT)))
    return [block for block in found if block.marker == MARKER]


PAGES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in pages() if _to_run(path)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, without what former runs left in ``reports/``."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    for left in (copy / "reports").iterdir():
        if left.name != "README.md":
            left.unlink() if left.is_file() else shutil.rmtree(left)
    return copy


def script(found: list[Block]) -> str:
    """One shell for a page: a variable that a block exports is there in the next."""
    lines = []
    for block in found:
        for command in commands(block):
            at = shlex.quote(f"{block.page}:{command.line}: status %s, not {command.status}\n")
            lines += [
                f"echo {shlex.quote('$ ' + command.text)}",
                command.text,
                f'seen=$?; [ "$seen" = {command.status} ] || {{ printf {at} "$seen"; exit 99; }}',
            ]
    return "\n".join(lines) + "\n"


def _environment(checkout: Path) -> dict[str, str]:
    own = ("PYTEST_", "HARNESS_", "GITHUB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {
        **kept,
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        "PYTHONPATH": str(checkout),
        "PYTHONUNBUFFERED": "1",
    }


def run(text: str, folder: Path) -> tuple[int, str]:
    """Status and output of a page's script; the whole process group ends with it."""
    file = folder.parent / f"{folder.name}.sh"
    file.write_text(text, "utf-8")
    with subprocess.Popen(
        ["bash", file],
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            told, _ = shell.communicate(timeout=LIMIT_S)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
    return shell.returncode, told


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES)
def test_the_commands_of_a_page_run_as_printed(
    path: Path, checkout: Path, embedded_model: Model
) -> None:
    status, told = run(script(_to_run(path)), checkout)
    sys.stdout.write(told)
    assert status == 0, told[-3000:]


def test_a_command_that_ends_otherwise_than_printed_is_found(tmp_path: Path) -> None:
    page = "<!-- run -->\n```sh\nexport A=3\n(exit 1)  # status 1\n(exit $A)\necho unreached\n```\n"
    (block,) = blocks(page, "p.md")
    status, told = run(script([block]), tmp_path)
    assert status == 99
    assert told.splitlines()[-1] == "p.md:5: status 3, not 0"
