"""Second stage: the device has run the suite, or its recording was read."""

from __future__ import annotations

from dataclasses import dataclass

from harness.alignment.comparability import comparability
from harness.baseline.baseline import Baseline
from harness.devices.facts import EngineFacts, LoadFigures
from harness.errors import BaselineError
from harness.files.timestamp import utc_now
from harness.process.progress import Progress
from harness.recording import recorder
from harness.recording.context import Context
from harness.recording.format import Recording, SuiteFacts, load_recording
from harness.report.recording import render_recording
from harness.session.matrix import PROMPTS
from harness.session.prepare import Prepared
from harness.statistics.rows import Detail

#: How many prompts are run twice to see whether bits repeat.
REPEATS = 2


@dataclass(frozen=True)
class Recorded:
    """The recording of the device, and the baseline that judges it.

    ``stale``: the baseline does not fit, so nothing was run, and ``candidate`` only says what
    this run would have been.
    """

    prepared: Prepared
    baseline: Baseline
    candidate: Recording
    stale: bool = False

    @property
    def file(self) -> str:
        """Where the recording is; empty where nothing was run, since what lies there is of
        an earlier run."""
        return "" if self.stale else self.prepared.recording_file.as_posix()


def record(prepared: Prepared, progress: Progress) -> Recorded:
    """Run the device, or read the recording that ``--context`` names.

    Raises:
        BaselineError: without a baseline, on a device that cannot make one; the
            recording is kept, and the error names the command that judges it.
        HarnessError: errors of device or disk.
    """
    if prepared.baseline is None:
        raise _no_baseline(prepared, progress)
    options, baseline = prepared.run.options, prepared.baseline
    if options.context is not None:
        return Recorded(prepared, baseline, load_recording(options.context))
    stand_in = _stand_in(prepared, baseline.reference)
    if not comparability(stand_in, baseline.reference, options.allow).comparable:
        progress.note("the baseline is stale, so nothing is run")
        return Recorded(prepared, baseline, stand_in, stale=True)
    candidate = _run_device(
        prepared, Context.of(baseline.reference), progress, baseline.reference.detail
    )
    return Recorded(prepared, baseline, candidate)


def _run_device(
    prepared: Prepared,
    context: Context | None,
    progress: Progress,
    detail: Detail | None = None,
) -> Recording:
    """Run the device.

    Args:
        detail: of the baseline.
    """
    run, target = prepared.run, prepared.target
    repeats = PROMPTS if run.wants_matrix else REPEATS
    return recorder.record(
        target.device,
        target.subject,
        run.suite,
        recorder.Options(
            context=context,
            prompt_ids=run.prompt_ids,
            repeats=repeats,
            shard=run.options.shard is not None and not run.is_selection,
            detail=run.options.kept_beside(detail),
        ),
        out=prepared.recording_file,
        progress=progress,
    )


def _stand_in(prepared: Prepared, reference: Recording) -> Recording:
    """The reference's rows with this run's facts: shows before hours of work
    whether the two can be compared."""
    suite, subject = prepared.run.suite, prepared.target.subject
    generation = suite.generation
    return reference.model_copy(
        update={
            "device": prepared.run.options.spec.device,
            "created": utc_now(),
            "dtype": prepared.target.dtype,
            "model": subject.facts,
            "suite": SuiteFacts.of(suite),
            "settings": subject.settings(generation.max_new_tokens, generation.ignore_eos),
            "engine": EngineFacts(),
            "environment": {},
            "load": LoadFigures(),
        }
    )


def _no_baseline(prepared: Prepared, progress: Progress) -> BaselineError:
    options, recording = prepared.run.options, prepared.recording_file
    make = options.making_command(recording)
    judge = options.judging_command(recording, prepared.folder)
    kept = "the recording is kept"
    if options.context is None:  # else it exists and must stay as it is
        made = _run_device(prepared, None, progress)
        page = recording.with_suffix(".html")
        render_recording(made, page, options.outputs.language, (make, judge))
        kept = f"the recording is kept, its texts and times are in {page.as_posix()}"
    return BaselineError(
        f"{prepared.folder.as_posix()}: no baseline, so nothing was judged; {kept}. "
        f"Judge it with: {make} && {judge}"
    )
