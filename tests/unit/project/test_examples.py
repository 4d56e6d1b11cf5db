"""The report in docs/examples is what the code writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / ".ci" / "examples.py"
PAGE = ROOT / "docs" / "examples" / "vllm-cpu-mixed.html"


def test_it_is_rendered_by_the_code_that_ships() -> None:
    checked = subprocess.run(
        [sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_a_page_of_other_code_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "examples"
    folder.mkdir(parents=True)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "examples.py").write_bytes(SCRIPT.read_bytes())
    for file in (PAGE, PAGE.with_suffix(".md")):
        text = file.read_text("utf-8").replace("2304", "2305", 1)
        (folder / file.name).write_text(text, "utf-8")
    command = [sys.executable, tmp_path / ".ci" / "examples.py"]
    assert subprocess.run([*command, "--check"], check=False, capture_output=True).returncode == 1
    subprocess.run(command, check=True)
    assert subprocess.run([*command, "--check"], check=False).returncode == 0
