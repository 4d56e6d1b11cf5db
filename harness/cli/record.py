"""`harness record`."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    BatchSize,
    DetailName,
    Device,
    Dtype,
    EngineArgs,
    MaxNewTokens,
    ModelName,
    QatGroupSize,
    Repeats,
    ServerUrl,
    ShardName,
    SuiteName,
    Trust,
    with_qat_group_size,
)
from harness.cli.say import say
from harness.errors import UsageError
from harness.files.outputs import check_outputs

if TYPE_CHECKING:
    from harness.devices.spec import DeviceSpec
    from harness.process.progress import Progress
    from harness.recording.context import Context
    from harness.recording.recorder import Options
    from harness.suite.suite import Suite


class ReplayName(str, Enum):
    """``--replay``."""

    free = "free"
    forced_decode = "forced-decode"
    forced_prefill = "forced-prefill"


class LogitsName(str, Enum):
    """``--logits``."""

    statistics = "statistics"
    full = "full"


def record(
    device: Device,
    out: Annotated[Path, typer.Option(help="The recording to write: .json or .json.gz.")],
    model: ModelName = "smollm2",
    suite: SuiteName = "mixed",
    dtype: Dtype = None,
    replay: Annotated[
        ReplayName, typer.Option(help="How tokens are chosen: free, or forced from --context.")
    ] = ReplayName.free,
    context: Annotated[
        Path | None,
        typer.Option(
            help="Recording or baseline folder whose tokens are forced; with "
            "--replay free, prompts that diverge from it are replayed on it."
        ),
    ] = None,
    logits: Annotated[
        LogitsName, typer.Option(help="full also writes every row to a safetensors file.")
    ] = LogitsName.statistics,
    detail: DetailName = "normal",
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = 1,
    engine_arg: EngineArgs = None,
    repeats: Repeats = 0,
    shard: ShardName = None,
    server_url: ServerUrl = None,
    qat_group_size: QatGroupSize = None,
    trust_remote_code: Trust = False,
) -> None:
    """Run a suite on a device and keep token ids, row statistics and timings.

    To continue a killed run, repeat the same command.

    Example:  harness record --device hf-cpu --suite port --out a.json
    """
    from harness.devices.spec import DeviceSpec, parse_detail, parse_engine_args
    from harness.process.progress import Progress
    from harness.suite.read import load_suite

    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file in it")
    chosen = load_suite(suite, max_new_tokens)
    check_outputs([out], [context, chosen.path])
    args = parse_engine_args(with_qat_group_size(engine_arg, qat_group_size))
    spec = DeviceSpec(device, model, dtype, batch_size, args, server_url, trust_remote_code)
    kept = parse_detail(detail, spec.kind)
    progress = Progress()
    options = replace(
        _of_shard(shard, chosen),
        replay=replay.value,
        context=None if context is None else _context(context, chosen, replay, progress),
        full_logits=logits is LogitsName.full,
        repeats=repeats,
        detail=kept,
    )
    _record(spec, chosen, options, out, progress)


def _of_shard(shard: str | None, suite: Suite) -> Options:
    from harness.recording.recorder import Options
    from harness.suite.shard import parse_shard

    if shard is None:
        return Options()
    return Options(prompt_ids=parse_shard(shard).prompts(suite), shard=True)


def _record(
    spec: DeviceSpec, suite: Suite, options: Options, out: Path, progress: Progress
) -> None:
    from harness.devices.registry import open_target
    from harness.recording import recorder

    target = open_target(spec, progress=progress)
    made = recorder.record(
        target.device, target.subject, suite, options, out=out, progress=progress
    )
    what = "texts only" if made.text_only else f"{made.positions} positions"
    say(f"{out}: {len(made.prompts)} prompts, {what} on {spec.device}")


def _context(path: Path, suite: Suite, replay: ReplayName, progress: Progress) -> Context:
    from harness.baseline.baseline import Baseline
    from harness.baseline.folder import resolve
    from harness.recording.context import Context, context_for

    found = resolve(path)
    recording = found.reference if isinstance(found, Baseline) else found
    if replay is ReplayName.free:  # its own tokens come first, in any number
        return Context.of(recording)
    return context_for(suite, recording, path, progress)
