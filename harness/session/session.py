"""One run of ``pytest --device``, stage by stage: prepared, recorded, judged, reported.

Each stage is a frozen result that holds the one before it. The session runs the
device once, on first use, for all checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.canary.result import Canary
from harness.devices.registry import Target, open_target
from harness.devices.spec import DeviceSpec
from harness.doctor import Diagnosis, diagnose
from harness.process.progress import Progress
from harness.session.bench import Benched, measure
from harness.session.canary import canary_of
from harness.session.judge import Judged, judge
from harness.session.options import RunOptions
from harness.session.prepare import prepare
from harness.session.record import record
from harness.session.report import Reported, write_reports
from harness.session.run import Run, read_run
from harness.session.smoke import Sampled, run_smoke


class Session:
    """How far a run got: each stage is None until it was reached.

    Making one checks the options and reads the suite, no more.

    Raises:
        HarnessError: if the options do not fit together, or the suite is wrong.
    """

    def __init__(self, options: RunOptions, progress: Progress) -> None:
        self.run: Run = read_run(options)
        self.progress = progress
        self.diagnosis: Diagnosis | None = None
        self.judged: Judged | None = None
        self.benched: Benched | None = None
        self.reported: Reported | None = None
        self._target: Target | None = None

    def select(self, prompt_ids: frozenset[str] | None, *, asks_verdict: bool) -> None:
        """Run only these prompts, None for all of the run; whether the verdict is checked."""
        chosen = self.run.prompt_ids if prompt_ids is None else prompt_ids
        self.run = replace(self.run, prompt_ids=chosen, asks_verdict=asks_verdict)

    def command(self, prompt_id: str | None = None) -> str:
        """The command that repeats this run, or one prompt of it."""
        return self.run.options.command(prompt_id)

    def examine(self) -> Diagnosis | None:
        """Ask the doctor about this host; None if the doctor is not needed."""
        options = self.run.options
        kind = options.spec.kind
        if not kind.needs_model or options.no_doctor:
            return None
        if kind.examined:
            self.progress.note("doctor: examining this host")
        self.diagnosis = diagnose(kind.name, quick=not kind.examined)
        return self.diagnosis

    def target(self) -> Target:
        """The device and its model, not yet opened; the model is fingerprinted once.

        Raises:
            HarnessError: if the model cannot be found or loaded.
        """
        if self._target is None:
            self._target = open_target(self.run.options.spec, progress=self.progress)
        return self._target

    def judge(self) -> Judged:
        """Prepare, record and judge; the first call runs the device.

        Raises:
            BaselineError: without a baseline, on a device that cannot make one; the
                recording is kept, and the error names the command that judges it.
            HarnessError: errors of device, model or disk.
        """
        if self.judged is None:
            prepared = prepare(self.run, self.target(), self.progress)
            recorded = record(prepared, self.progress)
            self.judged = judge(recorded, self.diagnosis, self._open_changed, self.progress)
        return self.judged

    def bench(self) -> Benched:
        """Measure the device on a grid, after its tokens were judged.

        Raises:
            HarnessError: errors of the device before the first repeat.
        """
        if self.benched is None:
            self.benched = measure(self.judge(), self.progress)
        return self.benched

    def smoke(self) -> Mapping[str, Sampled]:
        """Sample on the device; see harness.session.smoke.

        Raises:
            HarnessError: errors of device or model.
        """
        return run_smoke(self.target(), self.run.smoke_suite(), self.progress)

    def canary(self) -> Canary:
        """Run a model whose every bit is known; see harness.session.canary.

        Raises:
            HarnessError: if the device does not open or fails.
        """
        return canary_of(self.run.options.spec, self.progress)

    def report(self) -> Reported | None:
        """Write the reports of a run that was judged; None without a judgement.

        Raises:
            HarnessError: if a file cannot be written.
        """
        if self.judged is not None:
            self.reported = write_reports(self.judged, self.benched)
        return self.reported

    def _open_changed(self, spec: DeviceSpec) -> Target:
        """The device of this run with some of its settings changed."""
        return open_target(spec, subject=self.target().subject, progress=self.progress)
