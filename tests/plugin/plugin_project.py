"""A folder in which tests run ``pytest --device``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# What the plugin imports late: each run would otherwise import it again, since
# pytester takes new modules away after a run.
import harness.report.render
import harness.report.views.alignment  # noqa: F401
from harness.alignment.gates import GATES

#: Checks of the small suite: four prompts, the gates, determinism, stops, the
#: verdict, and three of performance.
TESTS = 4 + len(GATES) + 3 + 3
#: All of them held; four prompts are too few to judge the two paths apart.
HELD = {"passed": TESTS - 2, "skipped": 2}


@dataclass(frozen=True)
class PluginProject:
    """Runs pytest with the plugin in this process."""

    pytester: pytest.Pytester

    @property
    def path(self) -> Path:
        return self.pytester.path

    @property
    def baseline(self) -> Path:
        """Where the baseline of the suite stands."""
        return self.path / "baselines/fake/s/bfloat16"

    @property
    def recording(self) -> Path:
        """Where a run of ``--device=fake`` leaves its recording."""
        return self.path / "reports/fake-s-bfloat16-fake.json"

    def plain(self, *arguments: str | Path) -> pytest.RunResult:
        """pytest with the plugin loaded and nothing else."""
        return self.pytester.runpytest_inprocess("-p", "harness.plugin", *map(str, arguments))

    def run(self, device: str, *arguments: str | Path) -> pytest.RunResult:
        """The checks on a device, with the small suite."""
        return self.plain(f"--device={device}", "--suite=s.yaml", *arguments)

    def alignment(self, device: str = "fake") -> dict[str, Any]:
        """The alignment that the last run on a device has left."""
        file = self.path / f"reports/fake-s-bfloat16-{device}.alignment.json"
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return found

    def bytes_of_baseline(self) -> dict[str, bytes]:
        """Every file of the baseline, by name."""
        return {path.name: path.read_bytes() for path in sorted(self.baseline.iterdir())}


def usage_error(result: pytest.RunResult) -> str:
    """The one line that a wrong option ends in."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.stderr.lines if line.startswith("ERROR: ")]
    assert len(lines) == 1, result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    return lines[0].removeprefix("ERROR: ")
