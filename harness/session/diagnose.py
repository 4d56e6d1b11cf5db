"""Whether a run is diagnosed, and the diagnosis, which never stops the run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.alignment.comparability import checkpoint_differences
from harness.alignment.diagnosis import Diagnosis
from harness.alignment.outcomes import exit_status
from harness.alignment.result import Alignment
from harness.devices.kinds import REFERENCE_DEVICE
from harness.devices.spec import DeviceSpec
from harness.diagnosis.command import diagnosis_of
from harness.diagnosis.errors import MOST_PROMPTS
from harness.errors import HarnessError
from harness.model.find import at_hand
from harness.model.hub import first_line, is_installed
from harness.process.memory import available_bytes
from harness.process.progress import Progress
from harness.recording.format import Recording
from harness.session.record import Recorded

#: What the oracle is computed with.
PACKAGES = ("torch", "transformers")
#: Bytes for each parameter: float32 weights, and five of what rounding does to them, which are
#: kept where they take three quarters of the rest; computed anew they take ten times as long.
#: And bytes for everything else.
_EACH, _BESIDE = 11, 1 << 30
#: Each prompt takes as long as so many tokens more: gradients are reduced weight by weight,
#: whatever its length. Measured on the embedded model: 5.2 s of a core for 20 tokens, 6.5 s
#: for 100.
_FOR_PROMPT = 300
#: Parameters times tokens of a diagnosis that nobody asked for: some 13 minutes on two cores, at
#: the most that was measured (docs/status.md: 270 s for 135 million and 36 prompts of 94).
_MOST_WORK = 5 * 10**12


def wanted(recorded: Recorded, alignment: Alignment, progress: Progress) -> bool:
    """Whether this run is diagnosed: where it was asked for, or by default where the verdict
    is bad and the reference model is at hand; who selects other checks than the verdict's does
    not wait for it. Says why, where only the model is missing."""
    run = recorded.prepared.run
    asked = run.options.diagnose
    if not alignment.comparability.comparable or asked is False:
        return False
    if asked:
        return True
    if exit_status(alignment.verdict) != 1 or run.is_part or not run.asks_verdict:
        return False
    if not run.options.spec.kind.needs_model:
        return False
    missing = not_at_hand(recorded)
    if missing is None:
        progress.note(
            f"the verdict is {alignment.verdict}; looking for the change of the model that "
            "explains it (--no-diagnose leaves that out)"
        )
        return True
    progress.note(f"no diagnosis: {missing}; where there is one: {_command(recorded)}")
    return False


def not_at_hand(
    recorded: Recorded, available: int | None = None, packages: Sequence[str] = PACKAGES
) -> str | None:
    """Why the reference model cannot be asked here at once; None where it can.

    Args:
        available: bytes of memory; by default what this process may still take.
        packages: what has to be installed.
    """
    options, theirs = recorded.prepared.run.options, recorded.baseline.reference.model
    missing = next((name for name in packages if not is_installed(name)), None)
    if missing is not None:
        return f"{missing} is not installed here"
    if checkpoint_differences(recorded.prepared.target.subject.facts, theirs):
        return f"the reference's checkpoint is another one than {options.spec.model}"
    if not at_hand(options.spec.model):
        return f"the weights of {options.spec.model} are not on this machine"
    if theirs.parameters is None:
        return "the baseline does not tell how large its model is"
    free = available_bytes() if available is None else available
    return _too_large(theirs.parameters, recorded.baseline.reference, free)


def _too_large(parameters: int, reference: Recording, free: int | None) -> str | None:
    """Why nobody should wait for it, or there is no room for it; None where neither is so."""
    prompts, count = reference.prompts, min(len(reference.prompts), MOST_PROMPTS)
    all_tokens = sum(len(p.prompt_token_ids) + len(p.run.token_ids) for p in prompts)
    tokens = all_tokens * count // len(prompts)
    if parameters * (tokens + _FOR_PROMPT * count) > _MOST_WORK:
        return (
            f"{parameters / 1e9:.2g} billion parameters and {count} prompts of "
            f"{tokens} tokens take longer than a run should wait"
        )
    takes = _EACH * parameters + _BESIDE
    if free is not None and takes > free:
        return f"in float32 it takes {takes / 2**30:.1f} GiB, and {free / 2**30:.1f} are available"
    return None


def diagnosed(recorded: Recorded, progress: Progress) -> Diagnosis | str:
    """What explains the error, or in one line why that cannot be told."""
    own = recorded.prepared.run.options.spec
    spec = DeviceSpec(
        REFERENCE_DEVICE, own.model, "float32", trust_remote_code=own.trust_remote_code
    )
    try:
        return diagnosis_of(recorded.candidate, recorded.baseline, spec, progress)
    except HarnessError as error:
        return str(error)
    except Exception as error:
        # Whatever torch or a model's own code raises: the verdict stands without it.
        return f"{type(error).__name__}: {first_line(error)}"


def _command(recorded: Recorded) -> str:
    """The command that diagnoses this run's recording."""
    prepared = recorded.prepared
    options = prepared.run.options
    files = [prepared.recording_file.as_posix(), prepared.folder.as_posix()]
    parts = [*options.harness, "diagnose", *files, "--model", options.spec.model]
    return shlex.join([*parts, *options.allow.options()])
