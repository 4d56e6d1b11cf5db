"""``harness verify``: judge tokens by one forced-prefill pass per prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.alignment.align import compare
from harness.alignment.given import Given, given_tokens, refuse_repeats
from harness.alignment.result import Alignment
from harness.alignment.tokens import compare_tokens
from harness.baseline.make import Plan, arms_in_memory
from harness.devices.spec import DeviceSpec
from harness.errors import FormatError
from harness.files.jsonfile import begins_with_schema
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording
from harness.recording.plain import PlainList, load_plain
from harness.suite.suite import Generation, Prompt, Suite


def verify_file(
    path: Path,
    spec: DeviceSpec,
    *,
    oracle: bool = True,
    controls: bool = True,
    progress: Progress,
) -> Alignment:
    """Build the arms around the file's own tokens, and judge them.

    Args:
        path: a recording, or a plain list of another tool (see
            ``harness.recording.plain``), whose prompts the model's tokenizer
            encodes where it gives their texts only. A plain list holds no
            logits, so its best verdict is INCONCLUSIVE.
        spec: where to judge; without a dtype in the recording's own.
        oracle, controls: leave out for speed; the verdict says less.

    Raises:
        FormatError: if the file is neither, or holds one prompt twice.
        EmptyComparison: if the list is empty.
        HarnessError: errors of the model or the device.
    """
    held = load_plain(path) if not begins_with_schema(path, "harness.") else load_recording(path)
    if held is None:
        problem = 'is neither a recording nor a list of {"prompt_token_ids", "token_ids"}'
        raise FormatError(str(path), None, problem)
    if isinstance(held, PlainList):
        asked, warnings = given_tokens(held, spec, progress)
        plan = Plan(spec, _plain_suite(path, asked), Path(), _context(asked), subject=asked.subject)
        baseline = arms_in_memory(plan, progress, oracle=oracle, controls=controls)
        outputs = {name: output for name, (_, output) in asked.tokens.items()}
        return compare_tokens(outputs, baseline, file=path.as_posix(), warnings=warnings)
    recording = _own_runs(held)
    context = Context.of(recording)
    refuse_repeats(list(context.tokens), context.tokens.values(), path)
    spec = replace(spec, dtype=spec.dtype or recording.dtype)
    plan = Plan(spec, _suite(recording), Path(), context)
    baseline = arms_in_memory(plan, progress, oracle=oracle, controls=controls)
    if recording.text_only:  # tokens without rows, as some servers give them
        outputs = {p.id: p.run.token_ids for p in recording.prompts}
        return compare_tokens(outputs, baseline, file=path.as_posix(), warnings=())
    return compare(recording, baseline, candidate_file=path.as_posix())


def _own_runs(recording: Recording) -> Recording:
    """Without the replays of prompts that ran free: those follow the tokens of the
    baseline that was at hand then, and here each free run is judged on its own."""
    prompts = tuple(
        p if p.free is None else p.model_copy(update={"forced": None}) for p in recording.prompts
    )
    return recording.model_copy(update={"prompts": prompts})


def _suite(recording: Recording) -> Suite:
    """The recording's own prompts, as token ids; its suite file is not needed."""
    prompts = tuple(
        Prompt(id=p.id, line=0, token_ids=p.prompt_token_ids) for p in recording.prompts
    )
    settings = recording.settings
    generation = Generation(settings.max_new_tokens, settings.ignore_eos)
    return Suite(
        recording.suite.name,
        Path(recording.suite.name),
        prompts,
        generation,
        recording.suite.digest,
        given=True,
    )


def _plain_suite(path: Path, asked: Given) -> Suite:
    prompts = tuple(
        Prompt(id=name, line=0, token_ids=prompt) for name, (prompt, _) in asked.tokens.items()
    )
    longest = max(len(output) for _, output in asked.tokens.values())
    generation = Generation(longest, ignore_eos=True)
    return Suite(path.stem, path, prompts, generation, digest="", given=True)


def _context(asked: Given) -> Context:
    return Context("tokens", asked.tokens)
