"""Baselines: the arms of one model, suite and dtype, approved by being committed.

baselines/<model>/<suite>/<dtype>/
    reference.json      Transformers, model dtype
    oracle.json         Transformers, float32, forced-prefill
    control-*.json      model dtype, other kernel paths

Each may be compressed, as ``reference.json.gz``.
"""

from __future__ import annotations

import contextlib
import os
from itertools import combinations
from pathlib import Path

from harness.baseline.arm_files import (
    arm_path,
    arm_paths,
    carry_over,
    clear,
    entries,
    is_linked,
    is_own,
    refuse_others,
    refuse_strangers,
)
from harness.baseline.baseline import (
    CONTROL,
    MIN_CONTROLS,
    ORACLE,
    REFERENCE,
    Baseline,
    check_arm,
    equals_reference,
)
from harness.baseline.controls import disagreement
from harness.errors import BaselineError, HarnessError
from harness.files.gzipped import SUFFIX
from harness.recording.format import Recording, load_recording, new_shelf
from harness.recording.shelf import Shelf

DEFAULT_FOLDER = Path("baselines")


def baseline_folder(root: Path, model_slug: str, suite: str, dtype: str) -> Path:
    """The folder of one baseline."""
    return root / model_slug / suite / dtype


def is_baseline(folder: Path) -> bool:
    """Whether there is a baseline to load, a half-replaced one included."""
    recover(folder)
    return arm_path(folder, REFERENCE).is_file()


def load_baseline(folder: Path, shelf: Shelf | None = None) -> Baseline:
    """Read all arms and check that they belong together.

    Args:
        shelf: shared with the candidate's recording.

    Raises:
        BaselineError: if arms are missing, or do not belong together.
        FormatError, ChecksumError: if a file is damaged.
    """
    if not is_baseline(folder):
        raise BaselineError(
            f"{folder}: no baseline here (no {REFERENCE}.json); make one with "
            "`harness baseline make` or `pytest --device=hf-cpu`"
        )
    shelf = shelf or new_shelf()
    arms = {name: load_recording(path, shelf) for name, path in arm_paths(folder).items()}
    controls = {name: arm for name, arm in arms.items() if name.startswith(CONTROL)}
    if ORACLE not in arms or len(controls) < MIN_CONTROLS:
        missing = f"{ORACLE}.json" if ORACLE not in arms else f"a {CONTROL}*.json"
        raise BaselineError(
            f"{folder}: the baseline is incomplete, {missing} is missing; restore it or make it "
            "again with `harness baseline make`"
        )
    baseline = Baseline(arms[REFERENCE], arms[ORACLE], controls, folder)
    for name, arm in baseline.arms():
        try:
            check_arm(name, arm, baseline.reference)
        except BaselineError as error:
            raise BaselineError(f"{folder}: {error}") from error
    for name, control in controls.items():
        wrong = disagreement(control, baseline.reference, arms[ORACLE])
        if wrong is not None:
            raise BaselineError(f"{folder}: {name}: {wrong}; make the baseline again")
    for one, other in combinations(controls, 2):
        if equals_reference(controls[one], controls[other]):
            raise BaselineError(
                f"{folder}: {one} and {other} hold the same rows, so they are one control; "
                "make the baseline again"
            )
    return baseline


def resolve(path: Path, shelf: Shelf | None = None) -> Baseline | Recording:
    """A baseline folder, or a single recording; ``shelf`` as of :func:`load_baseline`."""
    return load_baseline(path, shelf) if path.is_dir() else load_recording(path, shelf)


def find_baselines(root: Path) -> list[Path]:
    """All baseline folders below ``root``, sorted; also those that links lead to."""
    found = {
        path.parent
        for suffix in ("", SUFFIX)
        for path in root.glob(f"*/*/*/{REFERENCE}.json{suffix}")
    }
    return sorted(folder for folder in found if not folder.name.startswith("."))


def staging_folder(folder: Path) -> Path:
    """The folder in which a baseline is made before it is put in place."""
    return folder.parent / f".{folder.name}.making"


def put_in_place(folder: Path) -> None:
    """Swap the finished staging folder in, whole; the user's files of the old one move over.

    Raises:
        HarnessError: if the folder cannot be written; the earlier baseline stays.
        BaselineError: if it holds an arm that the harness did not write; likewise.
    """
    staging, old = staging_folder(folder), _old(folder)
    check_place(folder)
    try:
        if folder.exists():
            if os.path.lexists(old):
                # Left by a swap that was cut off after its second rename.
                carry_over(old, folder)
                clear(old)
            os.rename(folder, old)
        os.rename(staging, folder)
    except OSError as error:
        recover(folder)
        raise HarnessError(f"{folder}: cannot be written ({error.strerror})") from error
    with contextlib.suppress(OSError):
        if old.is_dir():
            carry_over(old, folder)
            clear(old)


def check_place(folder: Path) -> None:
    """Check that a baseline can be put here, and nothing but a baseline is replaced.

    Raises:
        BaselineError: naming what is in the way.
    """
    for path in (folder, staging_folder(folder), _old(folder)):
        if path.is_symlink():
            raise BaselineError(
                f"{path}: is a link, and a baseline is not written through one; "
                "remove it or choose another --baseline-dir"
            )
        if path.exists() and not path.is_dir():
            raise BaselineError(f"{path}: is a file, and a baseline is a folder; move it away")
    refuse_strangers(folder)
    refuse_others(staging_folder(folder))
    if not any(map(is_own, entries(_old(folder)))):
        refuse_others(_old(folder))


def recover(folder: Path) -> None:
    """Undo a swap that was cut off between its two renames."""
    old = _old(folder)
    if old.is_dir() and not old.is_symlink() and not os.path.lexists(folder):
        with contextlib.suppress(OSError):  # a read-only checkout: nothing to load either way
            os.rename(old, folder)


def leftovers(root: Path) -> list[Path]:
    """Staging and set-aside folders that interrupted runs left behind; none through a link."""
    found = sorted([*root.glob("*/*/.*.making"), *root.glob("*/*/.*.old")])
    return [path for path in found if path.is_dir() and not is_linked(root, path)]


def _old(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.old"  # "." has no name to replace
