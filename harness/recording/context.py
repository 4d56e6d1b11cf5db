"""Context tokens: those that a run is conditioned on, and the recording they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.process.progress import Progress
from harness.recording.format import (
    Recording,
)
from harness.suite.suite import Suite


@dataclass(frozen=True)
class Context:
    """Tokens to force: for each prompt id its prompt and output token ids."""

    device: str
    tokens: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @classmethod
    def of(cls, recording: Recording) -> Context:
        """What a recording's free runs chose, or its forced ones followed.

        Raises:
            UsageError: if it holds no tokens.
        """
        if recording.text_only:
            raise UsageError(
                f"the recording of {recording.device} holds text only, so there are no tokens "
                "to follow; record on a device, or from a server, that gives token ids"
            )
        return cls(
            recording.device,
            {p.id: (p.prompt_token_ids, p.run.token_ids) for p in recording.prompts},
        )


def context_for(suite: Suite, recording: Recording, path: Path, progress: Progress) -> Context:
    """The tokens to force on ``suite``, from the recording of ``path``.

    What is made around tokens of another length could be held against nothing:
    not against the recording, and not against runs of the suite. Token ids are
    compared later, when there is a tokenizer.

    Raises:
        UsageError: if it was made with other settings, or lacks a prompt.
    """
    generation = suite.generation
    for name, asked, remedy in (
        ("max_new_tokens", generation.max_new_tokens, "give --max-new-tokens {}"),
        ("ignore_eos", generation.ignore_eos, f"set ignore_eos to {{}} in {suite.path}"),
    ):
        made = getattr(recording.settings, name)
        if made != asked:
            told, wanted = str(made).lower(), str(asked).lower()
            raise UsageError(
                f"{path} was made with {name} {told}, this asks for {wanted}; {remedy.format(told)}"
            )
    missing = next((p.id for p in suite.prompts if recording.prompt(p.id) is None), None)
    if missing is not None:
        raise UsageError(
            f"{path} has no prompt {missing} of suite {suite.name}, so there are no tokens to "
            "force; name the suite that it was made from"
        )
    if recording.suite.digest != suite.digest:
        progress.note(
            f"{path} is of another suite than {suite.path} (or of more prompts), so it cannot "
            "itself be judged by what is made here"
        )
    return Context.of(recording)
