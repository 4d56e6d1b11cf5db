"""The options of one run of ``pytest --device``: checked, and printed again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.alignment.allow import STRICT, Allow
from harness.baseline.folder import DEFAULT_FOLDER, is_baseline
from harness.devices.kinds import REFERENCE_DEVICE, reference_for
from harness.devices.spec import DeviceSpec
from harness.errors import UsageError
from harness.report.outputs import NOWHERE, Outputs
from harness.session.canary import check_canary


@dataclass(frozen=True)
class RunOptions:
    """The plugin's options; see ``pytest --help``.

    ``diagnose`` is None where the verdict decides.
    """

    spec: DeviceSpec
    suite: str = "mixed"
    max_new_tokens: int | None = None
    baseline_dir: Path = DEFAULT_FOLDER
    context: Path | None = None
    allow: Allow = STRICT
    outputs: Outputs = NOWHERE
    update_baselines: bool = False
    matrix: bool = False
    canary: bool = False
    magnify: bool = False
    diagnose: bool | None = None
    no_doctor: bool = False

    def check(self) -> None:
        """Check that the options fit together.

        Raises:
            UsageError: naming the first that does not fit.
        """
        if self.update_baselines and not self.spec.kind.reference:
            raise UsageError(
                f"--update-baselines replaces the reference, and {self.spec.device} is not a "
                f"reference device; use it with --device={REFERENCE_DEVICE}"
            )
        if self.update_baselines and is_baseline(self.baseline_dir):
            raise UsageError(
                f"--baseline-dir={self.baseline_dir} is one baseline; --update-baselines needs "
                "the folder of all baselines"
            )
        if self.canary:
            check_canary(self.spec)
        self.outputs.check_kinds()

    def command(self, prompt_id: str | None = None) -> str:
        """The command that repeats this run, or one prompt of it."""
        parts = ["pytest", *self.spec.pytest_options(), f"--suite={self.suite}"]
        if self.max_new_tokens:
            parts.append(f"--max-new-tokens={self.max_new_tokens}")
        if self.context is not None:
            parts.append(f"--context={self.context.as_posix()}")
        if self.baseline_dir != DEFAULT_FOLDER:
            parts.append(f"--baseline-dir={self.baseline_dir.as_posix()}")
        parts += self.allow.options()
        if prompt_id is None:
            parts += ["--matrix"] * self.matrix + ["--magnify"] * self.magnify
            parts += ["--canary"] * self.canary
            parts += ["--diagnose"] * (self.diagnose is True)
        # Of one prompt too: a closer look is not taken there.
        parts += ["--no-diagnose"] * (self.diagnose is False)
        parts += ["--no-doctor"] * self.no_doctor
        parts += ["-k", f"test_prompt[{prompt_id}]"] if prompt_id else []
        return shlex.join(parts)

    def making_command(self, recording: Path) -> str:
        """The command that makes a baseline around a recording's tokens."""
        reference = self.spec.plain(reference_for(self.spec.kind))
        parts = ["harness", "baseline", "make", *reference.options(), "--suite", self.suite]
        parts += ["--context", recording.as_posix()]
        parts += ["--baseline-dir", self.baseline_dir.as_posix()]
        if self.max_new_tokens:
            parts += ["--max-new-tokens", str(self.max_new_tokens)]
        return shlex.join(parts)

    def judging_command(self, recording: Path, baseline: Path) -> str:
        """The command that holds a recording against a baseline."""
        files = [recording.as_posix(), baseline.as_posix()]
        return shlex.join(["harness", "compare", *files, *self.allow.options()])
