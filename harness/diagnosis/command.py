"""A diagnosis of recordings: the oracle is opened, asked and closed."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.alignment.diagnosis import Diagnosis
from harness.baseline.baseline import Baseline
from harness.devices.oracle import SensitiveDevice
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.diagnosis.errors import Errors, errors_of
from harness.diagnosis.kept import kept_file
from harness.diagnosis.remembered import Remembered, remembered_in
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
    errors = errors_of(candidate, baseline)
    target = open_target(spec, progress=progress)
    mine, theirs = target.subject.facts, baseline.reference.model
    if mine.weights != theirs.weights:
        raise UsageError(
            f"the model {mine.name!r} is not the baseline's, {theirs.name!r}: other weights; "
            "name the checkpoint that the baseline was made from with --model"
        )
    cache = cache_folder()
    about = {**mine.model_dump(mode="json", exclude={"name"}), "packages": _versions()}
    files = kept_file(cache, errors, str(mine.weights)), remembered_in(cache, errors, about)
    return _asked(errors, target.device, progress, *files)


def _asked(
    errors: Errors, device: object, progress: Progress, keep: Path, going: Path
) -> Diagnosis:
    with opened(device, progress):  # type: ignore[arg-type]
        if not isinstance(device, SensitiveDevice):
            raise UsageError("gradients are taken on hf-cpu; use --device hf-cpu")
        oracle = Remembered(device.sensitivity(), going, progress)
        found = diagnose(errors, oracle, progress, keep)
    oracle.forget()
    return found


def _versions() -> dict[str, str]:
    """Of the packages that compute the answers."""
    found = {}
    for package in ("numpy", "torch", "transformers"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
