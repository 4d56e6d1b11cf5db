"""A baseline: its arms, and what makes them belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.baseline.arm_files import arm_path
from harness.errors import BaselineError
from harness.recording.format import Recording

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
        return "" if self.folder is None else arm_path(self.folder, arm).as_posix()

    def arms(self) -> Iterator[tuple[str, Recording]]:
        """Name and recording of every arm, reference first."""
        yield REFERENCE, self.reference
        if self.oracle is not None:
            yield ORACLE, self.oracle
        yield from self.controls.items()


def check_arm(name: str, arm: Recording, reference: Recording, *, may_equal: bool = False) -> None:
    """An arm must have the reference's prompts and context tokens, and a control
    must differ from the reference (unless ``may_equal``: the caller checks that).

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
        ("detail", arm.detail, reference.detail),
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
