"""A diagnosis of recordings: the oracle is opened, asked and closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.alignment.diagnosis import Diagnosis
from harness.baseline.baseline import Baseline
from harness.devices.oracle import ChosenIds, Oracle, SensitiveDevice
from harness.devices.registry import Target, open_target
from harness.devices.spec import DeviceSpec
from harness.diagnosis import stored
from harness.diagnosis.errors import Errors, errors_of
from harness.diagnosis.kept import Kept, kept_file
from harness.diagnosis.listed import errors_seen
from harness.diagnosis.remembered import Remembered, remembered_in
from harness.diagnosis.run import arms_of, diagnose
from harness.errors import UsageError
from harness.files.user_folder import cache_folder
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
    errors = errors_seen(candidate, baseline)
    target, going = _target(errors, baseline, spec, progress)
    keep = kept_file(cache_folder(), errors, str(target.subject.facts.weights))
    beside = _stored(baseline, errors, keep.stem, progress)
    with _asked(target, going, progress, errors.chosen) as oracle:
        return diagnose(errors, oracle, progress, keep, beside)


def store_arms(baseline: Baseline, spec: DeviceSpec, progress: Progress) -> Path:
    """Put what a diagnosis has of the arms beside them, so that a candidate costs one pass.

    Args:
        baseline: one in a folder.
        spec: where the oracle runs, and its model; the dtype is float32.

    Returns:
        The file.

    Raises:
        UsageError: if the arms do not allow it, the device cannot, or the model is not the
            baseline's.
        HarnessError: errors of the device and the model, or if the file cannot be written.
    """
    if baseline.folder is None:
        raise UsageError("only a baseline in a folder has room for the arms' scores")
    errors = errors_of(baseline.reference, baseline)
    target, going = _target(errors, baseline, spec, progress)
    digest = kept_file(cache_folder(), errors, str(target.subject.facts.weights)).stem
    with _asked(target, going, progress) as oracle:
        kept = arms_of(errors, oracle, progress)
    stored.write(baseline.folder / stored.NAME, kept, digest)
    return baseline.folder / stored.NAME


def _target(
    errors: Errors, baseline: Baseline, spec: DeviceSpec, progress: Progress
) -> tuple[Target, Path]:
    """The oracle's device, and where its answers are kept until the end."""
    keep_large_blocks_apart()
    target = open_target(spec, progress=progress)
    mine, theirs = target.subject.facts, baseline.reference.model
    if mine.weights != theirs.weights:
        raise UsageError(
            f"the model {mine.name!r} is not the baseline's, {theirs.name!r}: other weights; "
            "name the checkpoint that the baseline was made from with --model"
        )
    about = {**mine.model_dump(mode="json", exclude={"name"}), "packages": _versions()}
    return target, remembered_in(cache_folder(), errors, about)


def _stored(baseline: Baseline, errors: Errors, digest: str, progress: Progress) -> Kept | None:
    """What came with the baseline, if it fits; says which of the two."""
    file = None if baseline.folder is None else baseline.folder / stored.NAME
    if file is None or errors.chosen is not None or not file.is_file():
        return None  # it is of whole rows
    found = stored.read(file, errors, digest)
    if isinstance(found, str):
        progress.note(f"{file.as_posix()} is not used: {found}")
        return None
    progress.note(f"the arms' scores are those of {file.as_posix()}")
    return found


@contextmanager
def _asked(
    target: Target, going: Path, progress: Progress, chosen: ChosenIds | None = None
) -> Iterator[Oracle]:
    """The open oracle; what it said is forgotten once all is done."""
    device = target.device
    with opened(device, progress):
        if not isinstance(device, SensitiveDevice):
            raise UsageError("gradients are taken on hf-cpu; use --device hf-cpu")
        oracle = Remembered(device.sensitivity(chosen), going, progress)
        yield oracle
    oracle.forget()


def _versions() -> dict[str, str]:
    """Of the packages that compute the answers."""
    found = {}
    for package in ("numpy", "torch", "transformers"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
