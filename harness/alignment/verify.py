"""``harness verify``: judge tokens by one forced-prefill pass per prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from harness.alignment.align import compare
from harness.alignment.result import Alignment
from harness.alignment.tokens import compare_tokens
from harness.baseline.make import Plan, arms_in_memory
from harness.devices.spec import DeviceSpec
from harness.errors import EmptyComparison, FormatError
from harness.files import jsonfile
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.format import SCHEMAS, Recording, load_recording
from harness.suite.suite import TWICE, Generation, Prompt, Suite

_Ids = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**31)], ...],
    BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v),
    Field(min_length=1),
]


#: Tokens of prompts that no model repeats by chance at the beginning of its outputs.
_NO_CHANCE = 8


class PlainPrompt(BaseModel):
    """A list that any other tool can write: token ids of prompt and output."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    prompt_token_ids: _Ids
    token_ids: _Ids


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
        path: a recording, or a JSON list of ``{"prompt_token_ids",
            "token_ids"}``. A plain list holds no logits, so its best verdict
            is INCONCLUSIVE.
        spec: where to judge; without a dtype in the recording's own.
        oracle, controls: leave out for speed; the verdict says less.

    Raises:
        FormatError: if the file is neither, or holds one prompt twice.
        EmptyComparison: if the list is empty.
        HarnessError: errors of the model or the device.
    """
    content = jsonfile.parse_any(path)
    if isinstance(content, list):
        tokens = _plain(content, path)
        plan = Plan(spec, _plain_suite(path, tokens), Path(), _context(tokens))
        baseline = arms_in_memory(plan, progress, oracle=oracle, controls=controls)
        outputs = {_name(i): p.token_ids for i, p in enumerate(tokens)}
        return compare_tokens(outputs, baseline, file=path.as_posix())
    if not isinstance(content, dict) or content.get("schema") not in SCHEMAS:
        raise FormatError(
            str(path),
            None,
            'is neither a recording nor a list of {"prompt_token_ids", "token_ids"}',
        )
    recording = _own_runs(load_recording(path))
    context = Context.of(recording)
    _refuse_repeats(list(context.tokens), context.tokens.values(), path)
    spec = replace(spec, dtype=spec.dtype or recording.dtype)
    plan = Plan(spec, _suite(recording), Path(), context)
    baseline = arms_in_memory(plan, progress, oracle=oracle, controls=controls)
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


def _refuse_repeats(names: Sequence[str], tokens: Iterable[object], path: Path) -> None:
    """Check that no prompt appears twice with one output: the judgement takes
    prompts for independent samples.

    Raises:
        FormatError: naming both.
    """
    seen: dict[object, str] = {}
    for name, pair in zip(names, tokens, strict=True):
        if pair in seen:
            problem = f"holds the same prompt and output as {seen[pair]}, {TWICE}; remove one"
            raise FormatError(str(path), name, problem)
        seen[pair] = name


def _plain(content: list[object], path: Path) -> list[PlainPrompt]:
    if not content:
        raise EmptyComparison(f"{path}: the list is empty, so there is nothing to judge")
    prompts = []
    for index, item in enumerate(content):
        try:
            prompts.append(PlainPrompt.model_validate(item))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise FormatError(str(path), f"[{index}].{field}", first["msg"].lower()) from error
    pairs = [(p.prompt_token_ids, p.token_ids) for p in prompts]
    _refuse_repeats([f"[{index}]" for index in range(len(pairs))], pairs, path)
    _refuse_prompts_in_front(prompts, path)
    return prompts


def _refuse_prompts_in_front(prompts: Sequence[PlainPrompt], path: Path) -> None:
    """Check that the outputs do not begin with their prompts, as those of
    Transformers' generate do: the prompts would be judged as what the model chose.

    Raises:
        FormatError: if every output does.
    """
    told = [p for p in prompts if len(set(p.prompt_token_ids)) > 1]
    in_front = [p.token_ids[: len(p.prompt_token_ids)] == p.prompt_token_ids for p in prompts]
    if all(in_front) and sum(len(p.prompt_token_ids) for p in told) >= _NO_CHANCE:
        problem = (
            "begins with its own prompt_token_ids, as every output of this file does; leave the "
            "prompts out of token_ids"
        )
        raise FormatError(str(path), "[0].token_ids", problem)


def _plain_suite(path: Path, tokens: list[PlainPrompt]) -> Suite:
    prompts = tuple(
        Prompt(id=_name(i), line=0, token_ids=p.prompt_token_ids) for i, p in enumerate(tokens)
    )
    longest = max(len(p.token_ids) for p in tokens)
    generation = Generation(longest, ignore_eos=True)
    return Suite(path.stem, path, prompts, generation, digest="", given=True)


def _context(tokens: list[PlainPrompt]) -> Context:
    return Context(
        "tokens", {_name(i): (p.prompt_token_ids, p.token_ids) for i, p in enumerate(tokens)}
    )


def _name(index: int) -> str:
    return f"prompt-{index + 1}"
