"""The options of one run of ``pytest --device``: checked, and printed again."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.alignment.allow import STRICT, Allow
from harness.baseline.folder import DEFAULT_FOLDER, is_baseline
from harness.devices.kinds import REFERENCE_DEVICE, reference_for
from harness.devices.spec import DeviceSpec, parse_detail
from harness.errors import UsageError
from harness.report.outputs import NOWHERE, Outputs
from harness.session.canary import check_canary
from harness.statistics.rows import NORMAL, Detail
from harness.suite.shard import Shard

#: The folder for recordings and reports, where no other one is chosen.
REPORTS = Path("reports")


def shard_suffix(shard: Shard) -> str:
    """What a shard's recording has in its name."""
    return f"-shard-{shard.number}-of-{shard.of}"


@dataclass(frozen=True)
class RunOptions:
    """The plugin's options; see ``pytest --help``.

    ``diagnose`` is None where the verdict decides, ``require_baseline`` where CI does,
    ``detail`` where the baseline does.
    ``started``: the words that start pytest with this plugin, for printed commands.
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
    require_baseline: bool | None = None
    report_dir: Path = REPORTS
    shard: Shard | None = None
    detail: str | None = None
    started: tuple[str, ...] = ("pytest",)

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
        if self.update_baselines and self.require_baseline:
            raise UsageError("--update-baselines and --require-baseline cannot go together")
        if self.shard is not None and (self.matrix or self.magnify or self.diagnose):
            raise UsageError(
                "--shard runs a part of the suite, and --matrix, --magnify and --diagnose need "
                "the whole; leave them out here"
            )
        self.kept_beside(None)
        if self.canary:
            check_canary(self.spec)
        self.outputs.check_kinds()

    def kept_beside(self, baseline: Detail | None) -> Detail:
        """What the device's recording keeps of a row, as ``--detail`` or else the baseline says.

        Raises:
            UsageError: for an unknown ``--detail``, or one that the device cannot have.
        """
        if self.detail is not None:
            return parse_detail(self.detail, self.spec.kind)
        return baseline or NORMAL

    @property
    def needs_baseline(self) -> bool:
        """Whether a missing baseline is an error on a reference device too.

        In CI it is a mistake, as of a model's name, unless it is being made: one made there
        would be thrown away, and the run would have held the device against itself. With a
        context the run holds that recording against it, of whatever machine.
        """
        if self.require_baseline is not None:
            return self.require_baseline
        in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
        return in_ci and not self.update_baselines and self.context is None

    def command(self, prompt_id: str | None = None) -> str:
        """The command that repeats this run, or one prompt of it."""
        parts = self._suite_command(self.spec)
        if self.shard is not None:
            parts.append(f"--shard={self.shard}")
        if self.context is not None:
            parts.append(f"--context={self.context.as_posix()}")
        if self.baseline_dir != DEFAULT_FOLDER:
            parts.append(f"--baseline-dir={self.baseline_dir.as_posix()}")
        parts += self.allow.options()
        if prompt_id is None:
            parts += ["--matrix"] * self.matrix + ["--magnify"] * self.magnify
            parts += ["--canary"] * self.canary
            parts += ["--diagnose"] * (self.diagnose is True)
            if self.report_dir != REPORTS:
                parts.append(f"--report-dir={self.report_dir.as_posix()}")
            parts += ["--require-baseline"] * (self.require_baseline is True)
            parts += ["--no-require-baseline"] * (self.require_baseline is False)
            parts += [f"--report={path.as_posix()}" for path in self.outputs.reports]
            parts += [f"--lang={self.outputs.lang}"] * (self.outputs.lang is not None)
        # Of one prompt too: a closer look is not taken there.
        parts += ["--no-diagnose"] * (self.diagnose is False)
        parts += ["--no-doctor"] * self.no_doctor
        parts += ["-k", f"test_prompt[{prompt_id}]"] if prompt_id else []
        return shlex.join(parts)

    def remaking_command(self) -> str:
        """The command that makes this run's baseline again, and no other one."""
        root = self.baseline_dir
        if is_baseline(root):
            # Its place below the root is that of a model, a suite and a dtype.
            root = (root if len(root.parents) > 2 else root.resolve()).parents[2]
        parts = self._suite_command(self.spec.plain(reference_for(self.spec.kind)))
        if root != DEFAULT_FOLDER:
            parts.append(f"--baseline-dir={root.as_posix()}")
        return shlex.join([*parts, "--update-baselines"])

    def _suite_command(self, spec: DeviceSpec) -> list[str]:
        parts = [*self.started, *spec.pytest_options(), f"--suite={self.suite}"]
        if self.max_new_tokens:
            parts.append(f"--max-new-tokens={self.max_new_tokens}")
        if self.detail is not None:
            parts.append(f"--detail={self.detail}")
        return parts

    def merging_command(self, recording: Path) -> str:
        """The commands that join the recordings of all shards, and judge the whole."""
        assert self.shard is not None
        stem = recording.name.removesuffix(f"{shard_suffix(self.shard)}.json")
        first = shlex.quote(f"{recording.parent.as_posix()}/{stem}-shard-")
        shards = f"{first}*-of-{self.shard.of}.json"  # for the shell to find
        whole = recording.with_name(f"{stem}.json").as_posix()
        more = shlex.join(["--suite", self.suite, "--out", whole])
        return f"{shlex.join(self.harness)} merge {shards} {more}"

    @property
    def harness(self) -> tuple[str, ...]:
        """The words that start the command ``harness``: who says ``python -m pytest`` may have
        no such command on the path, or that of another environment."""
        python, *rest = self.started
        return (python, "-m", "harness") if rest[:1] == ["-m"] else ("harness",)

    def making_command(self, recording: Path) -> str:
        """The command that makes a baseline around a recording's tokens."""
        reference = self.spec.plain(reference_for(self.spec.kind))
        parts = [*self.harness, "baseline", "make", *reference.options(), "--suite", self.suite]
        parts += ["--context", recording.as_posix()]
        parts += ["--baseline-dir", self.baseline_dir.as_posix()]
        if self.max_new_tokens:
            parts += ["--max-new-tokens", str(self.max_new_tokens)]
        if self.detail is not None:
            parts += ["--detail", self.detail]
        return shlex.join(parts)

    def judging_command(self, recording: Path, baseline: Path) -> str:
        """The command that holds a recording against a baseline."""
        files = [recording.as_posix(), baseline.as_posix()]
        return shlex.join([*self.harness, "compare", *files, *self.allow.options()])
