"""docs/reference.md is what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_reference_lists_every_option_and_field_of_the_code() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / ".ci" / "reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    for known in ("`--device`", "`--update-baselines`", "### `harness compare`", "### Recording"):
        assert known in text
