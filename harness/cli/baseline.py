"""``harness baseline``: make, list, show, diff, prune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    DetailName,
    Device,
    Dtype,
    EngineArgs,
    MaxNewTokens,
    ModelName,
    OracleWeights,
    SuiteName,
    Trust,
)
from harness.cli.say import say
from harness.devices.kinds import REFERENCE_DEVICE
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.baseline.baseline import Baseline
    from harness.devices.memory import Weights
    from harness.process.progress import Progress
    from harness.recording.format import Recording

app = typer.Typer(
    help="Make, list, compare and tidy baselines.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ReferenceWeights = Annotated[
    str,
    typer.Option(
        metavar="auto|memory|stream",
        help="The same for reference and controls; stream needs --context.",
    ),
]
Diagnose = Annotated[
    bool,
    typer.Option(
        "--diagnose",
        help="Also store what `harness diagnose` has of the arms, so that it takes one pass.",
    ),
]
Root = Annotated[Path, typer.Option("--baseline-dir", help="Folder of all baselines.")]


@app.command()
def make(
    device: Device = REFERENCE_DEVICE,
    model: ModelName = "smollm2",
    suite: SuiteName = "mixed",
    dtype: Dtype = None,
    context: Annotated[
        Path | None,
        typer.Option(help="Build the arms around this recording's tokens, by forced-prefill."),
    ] = None,
    max_new_tokens: MaxNewTokens = None,
    baseline_dir: Root = Path("baselines"),
    engine_arg: EngineArgs = None,
    trust_remote_code: Trust = False,
    oracle: OracleWeights = "auto",
    reference: ReferenceWeights = "auto",
    detail: DetailName = "normal",
    diagnose: Diagnose = False,
) -> None:
    """Record reference, oracle and controls; replaces an existing baseline.

    Example:  harness baseline make --device hf-cpu --suite port

    Example:  harness baseline make --model ./Llama-70B --context npu.json --reference stream
    """
    from harness.baseline.make import Plan, make_baseline
    from harness.devices.memory import checked_weights
    from harness.devices.spec import DeviceSpec, parse_detail, parse_engine_args
    from harness.process.progress import Progress
    from harness.recording.context import context_for
    from harness.recording.format import load_recording
    from harness.suite.read import load_suite

    progress = Progress()
    chosen = load_suite(suite, max_new_tokens)
    tokens = None
    if context is not None:
        tokens = context_for(chosen, load_recording(context), context, progress)
    args = parse_engine_args(engine_arg or [])
    spec = DeviceSpec(device, model, dtype, engine_args=args, trust_remote_code=trust_remote_code)
    if diagnose and not spec.kind.needs_model:
        raise UsageError(f"--diagnose asks the model for gradients, and {device} has no model")
    plan = Plan(
        spec,
        chosen,
        baseline_dir,
        context=tokens,
        suite_source=suite,
        oracle=checked_weights("--oracle", oracle),
        reference=checked_weights("--reference", reference),
        detail=parse_detail(detail, spec.kind),
    )
    made = make_baseline(plan, progress)
    arms = ", ".join(name for name, _ in made.arms())
    say(f"{made.folder}: {made.reference.positions} positions; {arms}")
    if diagnose:
        _diagnose(made, model, progress, plan.oracle, trust_remote_code=trust_remote_code)
    say("Approve it by committing it.")


def _diagnose(
    made: Baseline, model: str, progress: Progress, weights: Weights, *, trust_remote_code: bool
) -> None:
    """Store the arms' scores beside them."""
    from harness.devices.spec import DeviceSpec
    from harness.diagnosis.command import store_arms

    spec = DeviceSpec(REFERENCE_DEVICE, model, "float32", trust_remote_code=trust_remote_code)
    file = store_arms(made, spec, progress, weights)
    say(f"{file}: {file.stat().st_size / 1e6:.1f} MB, for `harness diagnose`")


