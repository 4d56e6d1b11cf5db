"""``harness checkpoint``: inspect, fix-config, verify-ternary, fuse."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import MODEL_HELP
from harness.cli.say import say, say_json
from harness.errors import UsageError
from harness.process.progress import Progress

if TYPE_CHECKING:
    from harness.checkpoint.findings import Inspection
    from harness.checkpoint.verify import TernaryReport
    from harness.model.model import Model

app = typer.Typer(
    help="Check that a checkpoint is what it says it is; correct its config, fuse ternary weights.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_HeadDim = Annotated[
    int | None,
    typer.Option(
        "--head-dim", min=1, help="Size of an attention head, if the weights do not determine it."
    ),
]


@app.command()
def inspect(
    model: _Model,
    values: Annotated[
        bool,
        typer.Option(
            "--values", help="Also read every weight: what is not finite, and tensors of zeros."
        ),
    ] = False,
    head_dim: _HeadDim = None,
    load: Annotated[
        bool,
        typer.Option(
            help="Where Transformers is installed, also build its class without memory and hold "
            "each key against it; takes some seconds."
        ),
    ] = True,
    json: _Json = False,
) -> None:
    """Hold config.json, weights and tokenizer against each other.

    Reads headers only. Ends with status 1 when something is wrong. A GGUF file, or a folder of
    its parts, is held against itself.

    Example:  harness checkpoint inspect ./BitCPM4-CANN-1B
    """
    from harness.checkpoint.gguf import gguf_files, inspect_gguf
    from harness.checkpoint.inspect import inspect as look
    from harness.model.find import find_model

    note = _note if values else None
    packed = gguf_files(Path(model).expanduser())
    if packed:
        inspection = inspect_gguf(packed)
    else:
        found = find_model(model, progress=_note)
        inspection = look(found, head_dim=head_dim, values=values, progress=note)
        if load:
            inspection = _with_load(inspection, found)
    if json:
        say_json(inspection.as_json())
    else:
        for line in _inspection_lines(inspection):
            say(line)
    raise typer.Exit(0 if inspection.ok else 1)


def _with_load(inspection: Inspection, model: Model) -> Inspection:
    """The inspection with what Transformers' own class finds."""
    from harness.devices.hf.skeleton import load_skeleton

    loaded = load_skeleton(model, quantized=inspection.quantization is not None)
    more = () if loaded.checked is None else (loaded.checked,)
    return replace(
        inspection,
        findings=(*inspection.findings, *loaded.findings),
        checked=(*inspection.checked, *more),
        not_checked=(*inspection.not_checked, *([loaded.why_not] if loaded.why_not else [])),
    )


@app.command("fix-config")
def fix_config(
    model: Annotated[str, typer.Argument(help="A directory with a checkpoint.")],
    head_dim: _HeadDim = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the change and write nothing.")
    ] = False,
) -> None:
    """Correct the fields of config.json that the weights determine.

    Keeps a backup beside it and touches no other key. Refuses when the
    weights do not determine a value.

    Example:  harness checkpoint fix-config ./BitCPM4-CANN-1B
    """
    from harness.checkpoint.fix import fix_config as write
    from harness.checkpoint.fix import plan_changes
    from harness.checkpoint.inspect import inspect as look
    from harness.model.find import find_model

    if not Path(model).expanduser().is_dir():
        raise UsageError(
            f"{model} is not a local directory; fix-config changes a local config.json only"
        )
    inspection = look(find_model(model), head_dim=head_dim)
    changes = plan_changes(inspection)
    for change in changes:
        old = "absent" if change.old is None else jsonlib.dumps(change.old)
        say(f"{change.name}: {old} -> {jsonlib.dumps(change.new)}")
    if not changes:
        say("config.json agrees with the weights; nothing to change")
    elif dry_run:
        say("nothing was written (--dry-run)")
    else:
        backup = write(Path(inspection.folder), changes)
        say(f"written: {Path(inspection.folder) / 'config.json'}; before: {backup.name}")
    for finding in inspection.findings:
        if finding.severity == "error":
            say(f"not corrected by this command: {finding.what}")


@app.command("verify-ternary")
def verify_ternary(model: _Model, json: _Json = False) -> None:
    """Find each linear's group size from its values: latent, fused, or neither.

    Ends with status 0 when all are fused once, else 1.

    Example:  harness checkpoint verify-ternary ./BitCPM4-CANN-1B
    """
    from concurrent.futures import ThreadPoolExecutor

    from harness.checkpoint.headers import read_headers
    from harness.checkpoint.inspect import plain_tensors
    from harness.checkpoint.ternary import is_quantized_name
    from harness.checkpoint.verify import verify_tensor
    from harness.model.find import find_model

    folder = Path(find_model(model, progress=_note).path)
    tensors = [t for t in plain_tensors(read_headers(folder))[0] if is_quantized_name(t.name)]
    if not tensors or any(len(t.shape) != 2 or not t.elements for t in tensors):
        raise UsageError(f"{folder}: no matrices of a Llama's layers, or empty ones")
    size = sum(t.nbytes for t in tensors)
    stage = Progress().stage("reading", size, in_bytes=True)
    with stage as step, ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda t: verify_tensor(t, step), tensors))
    if json:
        say_json(_ternary_json(reports))
    else:
        for line in _ternary_lines(reports):
            say(line)
    raise typer.Exit(0 if all(r.state == "fused" for r in reports) else 1)


