"""`harness diagnose`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    AllowDtype,
    AllowWeights,
    Device,
    Lang,
    ModelName,
    OracleWeights,
    Table,
    Trust,
)
from harness.cli.outputs import tell_and_write
from harness.devices.kinds import REFERENCE_DEVICE

MostPrompts = Annotated[
    int | None,
    typer.Option(
        min=4,
        metavar="N",
        help="Look at N prompts at most, spread over the suite; 128 by default.",
    ),
]


def diagnose(
    recording: Annotated[Path, typer.Argument(help="The candidate's recording.")],
    baseline: Annotated[Path, typer.Argument(help="The baseline folder that it is held against.")],
    model: ModelName = "smollm2",
    device: Device = REFERENCE_DEVICE,
    json: Annotated[Path | None, typer.Option(help="Write the alignment to this file.")] = None,
    report: Annotated[
        list[Path] | None, typer.Option(help="Write a report: .html, .md or .json. Repeatable.")
    ] = None,
    table: Table = None,
    lang: Lang = None,
    allow_weights: AllowWeights = False,
    allow_dtype: AllowDtype = False,
    trust_remote_code: Trust = False,
    oracle: OracleWeights = "auto",
    prompts: MostPrompts = None,
) -> None:
    """Name the change of the model that explains a candidate's error.

    Compares the two as `harness compare` does, then asks the oracle, in float32 on the CPU,
    which change of it would give this error: a setting such as the RoPE base, a scale, a
    head, a rounding. That also finds what hides below the rounding of the dtype. It needs the
    reference's checkpoint and minutes, and nothing of the candidate but its recording.

    Example:  harness diagnose npu.json baselines/smollm2/mixed/bfloat16 --report npu.html
    """
    from harness.alignment.align import compare
    from harness.alignment.allow import Allow
    from harness.alignment.outcomes import exit_status
    from harness.baseline.folder import load_baseline
    from harness.devices.memory import checked_weights
    from harness.devices.spec import DeviceSpec
    from harness.diagnosis.command import diagnosis_of
    from harness.process.progress import Progress
    from harness.recording.format import load_recording
    from harness.report.outputs import Outputs
    from harness.report.summary import summary_lines

    outputs = Outputs(json, tuple(report or ()), table, lang)
    outputs.check([recording, baseline])
    allow, weights = Allow(allow_weights, allow_dtype), checked_weights("--oracle", oracle)
    candidate, arms = load_recording(recording), load_baseline(baseline)
    alignment = compare(candidate, arms, allow=allow, candidate_file=recording.as_posix())
    if alignment.comparability.comparable:
        spec = DeviceSpec(device, model, "float32", trust_remote_code=trust_remote_code)
        found = diagnosis_of(candidate, arms, spec, Progress(), weights, prompts)
        more = [*allow.options(), *_more(prompts, trust_remote_code=trust_remote_code)]
        command = ["harness", "diagnose", recording.as_posix(), baseline.as_posix()]
        command += ["--model", model, *more]
        alignment = compare(
            candidate,
            arms,
            allow=allow,
            candidate_file=recording.as_posix(),
            reproduce=(shlex.join(command),),
            diagnosis=found,
        )
    tell_and_write(summary_lines(alignment, outputs.language), outputs.writers(alignment))
    outputs.summarize(alignment)
    raise typer.Exit(exit_status(alignment.verdict))


def _more(prompts: int | None, *, trust_remote_code: bool) -> list[str]:
    """The options of this command that its answer depends on, and that were given."""
    found = [] if prompts is None else ["--prompts", str(prompts)]
    return [*found, *(["--trust-remote-code"] if trust_remote_code else [])]
