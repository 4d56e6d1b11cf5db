"""Third stage: the candidate is judged against the baseline, and examined further."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.alignment.align import compare
from harness.alignment.diagnosis import Diagnosis
from harness.alignment.figures import unmeasured
from harness.alignment.gates.decide import FEW_PROMPTS
from harness.alignment.gates.stops import STOPS
from harness.alignment.outcomes import exit_status
from harness.alignment.result import Alignment
from harness.devices.registry import Target
from harness.devices.spec import DeviceSpec
from harness.doctor import Diagnosis as HostDiagnosis
from harness.messages.message import message
from harness.messages.statement import remark
from harness.process.progress import Progress
from harness.session.diagnose import diagnosed, wanted
from harness.session.magnifier import MagnifierPlan, added, run_magnifier
from harness.session.matrix import MatrixPlan, run_matrix
from harness.session.record import Recorded

#: Makes the device of this run anew, perhaps with some of its settings changed.
OpenTarget = Callable[[DeviceSpec], Target]


@dataclass(frozen=True)
class Judged:
    """The outcome of a run."""

    recorded: Recorded
    alignment: Alignment

    @property
    def held(self) -> bool:
        """Whether the verdict over what was selected allows a run to pass.

        Of a part of a suite the verdict is INCONCLUSIVE at best, since the other
        prompts were not run. There only what else is open counts; and of a few
        prompts, which decide no estimate, only what fails or no prompt more would decide.
        """
        found = self.alignment
        if self.recorded.prepared.run.options.shard is not None:
            # What a part leaves open, the whole decides.
            return found.verdict == "INCONCLUSIVE" or exit_status(found.verdict) == 0
        if not self.recorded.prepared.run.is_part or found.verdict != "INCONCLUSIVE":
            return exit_status(found.verdict) == 0
        undecided = {gate.name for gate in found.gates if gate.status == "INCONCLUSIVE"}
        few = len(found.prompts) < FEW_PROMPTS
        return not undecided.intersection((STOPS,) if few else undecided - {"coverage"})


def judge(
    recorded: Recorded, host: HostDiagnosis | None, open_target: OpenTarget, progress: Progress
) -> Judged:
    """Judge the candidate against the baseline; pure except for matrix and magnifier.

    Args:
        host: the doctor's diagnosis of this host, if there is one.

    Raises:
        HarnessError: errors of the device in the runs of matrix and magnifier.
    """
    options = recorded.prepared.run.options
    alignment = _compared(recorded)
    alignment = _diagnosed(recorded, alignment, progress)
    if options.context is not None:
        return Judged(recorded, alignment)  # that recording may come from another machine
    if alignment.comparability.comparable:
        alignment = _look_closer(recorded, alignment, open_target, progress)
    if host is not None:
        facts = {section: dict(rows) for section, rows in host.facts.items()}
        alignment = alignment.model_copy(update={"doctor": host.findings, "host": facts})
    return Judged(recorded, alignment)


def _compared(recorded: Recorded, diagnosis: Diagnosis | None = None) -> Alignment:
    options = recorded.prepared.run.options
    found = compare(
        recorded.candidate,
        recorded.baseline,
        allow=options.allow,
        candidate_file=recorded.file,
        reproduce=(options.command(),),
        diagnosis=diagnosis,
    )
    if not recorded.stale:
        return found
    return found.model_copy(update={"performance": unmeasured(found.performance)})


def _diagnosed(recorded: Recorded, alignment: Alignment, progress: Progress) -> Alignment:
    """The alignment with what explains the error, or why that cannot be told; as it is where
    nobody asked for a diagnosis and none is due."""
    if not wanted(recorded, alignment, progress):
        return alignment
    found = diagnosed(recorded, progress)
    if isinstance(found, str):
        return alignment.with_remarks(remark(message("warning.no_diagnosis", reason=found)))
    return _compared(recorded, found)


def _look_closer(
    recorded: Recorded, alignment: Alignment, open_target: OpenTarget, progress: Progress
) -> Alignment:
    """The alignment with the outcomes of matrix and magnifier, if requested.

    Both open the device again with something changed.
    """
    run = recorded.prepared.run
    if run.wants_matrix:
        cells = run_matrix(_matrix_plan(recorded, open_target), alignment, progress)
        alignment = alignment.model_copy(update={"matrix": cells})
    if run.options.magnify:
        found = run_magnifier(_magnifier_plan(recorded, open_target), progress)
        alignment = added(alignment, found)
    return alignment


def _matrix_plan(recorded: Recorded, open_target: OpenTarget) -> MatrixPlan:
    run = recorded.prepared.run
    return MatrixPlan(
        candidate=recorded.candidate,
        baseline=recorded.baseline,
        suite=run.suite,
        spec=run.options.spec,
        open_target=open_target,
        allow=run.options.allow,
    )


def _magnifier_plan(recorded: Recorded, open_target: OpenTarget) -> MagnifierPlan:
    run, file = recorded.prepared.run, recorded.prepared.recording_file
    return MagnifierPlan(
        spec=run.options.spec,
        suite=run.suite,
        suite_source=run.options.suite,
        baseline=recorded.baseline,
        candidate=recorded.candidate,
        open_target=open_target,
        recordings=file.parent,
        stem=file.stem,
        allow=run.options.allow,
        harness=run.options.harness,
    )