@app.command("list")
def list_(baseline_dir: Root = Path("baselines")) -> None:
    """List the baselines with their arms.

    Ends with status 2 when one of them cannot be used.

    Example:  harness baseline list
    """
    from harness.baseline.folder import find_baselines, load_baseline

    _check_root(baseline_dir)
    folders = find_baselines(baseline_dir)
    if not folders:
        say(f"{baseline_dir}: no baselines")
    broken = 0
    for folder in folders:
        try:
            baseline = load_baseline(folder)
        except HarnessError as error:
            broken += 1
            say(f"{folder.as_posix()}  unusable: {error}")
            continue
        ref = baseline.reference
        arms = ", ".join(name for name, _ in baseline.arms())
        say(
            f"{folder.as_posix()}  {len(ref.prompts)} prompts  {ref.positions} positions  "
            f"{ref.device}  {ref.created}  {arms}"
        )
    raise typer.Exit(HarnessError.exit_status if broken else 0)


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="The folder of one baseline.")],
) -> None:
    """Show what a judgement against this baseline can see: its scope and its power.

    Example:  harness baseline show baselines/smollm2/mixed/bfloat16
    """
    from harness.alignment.power import power_before
    from harness.alignment.scope import alike_warning, scope_of
    from harness.baseline.folder import load_baseline
    from harness.messages.render import render
    from harness.report.views.scope import scope_lines

    baseline = load_baseline(folder)
    reference = baseline.reference
    say(
        f"{folder.as_posix()}: {reference.model.name}, {reference.suite.name}, "
        f"{reference.dtype}, on {reference.device}"
    )
    say("arms: " + ", ".join(name for name, _ in baseline.arms()))
    scope = scope_of(None, baseline)
    for line in scope_lines(scope, power_before(baseline)):
        say(f"  {line}")
    warning = alike_warning(scope)
    if warning is not None:
        say(f"  warning: {render(warning, 'en')}")


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="A baseline folder or a recording.")],
    second: Annotated[Path, typer.Argument(help="Another baseline folder or recording.")],
) -> None:
    """Show what differs between two baselines: fields, tokens, bits.

    Ends with status 0 when their references hold the same rows, else 1.

    Example:  harness baseline diff baselines/smollm2/port/bfloat16 other.json
    """
    from harness.alignment.comparability import comparability
    from harness.baseline.baseline import Baseline
    from harness.baseline.folder import resolve

    found = [resolve(path) for path in (first, second)]
    mine, theirs = (x.reference if isinstance(x, Baseline) else x for x in found)
    checked = comparability(mine, theirs)
    for field in checked.differences:
        say(f"{field.field}: {field.candidate} -> {field.baseline}")
    for key in sorted(mine.environment.keys() | theirs.environment.keys()):
        a, b = mine.environment.get(key), theirs.environment.get(key)
        if a != b:
            say(f"environment.{key}: {a} -> {b}")
    rows = _differing_rows(mine, theirs)
    say(f"{rows} of {mine.positions} reference rows differ")
    raise typer.Exit(1 if rows or checked.differences else 0)


@app.command()
def prune(
    baseline_dir: Root = Path("baselines"),
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them; without this option they are only listed.")
    ] = False,
) -> None:
    """List (or with --yes remove) baselines of suites that changed, and leftovers.

    Baselines that cannot be read, of a suite that is not in prompts/, and behind a link are
    left. Only recordings of the harness are removed; a folder that holds more stays.

    Example:  harness baseline prune --yes
    """
    from harness.baseline.arm_files import is_linked
    from harness.baseline.folder import find_baselines, leftovers

    _check_root(baseline_dir)
    found = [f for f in find_baselines(baseline_dir) if not is_linked(baseline_dir, f)]
    stale = [(f, why) for f in found if (why := _stale(f))]
    stale += [(f, "left by an interrupted run") for f in leftovers(baseline_dir)]
    for folder, why in stale:
        if yes:
            _remove(folder, why)
        else:
            say(f"would remove {folder.as_posix()}: {why}")
    if not stale:
        say("nothing to prune")
    elif not yes:
        say("give --yes to remove")


def _check_root(root: Path) -> None:
    """A mistyped folder is an error; the default folder may not exist yet."""
    from harness.baseline.folder import DEFAULT_FOLDER

    if root.is_dir() or (root == DEFAULT_FOLDER and not root.exists()):
        return
    problem = "is a file" if root.exists() else "no such folder"
    raise UsageError(f"--baseline-dir {root}: {problem}; name the folder of all baselines")


def _remove(folder: Path, why: str) -> None:
    """Remove the arms of a baseline, and its folder where it holds nothing else."""
    from harness.baseline.arm_files import clear

    try:
        left = clear(folder)
    except OSError as error:
        raise HarnessError(f"{folder}: cannot be removed ({error.strerror})") from error
    say(f"removed {folder.as_posix()}: {why}")
    if left:
        names = ", ".join(path.name for path in left[:3])
        say(f"kept {folder.as_posix()}, which also holds {names}")


def _stale(folder: Path) -> str | None:
    """Why a baseline can no longer match any run, or None.

    What cannot be read (of a newer harness, not fetched yet, damaged) may be good elsewhere,
    and a suite that is not in prompts/ may be a file that ``--suite`` names.
    """
    from harness.baseline.arm_files import arm_path
    from harness.baseline.baseline import REFERENCE
    from harness.errors import FormatError, SuiteError
    from harness.recording.format import load_recording
    from harness.suite.read import load_suite, suite_names

    try:
        reference = load_recording(arm_path(folder, REFERENCE))
        if reference.suite.name not in suite_names():
            return None
        suite = load_suite(reference.suite.name, reference.settings.max_new_tokens)
    except (FormatError, SuiteError):
        return None  # an invalid suite file says nothing about its baselines
    suite = suite.without(reference.suite.left_out or ())
    return None if suite.digest == reference.suite.digest else "its suite has changed"


def _differing_rows(mine: Recording, theirs: Recording) -> int:
    from harness.statistics.rows import same_rows

    rows = 0
    for prompt in mine.prompts:
        other: Any = theirs.prompt(prompt.id)
        ours = prompt.run.rows
        their = None if other is None else other.run.rows
        n = 0 if their is None else min(len(ours), len(their))
        same = 0 if their is None else int(same_rows(ours[:n], their[:n]).sum())
        rows += len(ours) - same
    return rows
