"""``harness locate``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness.cli.options import Device, Dtype, EngineArgs, MaxNewTokens, ModelName, SuiteName, Trust
from harness.cli.outputs import tell_and_write
from harness.devices.kinds import REFERENCE_DEVICE
from harness.errors import printable
from harness.files.outputs import check_outputs

if TYPE_CHECKING:
    from harness.locate.run import LocatePlan


def locate(
    device: Device,
    model: ModelName = "smollm2",
    suite: SuiteName = "mixed",
    dtype: Dtype = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Id of a prompt to replay; repeatable. Default: 8 of the suite."),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Baseline folder or recording whose tokens follow the prompts; by default the "
            "one in --baseline-dir."
        ),
    ] = None,
    baseline_dir: Annotated[Path, typer.Option(help="Folder of all baselines.")] = Path(
        "baselines"
    ),
    reference_device: Annotated[
        str, typer.Option(help="Device on which reference, control and oracle run.")
    ] = REFERENCE_DEVICE,
    reference_model: Annotated[
        str | None, typer.Option(help="The reference's checkpoint, if it is not --model.")
    ] = None,
    max_new_tokens: MaxNewTokens = None,
    engine_arg: EngineArgs = None,
    json: Annotated[Path | None, typer.Option(help="Write the outcome to this file.")] = None,
    alignment: Annotated[
        Path | None,
        typer.Option(help="Add the curve over depth to this alignment; print its diagnosis."),
    ] = None,
    trust_remote_code: Trust = False,
) -> None:
    """Find the first module whose output's error leaves the reference's noise.

    Replays prompts (and the baseline's tokens after them) by prefill on the
    device, and also on Transformers in the same dtype and in float32.
    Ends with status 1 if a module leaves the noise, else with 0.

    Example:  harness locate --device vllm-cpu --suite mixed --json where.json
    """
    from harness.devices.spec import DeviceSpec, parse_engine_args
    from harness.locate.run import LocatePlan
    from harness.suite.read import load_suite

    args = parse_engine_args(engine_arg or [])
    plan = LocatePlan(
        DeviceSpec(device, model, dtype, engine_args=args, trust_remote_code=trust_remote_code),
        load_suite(suite, max_new_tokens),
        prompt_ids=tuple(prompt or ()),
        baseline=baseline,
        root=baseline_dir,
        reference_device=reference_device,
        reference_model=reference_model,
    )
    _locate(plan, json, alignment)


def _locate(plan: LocatePlan, json: Path | None, alignment: Path | None) -> NoReturn:
    """Locate, print and write, and end with the status of the outcome."""
    from harness.alignment.result import load_alignment, save_alignment
    from harness.locate.judge import curve_of
    from harness.locate.result import save_location
    from harness.locate.run import locate as find
    from harness.process.progress import Progress
    from harness.report.location_text import diagnosis_lines, location_lines

    judged = None if alignment is None else load_alignment(alignment)  # before the work
    check_outputs([json, alignment], [plan.baseline, plan.suite.path])
    location = find(plan, Progress())
    writers: dict[Path, Callable[[Path], None]] = {}
    if json is not None:
        writers[json] = partial(save_location, location)
    if judged is not None and alignment is not None:
        with_curve = judged.model_copy(update={"locate": curve_of(location)})
        writers[alignment] = partial(save_alignment, with_curve)
    diagnosis = None if judged is None else judged.diagnosis
    lines = [*location_lines(location), *diagnosis_lines(diagnosis)]
    tell_and_write(map(printable, lines), writers)
    if any(p.status == "UNJUDGED" for p in location.places) and location.module is None:
        raise typer.Exit(3)
    raise typer.Exit(0 if location.module is None else 1)
