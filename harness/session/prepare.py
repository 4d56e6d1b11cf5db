"""First stage: the model is found, and the baseline loaded or made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.baseline.arm_files import arm_path
from harness.baseline.baseline import REFERENCE, Baseline
from harness.baseline.folder import baseline_folder, is_baseline, load_baseline
from harness.baseline.make import Plan, make_baseline
from harness.devices.registry import Target
from harness.errors import BaselineError, HarnessError
from harness.process.progress import Progress
from harness.recording.context import context_for
from harness.recording.format import load_recording
from harness.session.options import shard_suffix
from harness.session.run import Run
from harness.statistics.rows import Detail
from harness.suite.encode import fitting


@dataclass(frozen=True)
class Prepared:
    """Everything that a run of the device needs.

    Attributes:
        target: the device and its model, not yet opened.
        folder: where the baseline of this run is, or would be.
        baseline: None if it is missing and this device cannot make one.
        made: whether this run made the baseline.
    """

    run: Run
    target: Target
    folder: Path
    baseline: Baseline | None
    made: bool = False

    @property
    def recording_file(self) -> Path:
        """Where the recording of this run goes, or where ``--context`` has it."""
        options = self.run.options
        if options.context is not None:
            return options.context
        suite, target = self.run.suite, self.target
        stem = "-".join([target.slug, suite.name, target.dtype, options.spec.device])
        # A run of a few prompts must not replace a whole run, nor a run of all of a shard.
        if options.shard is not None:
            stem += shard_suffix(options.shard)
        if self.run.is_selection:
            stem += "-selected"
        return options.report_dir / f"{stem}.json"


def prepare(run: Run, target: Target, progress: Progress) -> Prepared:
    """Load the baseline of this run, or make it where this device may make it.

    Raises:
        UsageError: if a report would overwrite a file that is read.
        BaselineError: if there is none, and ``--require-baseline`` says that there must be.
        HarnessError: errors of device, model or disk.
    """
    subject = target.subject
    suite = fitting(run.suite, subject.tokenizer, subject.facts.name, progress.note)
    run = replace(run, suite=suite)
    options, folder = run.options, _folder(run, target)
    options.outputs.refuse([options.context, folder])
    present = is_baseline(folder)
    if present and not options.update_baselines:
        return Prepared(run, target, folder, load_baseline(folder))
    if not options.spec.kind.reference:
        return Prepared(run, target, folder, None)
    if options.needs_baseline:
        raise BaselineError(
            f"{folder.as_posix()}: no baseline, and none is made here (--require-baseline, the "
            "default where CI is set); check the names of model, suite and dtype, or make it "
            f"where you can commit it: {options.remaking_command()}"
        )
    why = "replacing it (--update-baselines)" if present else "it does not exist yet, making it"
    progress.note(f"baseline {folder.as_posix()}: {why}")
    return Prepared(run, target, folder, _make(run, folder, progress), made=True)


def _folder(run: Run, target: Target) -> Path:
    """Where the baseline of this run is.

    ``--baseline-dir`` may be one baseline itself: with ``--allow-weights`` or
    ``--allow-dtype`` its path cannot be made from the candidate's name and dtype.
    """
    root = run.options.baseline_dir
    if is_baseline(root):
        return root
    return baseline_folder(root, target.slug, run.suite.name, target.dtype)


def _make(run: Run, folder: Path, progress: Progress) -> Baseline:
    options, context = run.options, None
    if (path := options.context) is not None:
        context = context_for(run.suite, load_recording(path), path, progress)
    plan = Plan(
        options.spec.plain(),
        run.suite,
        options.baseline_dir,
        context=context,
        suite_source=options.suite,
        detail=options.kept_beside(_detail_before(folder)),
    )
    return make_baseline(plan, progress)


def _detail_before(folder: Path) -> Detail | None:
    """That of the baseline that is replaced; None where there is none that can be read."""
    try:
        return load_recording(arm_path(folder, REFERENCE)).detail
    except HarnessError:
        return None
