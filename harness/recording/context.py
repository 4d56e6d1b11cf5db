"""Context tokens: the tokens that a run follows, and the recording they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.messages.render import render
from harness.process.progress import Progress
from harness.recording.endings import ending_message, endings_of
from harness.recording.format import Recording
from harness.suite.suite import Suite


@dataclass(frozen=True)
class Context:
    """Tokens to force: for each prompt id its prompt and output token ids."""

    device: str
    tokens: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @classmethod
    def of(cls, recording: Recording) -> Context:
        """The tokens that a recording's free runs chose, or its forced runs followed.

        Raises:
            UsageError: if it holds no tokens.
        """
        if recording.text_only and not any(p.run.token_ids for p in recording.prompts):
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

    A recording around tokens of another length could be compared neither with
    the context recording nor with runs of the suite. Token ids are
    compared later, when there is a tokenizer.

    Raises:
        UsageError: if it was made with other settings, lacks a prompt, or holds runs
            that did not end as they say: what is made around them proves nothing.
    """
    generation = suite.generation
    for name, wanted, remedy in (
        ("max_new_tokens", generation.max_new_tokens, "give --max-new-tokens {}"),
        ("ignore_eos", generation.ignore_eos, f"set ignore_eos to {{}} in {suite.path}"),
    ):
        recorded = getattr(recording.settings, name)
        if recorded != wanted:
            actual, expected = str(recorded).lower(), str(wanted).lower()
            raise UsageError(
                f"{path}: {name} is {actual}, but this run has {expected}; {remedy.format(actual)}"
            )
    # What its model could not be given, it need not hold: this model may have no template either.
    suite = suite.without(recording.suite.left_out or ())
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
    _check_ends(recording, path, progress)
    return Context.of(recording)


def _check_ends(recording: Recording, path: Path, progress: Progress) -> None:
    endings = endings_of(recording)
    wrong = next((ending for ending in endings if ending.proven), None)
    if wrong is not None:
        said = render(ending_message([wrong]), "en")
        raise UsageError(
            f"{path}: {said}; record it again on a device that ends as its settings say"
        )
    if endings:
        said = render(ending_message(endings[:1]), "en")
        progress.note(f"{path}: {said}, so the best verdict of this recording is INCONCLUSIVE")
