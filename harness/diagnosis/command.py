"""A diagnosis of recordings: the oracle is opened, asked and closed."""

from __future__ import annotations

from pathlib import Path

from harness.alignment.diagnosis import Diagnosis
from harness.baseline.baseline import Baseline
from harness.devices.oracle import SensitiveDevice
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.diagnosis.errors import Errors
from harness.diagnosis.kept import kept_file
from harness.diagnosis.listed import errors_seen
from harness.diagnosis.run import diagnose
from harness.errors import UsageError
from harness.model.embedded import cache_folder
from harness.process.memory import keep_large_blocks_apart
from harness.process.progress import Progress
from harness.recording.format import Recording
from harness.recording.recorder import opened


def diagnosis_of(
    candidate: Recording, baseline: Baseline, spec: DeviceSpec, progress: Progress
) -> Diagnosis:
    """Which change of the oracle's computation explains the candidate's error.

    Args:
        spec: where the oracle runs, and its model; the dtype is float32.

    Raises:
        UsageError: if the recordings do not allow it, the device cannot, or the model is
            not the baseline's.
        HarnessError: errors of the device and the model.
    """
    keep_large_blocks_apart()
    errors = errors_seen(candidate, baseline)
    target = open_target(spec, progress=progress)
    mine, theirs = target.subject.facts, baseline.reference.model
    if mine.weights != theirs.weights:
        raise UsageError(
            f"the model {mine.name!r} is not the baseline's, {theirs.name!r}: other weights; "
            "name the checkpoint that the baseline was made from with --model"
        )
    keep = kept_file(cache_folder(), errors, str(mine.weights))
    return _asked(errors, target.device, progress, keep)


def _asked(errors: Errors, device: object, progress: Progress, keep: Path) -> Diagnosis:
    with opened(device, progress):  # type: ignore[arg-type]
        if not isinstance(device, SensitiveDevice):
            raise UsageError("gradients are taken on hf-cpu; use --device hf-cpu")
        return diagnose(errors, device.sensitivity(errors.chosen), progress, keep)
