"""Baselines: the arms of one model, suite and dtype, approved by being committed.

baselines/<model>/<suite>/<dtype>/
    reference.json      Transformers, model dtype
    oracle.json         Transformers, float32, forced-prefill
    control-*.json      model dtype, other kernel paths
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from harness.alignment.controls import disagreement
from harness.errors import BaselineError
from harness.recording import Recording, load_recording

DEFAULT_FOLDER = Path("baselines")
REFERENCE, ORACLE, CONTROL = "reference", "oracle", "control-"
#: Fewer than this many controls give no noise floor to trust.
MIN_CONTROLS = 2


@dataclass(frozen=True)
class Baseline:
    """The arms that a candidate is held against.

    A single recording serves as a baseline with a reference alone.
    """

    reference: Recording
    oracle: Recording | None = None
    controls: Mapping[str, Recording] = field(default_factory=dict)
    folder: Path | None = None

    def file(self, arm: str) -> str:
        """Where an arm was read from; empty for one made in memory."""
        return "" if self.folder is None else (self.folder / f"{arm}.json").as_posix()

    def arms(self) -> Iterator[tuple[str, Recording]]:
        """Name and recording of every arm, reference first."""
        yield REFERENCE, self.reference
        if self.oracle is not None:
            yield ORACLE, self.oracle
        yield from self.controls.items()


def baseline_folder(root: Path, model_slug: str, suite: str, dtype: str) -> Path:
    """The place of one baseline."""
    return root / model_slug / suite / dtype


def is_baseline(folder: Path) -> bool:
    """Whether there is a baseline to load, a half-replaced one included."""
    recover(folder)
    return (folder / f"{REFERENCE}.json").is_file()


def load_baseline(folder: Path) -> Baseline:
    """Read all arms and see that they belong together.

    Raises:
        BaselineError: if arms are missing, or answer different questions.
        FormatError, ChecksumError: if a file is damaged.
    """
    if not is_baseline(folder):
        raise BaselineError(
            f"{folder}: no baseline here (no {REFERENCE}.json); make one with "
            "`harness baseline make` or `pytest --device=hf-cpu`"
        )
    arms = {path.stem: load_recording(path) for path in sorted(folder.glob("*.json"))}
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


def check_arm(name: str, arm: Recording, reference: Recording, *, may_equal: bool = False) -> None:
    """An arm must answer the reference's question on the same tokens, and a
    control must differ from it (unless ``may_equal``: the caller sees to it).

    Raises:
        BaselineError: naming the arm and what is wrong with it.
    """
    if not arm.whole or arm.text_only:
        raise BaselineError(
            f"{name}: it holds a server's log-probabilities or texts, and a baseline needs whole "
            "rows; make it on a Transformers device"
        )
    if name == REFERENCE:
        return
    for what, mine, theirs in (
        ("device", arm.device, reference.device),
        ("suite", arm.suite.digest, reference.suite.digest),
        ("weights", arm.model.weights, reference.model.weights),
        ("config", arm.model.config, reference.model.config),
        ("tokenizer", arm.model.tokenizer, reference.model.tokenizer),
        ("settings", arm.settings, reference.settings),
        ("prompts", [p.id for p in arm.prompts], [p.id for p in reference.prompts]),
        ("dtype", "float32" if name == ORACLE else reference.dtype, arm.dtype),
    ):
        if mine != theirs:
            raise BaselineError(f"{name}: its {what} is not the reference's; make it again")
    if name == ORACLE and any(p.run.replay != "forced-prefill" for p in arm.prompts):
        raise BaselineError(f"{name}: it was not made by forced-prefill; make it again")
    for prompt in reference.prompts:
        record = arm.prompt(prompt.id)
        context = prompt.run.token_ids
        if (
            record is None
            or record.prompt_token_ids != prompt.prompt_token_ids
            or record.on(context).token_ids != context
        ):
            raise BaselineError(
                f"{name}: prompt {prompt.id} does not follow the reference's tokens; make it again"
            )
        broken = record.on(context).rows.nonfinite > 0
        if (broken & (prompt.run.rows.nonfinite == 0)).any():
            raise BaselineError(
                f"{name}: prompt {prompt.id} has NaN or infinite logits where the reference has "
                "none, so it measures nothing; make it again on another device"
            )
    if name.startswith(CONTROL) and not may_equal and equals_reference(arm, reference):
        raise BaselineError(
            f"{name}: every row is bit-equal to the reference's, so it shows no noise; "
            "a control must take another kernel path"
        )


def equals_reference(arm: Recording, reference: Recording) -> bool:
    """Whether an arm's rows are all bit-equal to the reference's."""
    for prompt in reference.prompts:
        record = arm.prompt(prompt.id)
        if record is None:
            return False
        rows = record.on(prompt.run.token_ids).rows
        if rows.digest is None or prompt.run.rows.digest is None:
            return False
        if rows.digest.tobytes() != prompt.run.rows.digest.tobytes():
            return False
    return True


def resolve(path: Path) -> Baseline | Recording:
    """A baseline folder, or a single recording."""
    return load_baseline(path) if path.is_dir() else load_recording(path)


def find_baselines(root: Path) -> list[Path]:
    """All baseline folders below ``root``, sorted."""
    return sorted(
        path.parent
        for path in root.glob(f"*/*/*/{REFERENCE}.json")
        if not path.parent.name.startswith(".")
    )


def staging_folder(folder: Path) -> Path:
    """Where a baseline is made before it takes its place."""
    return folder.parent / f".{folder.name}.making"


def put_in_place(folder: Path) -> None:
    """Swap the finished staging folder in, whole.

    Raises:
        BaselineError: if the folder cannot be written; what stood there
            before stays.
    """
    staging, old = staging_folder(folder), _old(folder)
    try:
        if folder.exists():
            # Left by a swap that was cut off after its second rename.
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(staging, folder)
    except OSError as error:
        recover(folder)
        raise BaselineError(f"{folder}: cannot be written ({error.strerror})") from error
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Undo a swap that was cut off between its two renames."""
    old = _old(folder)
    if old.is_dir() and not folder.exists():
        with contextlib.suppress(OSError):  # a read-only checkout: nothing to load either way
            os.rename(old, folder)


def leftovers(root: Path) -> list[Path]:
    """Staging and set-aside folders that no finished making left behind."""
    return sorted([*root.glob("*/*/.*.making"), *root.glob("*/*/.*.old")])


def _old(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.old"  # "." has no name to replace