@app.command()
def fuse(
    input_dir: Annotated[
        str, typer.Option("--input_dir", "--input-dir", help="Folder of the training checkpoint.")
    ],
    output_dir: Annotated[
        Path, typer.Option("--output_dir", "--output-dir", help="Folder to create for the result.")
    ],
    group_size: Annotated[
        int,
        typer.Option(
            "--group-size",
            "--group_size",
            help="How many weights share a scale; -1 for a whole row.",
        ),
    ] = -1,
    head_dim: _HeadDim = None,
) -> None:
    """Quantization-aware training weights to the inference form, in bfloat16.

    The output appears whole or not at all.

    Example:  harness checkpoint fuse --input_dir QAT --output_dir FUSED --group-size 64
    """
    from harness.checkpoint.fuse import check_output
    from harness.checkpoint.fuse import fuse as write
    from harness.checkpoint.fuse_plan import plan_fuse
    from harness.model.find import find_model

    check_output(output_dir)
    plan = plan_fuse(find_model(input_dir), output_dir, group_size, head_dim=head_dim)
    for what, names in (("left out", plan.dropped), ("config.json: corrected", plan.removed)):
        if names:
            shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if names[6:] else "")
            say(f"{what}: {shown}")
    with Progress().stage("fusing", plan.input_bytes, in_bytes=True) as step:
        done = write(plan, step)
    scale = "one scale a row" if group_size == -1 else f"groups of {group_size}"
    say(f"{done.output}: {done.quantized} linears fused, {scale}; {done.bytes / 2**30:.2f} GiB")


def _note(text: str) -> None:
    say(text, err=True)


def _inspection_lines(inspection: Inspection) -> Iterator[str]:
    packed = inspection.quantization == "GGUF"
    known = "" if inspection.known_as or packed else " (not among the families that are known)"
    yield f"{inspection.folder}: {inspection.family}{known}, {inspection.tensors} tensors"
    dtypes = ", ".join(
        f"{name} {count / 2**30:.2f} GiB" for name, count in inspection.dtypes.items()
    )
    yield f"{inspection.parameters:,} parameters, {inspection.bytes / 2**30:.4f} GiB ({dtypes})"
    if inspection.kv_bytes_per_token is not None:
        yield f"KV cache: {inspection.kv_bytes_per_token:,} bytes per token"
    if inspection.quantization is not None:
        yield f"quantized: {inspection.quantization}"
    if inspection.same_shapes_as:
        yield f"shapes: those of {inspection.same_shapes_as}"
    if inspection.fields:
        yield ""
        rows = [("field", "its keys" if packed else "config.json", "weights", "", "")]
        words = {"unknown": "cannot be told"}
        for field in inspection.fields:
            stated, true = _shown(field.config), _shown(field.weights)
            rows.append(
                (field.name, stated, true, words.get(field.status, field.status), field.note)
            )
        yield from _table(rows)
    yield ""
    if inspection.copied_from:
        yield f"wrong: config.json is that of {inspection.copied_from}"
    for finding in inspection.findings:
        remedy = f" ({finding.remedy})" if finding.remedy else ""
        yield f"{finding.severity}: {finding.what}{remedy}"
    wrong = [field.name for field in inspection.wrong]
    if wrong:
        yield f"{len(wrong)} fields are wrong: {', '.join(wrong)}"
        if inspection.known_as is not None and not inspection.within:
            yield f"mend them: harness checkpoint fix-config {inspection.folder}"
    if inspection.not_checked:
        yield f"not checked: {', '.join(inspection.not_checked)}"
    yield f"checked: {', '.join(inspection.checked)}"
    yield "something is wrong" if not inspection.ok else "nothing is wrong in what was checked"


def _ternary_json(reports: Sequence[TernaryReport]) -> dict[str, Any]:
    from dataclasses import asdict

    return {"schema": "harness.ternary/1", "tensors": [asdict(r) for r in reports]}


def _ternary_lines(reports: Sequence[TernaryReport]) -> Iterator[str]:
    rows = [("tensor", "state", "group", "zeros", "scales: least, middle, largest", "")]
    for r in reports:
        scales = "" if r.scales is None else ", ".join(f"{s:.4g}" for s in r.scales)
        group = "" if r.group_size is None else _group(r)
        rows.append((r.name, r.state, group, f"{r.zeros:.1%}", scales, r.note))
    yield from _table(rows)
    yield ""
    states: dict[str, int] = {}
    for r in reports:
        key = r.state if r.group_size is None else f"{r.state}, group size {_group(r)}"
        states[key] = states.get(key, 0) + 1
    for key, count in states.items():
        yield f"{count} of {len(reports)} linears: {key}"


def _group(report: TernaryReport) -> str:
    return "row" if report.group_size == report.shape[-1] else str(report.group_size)


def _shown(value: Any) -> str:
    return "-" if value is None else jsonlib.dumps(value)


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
