"""`harness compare` and `harness verify`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness.cli.options import (
    AllowDtype,
    AllowWeights,
    Device,
    Dtype,
    Lang,
    ModelName,
    Table,
    Trust,
)
from harness.cli.outputs import tell_and_write
from harness.devices.kinds import REFERENCE_DEVICE
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.alignment.allow import Allow
    from harness.alignment.result import Alignment
    from harness.report.outputs import Outputs


def compare(
    candidate: Annotated[Path, typer.Argument(help="A recording, or a plain list of tokens.")],
    baseline: Annotated[
        Path,
        typer.Argument(help="A baseline folder, another recording, or a plain list of tokens."),
    ],
    json: Annotated[Path | None, typer.Option(help="Write the alignment to this file.")] = None,
    report: Annotated[
        list[Path] | None, typer.Option(help="Write a report: .html, .md or .json. Repeatable.")
    ] = None,
    table: Table = None,
    lang: Lang = None,
    allow_weights: AllowWeights = False,
    allow_dtype: AllowDtype = False,
    magnify: Annotated[
        Path | None,
        typer.Option(
            help="The candidate's recording in float16, for the float16 baseline beside "
            "BASELINE; only warns."
        ),
    ] = None,
) -> None:
    """Compare a candidate with a baseline and judge whether they align.

    Against a single recording, only BIT_EXACT or INCONCLUSIVE is possible. A plain list is what
    any other tool writes: a JSON list, or JSON lines, of {"prompt", "token_ids"}. It holds no
    logits, so it is never aligned: equal tokens per prompt are listed.

    Example:  harness compare npu.json baselines/smollm2/mixed/bfloat16 --report npu.html
    """
    from harness.alignment.allow import Allow
    from harness.report.outputs import Outputs

    outputs = Outputs(json, tuple(report or ()), table, lang)
    outputs.check([candidate, baseline, magnify])
    alignment = _compare(candidate, baseline, Allow(allow_weights, allow_dtype), magnify)
    _finish(alignment, outputs)


def _compare(candidate: Path, baseline: Path, allow: Allow, magnify: Path | None) -> Alignment:
    """The alignment, with the command that repeats it."""
    from harness.api import compare as judge

    alignment = judge(candidate, baseline, allow_weights=allow.weights, allow_dtype=allow.dtype)
    flags = allow.options()
    if magnify is not None and alignment.tokens is not None:
        raise UsageError("--magnify needs a recording and a baseline; a plain list has no logits")
    if magnify is not None:
        from harness.session.magnifier import with_magnifier

        alignment = with_magnifier(alignment, magnify, baseline, allow=allow)
        flags += ["--magnify", magnify.as_posix()]
    command = shlex.join(["harness", "compare", candidate.as_posix(), baseline.as_posix(), *flags])
    return alignment.model_copy(update={"reproduce": (command,)})


def verify(
    recording: Annotated[
        Path,
        typer.Argument(
            help='A recording, or a plain list of {"prompt_token_ids" or "prompt", "token_ids"}.'
        ),
    ],
    device: Device = REFERENCE_DEVICE,
    model: ModelName = "smollm2",
    dtype: Dtype = None,
    oracle: Annotated[bool, typer.Option(help="Also run the float32 oracle.")] = True,
    controls: Annotated[bool, typer.Option(help="Also run the controls.")] = True,
    json: Annotated[Path | None, typer.Option(help="Write the alignment to this file.")] = None,
    report: Annotated[
        list[Path] | None, typer.Option(help="Write a report: .html, .md or .json. Repeatable.")
    ] = None,
    table: Table = None,
    lang: Lang = None,
    trust_remote_code: Trust = False,
) -> None:
    """Judge a recording by one forced-prefill pass per prompt on this device.

    Minutes instead of hours: every position is judged without generating a
    token. Without the controls the best verdict is INCONCLUSIVE.

    Example:  harness verify npu.json --device hf-cpu --model ./BitCPM4-CANN-1B
    """
    from harness.alignment.verify import verify_file
    from harness.devices.spec import DeviceSpec
    from harness.process.progress import Progress
    from harness.report.outputs import Outputs

    outputs = Outputs(json, tuple(report or ()), table, lang)
    outputs.check([recording])
    spec = DeviceSpec(device, model, dtype, trust_remote_code=trust_remote_code)
    alignment = verify_file(recording, spec, oracle=oracle, controls=controls, progress=Progress())
    _finish(alignment, outputs)


def _finish(alignment: Alignment, outputs: Outputs) -> NoReturn:
    """Print the outcome, write the requested files, end with the verdict's status."""
    from harness.alignment.outcomes import exit_status
    from harness.report.summary import summary_lines

    tell_and_write(summary_lines(alignment, outputs.language), outputs.writers(alignment))
    outputs.summarize(alignment)
    raise typer.Exit(exit_status(alignment.verdict))
