"""A diagnosis of recordings: the oracle is opened, asked and closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.alignment.comparability import checkpoint_differences
from harness.alignment.diagnosis import Diagnosis
from harness.baseline.baseline import Baseline
from harness.devices.base import LayeredDevice
from harness.devices.memory import Weights, does_not_fit, streamed
from harness.devices.oracle import ChosenIds, Oracle, SensitiveDevice
from harness.devices.registry import Target, open_target
from harness.devices.spec import DeviceSpec
from harness.diagnosis import stored
from harness.diagnosis.errors import MOST_PROMPTS, Errors, errors_of, spread
from harness.diagnosis.kept import Kept, kept_file
from harness.diagnosis.listed import errors_seen
from harness.diagnosis.remembered import Remembered, remembered_in
from harness.diagnosis.run import arms_of, diagnose
from harness.errors import HarnessError, UsageError
from harness.files.atomic import make_folder
from harness.files.locks import locked_folder
from harness.files.user_folder import cache_folder
from harness.model.facts import ModelFacts
from harness.process.memory import keep_large_blocks_apart
from harness.process.progress import Progress
from harness.recording.format import Recording
from harness.recording.recorder import opened
from harness.statistics.rows import NORMAL, SKETCH_WIDTH

#: So many fields are named of another checkpoint.
_NAMED = 4
#: What is kept of streamed layers, beside the answers of a diagnosis under way.
_LAYERS = "layers"
_NO_GRADIENTS = "gradients are taken on hf-cpu; use --device hf-cpu"


def diagnosis_of(
    candidate: Recording,
    baseline: Baseline,
    spec: DeviceSpec,
    progress: Progress,
    weights: Weights = "auto",
    most: int | None = None,
) -> Diagnosis:
    """Which change of the oracle's computation explains the candidate's error.

    Args:
        spec: where the oracle runs, and its model; the dtype is float32.
        weights: where the oracle has them.
        most: prompts that are looked at; ``MOST_PROMPTS`` without.

    Raises:
        UsageError: if the recordings do not allow it, the device cannot, or the model is
            not the baseline's.
        HarnessError: errors of the device and the model.
    """
    candidate, baseline = _spread(candidate, baseline, most or MOST_PROMPTS, progress)
    errors = errors_seen(candidate, baseline)
    _tell_common(errors, candidate, progress)
    one = _open_target(errors, baseline, spec, progress, weights)
    keep = kept_file(cache_folder(), errors, _facts(baseline, one.target))
    beside = _stored(baseline, errors, keep.stem, progress)
    with _asked(one, progress, errors.chosen, errors.buckets) as oracle:
        return diagnose(errors, oracle, progress, keep, beside)


def store_arms(
    baseline: Baseline, spec: DeviceSpec, progress: Progress, weights: Weights = "auto"
) -> Path:
    """Put what a diagnosis has of the arms beside them, so that a candidate costs one pass.

    Args:
        baseline: one in a folder.
        spec: where the oracle runs, and its model; the dtype is float32.
        weights: where the oracle has them.

    Returns:
        The file.

    Raises:
        UsageError: if the arms do not allow it, the device cannot, or the model is not the
            baseline's.
        HarnessError: errors of the device and the model, or if the file cannot be written.
    """
    if baseline.folder is None:
        raise UsageError("only a baseline in a folder has room for the arms' scores")
    _, some = _spread(baseline.reference, baseline, MOST_PROMPTS, progress)
    errors = errors_of(some.reference, some)
    one = _open_target(errors, baseline, spec, progress, weights)
    digest = kept_file(cache_folder(), errors, _facts(baseline, one.target)).stem
    with _asked(one, progress, buckets=errors.buckets) as oracle:
        kept = arms_of(errors, oracle, progress)
    stored.write(baseline.folder / stored.NAME, kept, digest)
    return baseline.folder / stored.NAME


def _spread(
    candidate: Recording, baseline: Baseline, most: int, progress: Progress
) -> tuple[Recording, Baseline]:
    """As ``spread``; says where it leaves some out."""
    mine, theirs = spread(candidate, baseline, most)
    if mine is not candidate:
        progress.note(
            f"{most} prompts are looked at, spread over the suite; --prompts takes more of them"
        )
    return mine, theirs


@dataclass(frozen=True)
class _Chosen:
    """The oracle's device, where its answers are kept until the end, and whether its weights stay
    on disk."""

    target: Target
    going: Path
    streams: bool


def _open_target(
    errors: Errors, baseline: Baseline, spec: DeviceSpec, progress: Progress, weights: Weights
) -> _Chosen:
    if spec.kind.family != "transformers":
        raise UsageError(_NO_GRADIENTS)
    keep_large_blocks_apart()
    target = open_target(spec, progress=progress)
    why = does_not_fit(spec, target.subject.facts, "float32") if weights == "auto" else None
    if why is not None:
        progress.note(f"{why}, so the weights are read layer by layer")
    streams = why is not None or weights == "stream"
    if streams:
        target = open_target(streamed(spec), subject=target.subject, progress=progress)
    mine, theirs = target.subject.facts, baseline.reference.model
    other = checkpoint_differences(mine, theirs)
    if theirs.weights is None:
        other = ("weights",)  # nobody knows whether they are the same
    if other:
        raise UsageError(
            f"the model {mine.name!r} is not the baseline's, {theirs.name!r}: other "
            f"{', '.join(other[:_NAMED])}; name the checkpoint that the baseline was made from "
            "with --model"
        )
    about = mine.model_dump(mode="json", exclude={"name"})
    return _Chosen(target, remembered_in(cache_folder(), errors, about), streams)


def _facts(baseline: Baseline, target: Target) -> ModelFacts:
    """What the arms' scores are of: as the baseline tells it, which is the same on every
    machine, with every release of Transformers."""
    theirs = baseline.reference.model
    return target.subject.facts if theirs.config is None else theirs


def _stored(baseline: Baseline, errors: Errors, digest: str, progress: Progress) -> Kept | None:
    """What came with the baseline, if it fits; says which of the two."""
    file = None if baseline.folder is None else baseline.folder / stored.NAME
    if file is None or errors.chosen is not None or not file.is_file():
        return None  # it is of whole rows
    full = baseline.reference.detail or NORMAL
    if errors.buckets < full.buckets:
        progress.note(
            f"{file.as_posix()} is not used: it is of {full.buckets} buckets a row, and the "
            f"candidate has {errors.buckets}; record it in the baseline's detail to use it"
        )
        return None
    found = stored.read(file, errors, digest)
    if isinstance(found, str):
        progress.note(f"{file.as_posix()} is not used: {found}")
        return None
    progress.note(f"the arms' scores are those of {file.as_posix()}")
    return found


def _tell_common(errors: Errors, candidate: Recording, progress: Progress) -> None:
    """Say where the candidate's rows hold more than is looked at."""
    mine = candidate.detail
    if mine is not None and errors.buckets < mine.buckets:
        progress.note(
            f"of the candidate's {mine.buckets} buckets a row the {errors.buckets} of the baseline "
            "are looked at; make the baseline with --detail large to use more"
        )


@contextmanager
def _asked(
    one: _Chosen,
    progress: Progress,
    chosen: ChosenIds | None = None,
    buckets: int = SKETCH_WIDTH,
) -> Iterator[Oracle]:
    """The open oracle; what it said is forgotten once all is done.

    Raises:
        HarnessError: if another process streams the same diagnosis, or its folder cannot be made.
    """
    device, going = one.target.device, one.going
    with ExitStack() as stack:
        if one.streams and isinstance(device, LayeredDevice):
            _make(going)
            stack.enter_context(locked_folder(going))
            device.resume_in(going / _LAYERS, going.stem)
        with opened(device, progress):
            if not isinstance(device, SensitiveDevice):
                raise UsageError(_NO_GRADIENTS)
            oracle = Remembered(device.sensitivity(chosen, buckets, progress), going, progress)
            yield oracle
        oracle.forget()


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        told = f"{folder}: cannot be made ({error.strerror or error}); make room there"
        raise HarnessError(told) from error
