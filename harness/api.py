"""The library: the work of the command and the plugin, as three functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.alignment.align import compare as _compare
from harness.alignment.allow import Allow
from harness.alignment.plain import compare_plain
from harness.alignment.result import Alignment
from harness.baseline.baseline import Baseline
from harness.baseline.folder import resolve
from harness.devices.base import Device, Replay
from harness.devices.kinds import kind_of
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec, parse_detail
from harness.errors import UsageError
from harness.model.subject import Subject
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording, new_shelf
from harness.recording.plain import PlainList, load_either
from harness.recording.recorder import Options
from harness.recording.recorder import record as _record
from harness.recording.shelf import Shelf
from harness.suite.read import load_suite
from harness.suite.suite import Suite

__all__ = ["compare", "load_recording", "record"]


def record(
    device: str | Device,
    model: str | Subject = "smollm2",
    suite: str | Path | Suite = "mixed",
    options: Options | None = None,
    *,
    out: str | Path | None = None,
    dtype: str | None = None,
    replay: Replay = "free",
    context: Recording | None = None,
    detail: str = "normal",
    max_new_tokens: int | None = None,
    batch_size: int = 1,
    engine_args: Mapping[str, str] | None = None,
    trust_remote_code: bool = False,
    server_url: str | None = None,
    progress: Progress | None = None,
) -> Recording:
    """Run a suite on a device and return its recording.

    Args:
        device: as in ``--device`` of ``harness record``, which lists them all; or a device
            of your own, as :mod:`harness.testing` has one.
        model: ``smollm2``, ``gemma3-270m``, a directory, or a Hub name; of a device of your own
            its subject.
        suite: a name in ``prompts/``, a YAML file, or a loaded Suite.
        options: instead of ``replay``, ``context`` and ``detail``: the recorder's own.
        out: also write the recording there.
        dtype: to compute in; None takes the checkpoint's.
        replay: ``free``, or a forced replay of ``context``.
        context: the recording whose tokens are forced; with ``free``,
            prompts that diverge from it are replayed on it.
        detail: how much is kept of each row: ``small``, ``normal`` or ``large``.
        max_new_tokens: instead of the suite's own.
        server_url: of a running server, for ``server``; by default a server is started.
        batch_size: how many requests run at a time (vLLM).

    Raises:
        UsageError: for arguments that do not go together.
        HarnessError: one line that says what is wrong and how to mend it.
    """
    chosen = suite if isinstance(suite, Suite) else load_suite(suite)
    if max_new_tokens is not None:
        chosen = chosen.with_max_new_tokens(max_new_tokens)
    if options is None:
        kept = parse_detail(detail, kind_of(device) if isinstance(device, str) else None)
        asked = None if context is None else Context.of(context)
        options = Options(replay=replay, context=asked, detail=kept)
    elif replay != "free" or context is not None or detail != "normal":
        raise UsageError("options= holds replay, context and detail already; give one or the other")
    if isinstance(device, str) and isinstance(model, str):
        spec = DeviceSpec(
            device, model, dtype, batch_size, engine_args or {}, server_url, trust_remote_code
        )
        target = open_target(spec, progress=progress)
        device, model = target.device, target.subject
    elif isinstance(device, str) or isinstance(model, str):
        raise UsageError("a device of your own goes with its subject, a name with a model's name")
    elif dtype or engine_args or server_url or trust_remote_code or batch_size != 1:
        raise UsageError("a device of your own takes its dtype and arguments when it is made")
    file = None if out is None else Path(out)
    return _record(device, model, chosen, options, out=file, progress=progress)


def compare(
    candidate: Recording | str | Path,
    baseline: Baseline | Recording | str | Path,
    *,
    allow_weights: bool = False,
    allow_dtype: bool = False,
) -> Alignment:
    """Judge a candidate against a baseline folder, or a single recording.

    Either may be a plain list of another tool: prompts and token ids, without logits.

    Raises:
        HarnessError: if a file cannot be read, or nothing can be compared.
    """
    shelf = new_shelf()
    mine = candidate if isinstance(candidate, Recording) else load_either(Path(candidate), shelf)
    theirs = _resolved(baseline, shelf)
    file = "" if isinstance(candidate, Recording) else Path(candidate).as_posix()
    if isinstance(mine, PlainList) or isinstance(theirs, PlainList):
        other = Path(baseline).as_posix() if isinstance(baseline, str | Path) else ""
        return compare_plain(mine, theirs, file=file, baseline_file=other)
    return _compare(mine, theirs, allow=Allow(allow_weights, allow_dtype), candidate_file=file)


def _resolved(
    baseline: Baseline | Recording | str | Path, shelf: Shelf
) -> Baseline | Recording | PlainList:
    if isinstance(baseline, Baseline | Recording):
        return baseline
    path = Path(baseline)
    return resolve(path, shelf) if path.is_dir() else load_either(path, shelf)
